"""`python -m faultline.networks`: writes the layers of the built-in networks anew."""

from faultline.networks.facts import BUILTIN_FILE
from faultline.networks.inspect import catalogue_text

BUILTIN_FILE.write_text(catalogue_text(), encoding="utf-8")
