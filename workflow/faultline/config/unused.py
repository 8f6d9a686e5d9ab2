"""Keys of the config that mean nothing beside what else is given. No torch."""

from faultline.base.errors import UserError
from faultline.config.fields import OnlyFor, Section, keys


def check_unused(config: Section) -> None:
    """UserError for a key that says something else than its default where nothing asks for it."""
    for key in keys(config):
        mark = key.marked(OnlyFor)
        default = key.field.get_default(call_default_factory=True)
        if mark and getattr(key.holder, key.name) != default and not mark.fits(key.whole):
            raise UserError(f"config key {key.where}: is for {mark.what} only; leave it out")
