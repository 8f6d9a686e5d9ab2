"""The config, checked by all studies too."""

from importlib import import_module
from importlib.util import find_spec

from faultline.config import sense
from faultline.studies.order import STUDIES


def resolve(config: dict, schema: dict, *, alone: bool = True) -> dict:
    """The config with every default filled in; UserError with one line where it makes no sense.

    alone: whether nothing but runs may be in the folder of the results."""
    names = [f"faultline.studies.{study}.config" for study in STUDIES]
    modules = [import_module(name) for name in names if find_spec(name)]
    checks = [module.check for module in modules]
    prober = "faultline.studies.probing"
    return sense.resolve(config, schema, studies=checks, prober=prober, alone=alone)
