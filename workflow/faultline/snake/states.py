"""States of files, which tell without reading them whether they were written to, and digests that
are remembered by them. No torch."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from faultline.base.files import digest, save_text

WRITTEN = ("st_size", "st_mtime_ns")
"""Changes when a file is written to, for whoever sees it, on this machine or another."""
REPLACED = (*WRITTEN, "st_ino")
TOUCHED = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
"""The time of the inode cannot be set back; it tells of links, too."""

LARGE = 1e6  # bytes; smaller files are read each time
QUIET = 2e9  # ns; a file that changed within them may change again without its times telling


def state(path, of: Sequence[str] = TOUCHED) -> list[int] | None:
    """Some facts of a file; None where it is not there."""
    with suppress(OSError):
        status = Path(path).stat()
        return [getattr(status, name) for name in of]
    return None


def remembered(path: Path, folder: Path) -> str:
    """The digest of a file; of a large one, from the last time unless it was written to since, as
    marks in a folder tell."""
    now, before = time.time_ns(), state(path)
    if before is None or before[0] < LARGE:
        return digest(path)
    mark = mark_of(path, "digests", folder)
    with suppress(OSError, ValueError, TypeError):
        *known, sha256 = json.loads(mark.read_text(encoding="utf-8"))
        if known == before and isinstance(sha256, str):
            return sha256
    sha256 = digest(path)
    if max(before[1:3]) < now - QUIET and state(path) == before:
        with suppress(OSError):  # it will be read again
            save_text(json.dumps([*before, sha256]), mark, durable=False)
    return sha256


def mark_of(path, kind: str, folder: Path) -> Path:
    """Where a folder has a mark of some kind on a file."""
    name = hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()
    return folder / f".{kind}" / name
