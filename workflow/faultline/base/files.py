"""Reading and writing files: whole or not at all, never executing what is read."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import mmap
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from faultline.base.columns import NAMES
from faultline.base.errors import UserError, nearest, some

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

Location = str | os.PathLike[str]
"""Where a file is, or is to be."""


@contextmanager
def atomic(path: Location, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, of a name that no other process takes, which takes its place
    when the block ends without an error: where `durable`, on the disk first, so that no loss of
    power leaves half a file. An OSError names `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.writing")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some file systems sync no folders
            if durable:
                _sync(path.parent)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(path: Location) -> None:
    """Remove what processes left that were killed while they wrote `path`."""
    path, end = Path(path), ".writing"
    begin = f".{path.name}."
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(path.parent) as entries:
        for entry in entries:
            random = entry.name.removeprefix(begin).removesuffix(end)
            if entry.name == f"{begin}{random}{end}" and re.fullmatch("[0-9a-f]{8}", random):
                Path(entry).unlink(missing_ok=True)


def open_in_place(path: Location) -> TextIO:
    """The file of that name, made where there is none, as text to read and write: nothing in it is
    changed, and no link is followed. OSError, also where something else stands there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for a reader
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            error.strerror = "it is a link"
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(handle, "r+", encoding="utf-8")


def private_folder(path: Location) -> Path:
    """A folder that is this user's alone, made where there is none; OSError where what is there is
    anything else, such as one that another user made in a shared place."""
    path = Path(path)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(errno.EPERM, "it is no folder of this user's alone", str(path))
    return path


