"""Seeds that follow from what they are for, so that no two purposes share one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def seed_of(*parts: object) -> int:
    """A 63-bit seed from the words and numbers that say what it is for, e.g. ("order", 0, 3)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """torch's global random numbers, seeded by `seed_of` inside the block and as before after it.

    For code that is not ours; ours draws from generators.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed_of(*parts))
        yield
