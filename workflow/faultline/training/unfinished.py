"""Work that goes on where it was interrupted, if it still begins from the same things."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from faultline.base.errors import UserError
from faultline.base.files import Location, load_tensors, save_tensors


class Unfinished:
    """The last state of the work on a file, kept beside it while the work goes on.

    output: the file. settings: what else than files the work begins from, told apart by how it is
    written. files: what it reads, told apart by content.
    """

    def __init__(self, output: Location, settings: Iterable[object], *, files: Iterable[Location]):
        self.path = Path(f"{output}.partial")
        identity = hashlib.sha256(" ".join(map(str, settings)).encode())
        for path in files:
            with Path(path).open("rb") as file:
                identity.update(hashlib.file_digest(file, "sha256").digest())
        self.identity = identity.hexdigest()

    def load(self, *, device: str | torch.device = "cpu") -> dict[str, Any] | None:
        """The state that was saved last; None where there is none that can be read, or where it
        began from other things."""
        if not self.path.exists():
            return None
        try:
            state = load_tensors(self.path, "unfinished work", device=device, sums=True)
        except UserError as error:
            print(f"cannot resume, starting again: {error}")
            return None
        return state if state.pop("identity", None) == self.identity else None

    def save(self, state: Mapping[str, Any]) -> None:
        """state: tensors and plain values by name."""
        save_tensors({**state, "identity": self.identity}, self.path)

    def discard(self) -> None:
        """Forget the state that was saved."""
        self.path.unlink(missing_ok=True)