def digest(path: Location) -> str:
    """Hexadecimal sha256 of a file; of a folder, of the names in it."""
    if Path(path).is_dir():
        names = sorted(entry.name for entry in Path(path).iterdir())
        return hashlib.sha256("/".join(names).encode()).hexdigest()
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(content: Mapping[str, Any], path: Location) -> None:
    """Write a dict of tensors and plain values; the same content gives the same bytes."""
    import torch

    buffer = io.BytesIO()  # saved under a path, the file would carry the temporary name
    torch.save(_interned(content), buffer)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _interned(value: object) -> object:
    """Equal texts made one object. Pickle writes an object once and then refers to it, so the bytes
    would otherwise tell a resumed training from one that ran through."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_interned(key): _interned(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_interned(part) for part in value]
    return value


_ANEW = "delete it and run again to make it anew"


def load_tensors(
    path: Location,
    what: str,
    *,
    keys: Collection[str] = (),
    device: str | torch.device = "cpu",
    remedy: str = _ANEW,
    sums: bool = False,
    mapped: bool = False,
) -> dict[str, Any]:
    """Read what `save_tensors` wrote. `what` says what the file should hold, with `keys` among
    others, and `remedy` what to do where it does not, for the error. sums: hold each part against
    the checksum that the file states, at which torch does not look. mapped: on a CPU, read each
    tensor from the file when it is looked at, so that the others take no memory.

    Raises UserError when the file is missing, truncated, damaged, carries anything but data, or
    lacks a key.
    """
    import pickle

    import torch

    if sums and (part := _wrong_part(path)):
        raise UserError(f"{path}: damaged, its part {part} does not fit its checksum; {remedy}")
    how: dict[str, Any] = {"map_location": device, "weights_only": True}
    try:
        mapped = mapped and torch.device(device).type == "cpu"
        content: dict[str, Any] = _mapped(path, how) if mapped else torch.load(path, **how)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {what}; run the workflow again") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: refused, expected {what} as plain tensors, but it is damaged or carries "
            f"code; {remedy}"
        ) from None
    except (
        *(OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError),
        *(AssertionError, ArithmeticError, struct.error),
    ):
        raise UserError(
            f"{path}: cannot be read, expected {what}; it is truncated or not such a file; {remedy}"
        ) from None
    if lacking := [key for key in keys if not (isinstance(content, dict) and key in content)]:
        raise UserError(f"{path}: holds no {some(lacking, 3)}, expected {what}; {remedy}")
    return content


def _mapped(path: Location, how: Mapping[str, Any]) -> dict[str, Any]:
    """What `save_tensors` wrote, read from the file when it is looked at; how: as torch.load takes
    it. What is larger than the
    memory of the machine is mapped as the file itself, and what writes to it ends the process."""
    import torch

    from faultline.base.memory import protect

    content: dict[str, Any]
    try:
        content = torch.load(path, **how, mmap=True)
    except RuntimeError as error:
        if "unable to mmap" not in str(error):
            raise
        with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
            content = torch.load(path, **how, mmap=True)
        for value in content.values():
            if isinstance(value, torch.Tensor):
                protect(value)
    return content


USUAL = ("state_dict", "model_state_dict", "model", "network")
"""What a state dict is called in a file that holds more; the last by our checkpoints."""


def load_state_dict(path: Location, key: str | None = None) -> dict[str, torch.Tensor]:
    """Name -> tensor from a user's .safetensors file, or from one of torch.save.

    The latter is a state dict, or holds one under a name of `USUAL`; key: the name of the one that
    is meant, for any other and where there are several, as of a moving average; with dots where it
    lies deeper. The prefix "module." of parallel training, or of torch's AveragedModel, is dropped.
    Raises UserError when it is anything else, or holds several and key is None.
    """
    what, remedy = "a state dict", "save the network's state_dict() alone"
    content = _weights(path, what, remedy)

    def asked(name: str) -> str:
        return f"weights: {{NETWORK: {{file: {path}, key: {name}}}}}"

    dicts = _state_dicts(content)
    if key is not None and [*dicts] == [""]:
        raise UserError(f"{path}: is one state dict, with none under {key!r}; leave out key")
    if key is not None and dicts and key not in dicts:
        raise UserError(f"{path}: there is no state dict under {key!r}; {nearest(key, dicts)}")
    if key is None and len(dicts) > 1:
        raise UserError(
            f"{path}: holds several state dicts, {some(dicts)}; say which one is meant, as in "
            f"{asked([*dicts][-1])}"
        )
    chosen = next(iter(dicts), "") if key is None else key
    if not dicts or (key is None and chosen not in ("", *USUAL)):
        parts: dict[str, Any] = content if isinstance(content, dict) else {}
        inner = next((parts[name] for name in USUAL if isinstance(parts.get(name), dict)), content)
        holds = (
            ", ".join(map(str, [*inner][:5])) if isinstance(inner, dict) else type(inner).__name__
        )
        raise UserError(
            f"{path}: expected {what} of names and tensors, plain or under state_dict or model, "
            f"but it holds {holds or 'nothing'}; {remedy}"
            + (f", or say {asked(chosen)}" if dicts else "")
        )
    state = dicts[chosen]
    names = [name for name in state if name != "n_averaged"]  # a count of AveragedModel
    if names and all(name.startswith("module.") for name in names):
        return {name.removeprefix("module."): state[name] for name in names}
    return state


def _weights(path: Location, what: str, remedy: str) -> dict[str, Any]:
    """What a file of weights holds, or all that the index of one in shards names."""
    if str(path).endswith(".index.json"):
        folder, content = Path(path).parent, dict[str, Any]()
        try:
            index = json.loads(Path(path).read_text(encoding="utf-8"))
            shards = {*map(str, index["weight_map"].values())}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise UserError(
                f"{path}: cannot be read, expected the index of {what} in shards; {remedy}"
            ) from None
        for shard in sorted(shards):
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise UserError(f"{path}: names {shard}, which is not beside it; add that file")
            content |= _weights(folder / shard, what, remedy)
        return content
    if Path(path).suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: cannot be read, expected {what} ({error}); {remedy}"
            ) from None
    if _is_torchscript(path):
        raise UserError(
            f"{path}: is TorchScript, which is code, expected {what}; save its weights alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
        )
    return load_tensors(path, what, remedy=remedy, sums=True)


def _is_torchscript(path: Location) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/constants.pkl") for name in file.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _state_dicts(
    content: object, above: tuple[str, ...] = ()
) -> dict[str, dict[str, torch.Tensor]]:
    """Name -> what may be the weights of a network in what a file holds: dicts of tensors by name,
    some of floats. What is deeper has dots in its name, and the file itself is ""."""
    import torch

    if not isinstance(content, dict) or len(above) > 4:
        return {}
    named = all(isinstance(name, str) for name in content)
    tensors = [part for part in content.values() if isinstance(part, torch.Tensor)]
    if content and named and len(tensors) == len(content):
        floats = any(tensor.is_floating_point() for tensor in tensors)
        return {".".join(above): content} if floats or not above else {}
    inside: dict[str, dict[str, torch.Tensor]] = {}
    for name, part in content.items():
        # what an optimiser holds are no weights
        if isinstance(name, str) and not name.startswith("optim"):
            inside |= _state_dicts(part, (*above, name))
    return inside


def _wrong_part(path: Location) -> str | None:
    """The first part of a zip file, as torch writes them, with another checksum than is stated;
    None where all are right, or where it is no such file."""
    import struct
    import zipfile
    import zlib

    unreadable = (OSError, ValueError, RuntimeError, EOFError, LookupError)
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip()
    except (*unreadable, struct.error, zlib.error, zipfile.BadZipFile):
        return None


def save_arrays(arrays: Mapping[str, np.ndarray], path: Location) -> None:
    """Write NumPy arrays as one compressed .npz file."""
    import numpy as np

    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # none is its allow_pickle


def load_arrays(path: Location) -> dict[str, np.ndarray]:
    """Read a .npz file. Raises UserError when it is missing or damaged."""
    import zipfile
    import zlib

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the workflow again") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
    ):
        raise UserError(
            f"{path}: cannot be read, expected arrays (.npz); it is truncated or not such a file; "
            "delete it and run again to make it anew"
        ) from None


def save_table(table: pd.DataFrame, path: Location) -> None:
    """Write a pandas DataFrame as tab-separated values; NaN is written as `nan`."""
    with atomic(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="nan", lineterminator="\n")


_FORMULA = re.compile(r"[=+\-@\uff1d\uff0b\uff0d\uff20].")
"""How a text begins that a spreadsheet would compute."""


def with_texts(table: pd.DataFrame, write: Callable[[str], str]) -> pd.DataFrame:
    """The table with its texts written otherwise; numbers stay what they are."""
    from pandas.api.types import is_numeric_dtype

    texts = {
        str(name): column.map(lambda cell: write(cell) if isinstance(cell, str) else cell)
        for name, column in table.items()
        if not is_numeric_dtype(column)
    }
    return table.assign(**texts)


def for_spreadsheets(text: str) -> str:
    """A text behind an apostrophe where a spreadsheet would take it for a formula; numbers that are
    written as text stay as they are."""
    if not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def load_table(path: Location) -> pd.DataFrame:
    """Read a tab-separated table into a DataFrame; names stay text, whatever they look like (layer
    "1.10" is no number). Raises UserError when it is missing or empty."""
    import pandas as pd

    try:
        # "none" is a word of ours (scores that need no attack), not a missing value
        return pd.read_csv(
            path,
            sep="\t",
            keep_default_na=False,
            na_values=["nan"],
            dtype=dict.fromkeys(NAMES, str),
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the workflow again") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        if isinstance(error, pd.errors.EmptyDataError) and Path(path).stat().st_size:
            return pd.DataFrame()  # without rows and columns `save_table` writes a line end only
        raise UserError(
            f"{path}: cannot be read, expected a table (.tsv); delete it and run again"
        ) from None


def save_text(text: str, path: Location, *, durable: bool = True) -> None:
    """Write text as UTF-8; durable: see `atomic`."""
    with atomic(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")
