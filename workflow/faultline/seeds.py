"""Seeds that follow from what they are for, so that no two purposes share one."""

import hashlib


def seed_of(*parts) -> int:
    """A 63-bit seed from the words and numbers that say what it is for, e.g. ("order", 0, 3)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
