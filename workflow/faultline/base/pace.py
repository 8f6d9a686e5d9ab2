"""How many images this process has put through networks, which a job tells of itself."""

_passed = [0]


def passed(images: int) -> None:
    """Count the forward passes of some images; in a sweep, each image judged under each variant."""
    _passed[0] += images


def images() -> int:
    """How many images there were so far, see `passed`."""
    return _passed[0]
