"""Images without labels: a folder of files, or an array of them."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from faultline.base.errors import UserError
from faultline.data.decode import decode
from faultline.data.folders import square

MOST_CHANNELS = 4


def load_images(path: Path, *, size: int, channels: int, most: int, threads: int) -> torch.Tensor:
    """At most so many images [n, c, h, w], float32 in 0..1, spread evenly over what there is.

    path: a folder, whose image files, those in folders of it too, are made size x size by the
    shorter side and a cut of the centre; or a .npy or .npz file (its array of images or x, or its
    only one) of uint8, uint16 or floats in 0..1, [n, h, w], [n, c, h, w] or [n, h, w, c], which is
    taken as it is. UserError where there is no image.
    """
    path = path.expanduser()
    if path.is_dir():
        return _of_folder(path, size=size, channels=channels, most=most, threads=threads)
    if path.suffix not in (".npy", ".npz"):
        what = "no such file or folder" if not path.exists() else "is no folder, .npy or .npz"
        raise UserError(f"{path}: {what}; give a folder of images, or an array of them")
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        values = loaded if isinstance(loaded, np.ndarray) else loaded[_key(path, loaded.files)]
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give numbers, no objects") from None
    return _pixels(path, values, most)


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _of_folder(path: Path, *, size: int, channels: int, most: int, threads: int) -> torch.Tensor:
    from PIL import Image

    suffixes = Image.registered_extensions()
    formats = sorted(Image.OPEN.keys() - {"EPS"})
    files = sorted(file for file in path.rglob("*") if suffixes.get(file.suffix.lower()) in formats)
    if not files:
        raise UserError(f"{path}: there is no image in it; give a folder of images")
    images, _ = decode(
        [files[index] for index in _spread(len(files), most)],
        convert=partial(square, size=size, channels=channels),
        shape=(channels, size, size),
        formats=formats,
        threads=threads,
        remedy="mend or remove it",
        skip=True,
    )
    return torch.from_numpy(images).float() / 255


def _key(path: Path, names: list[str]) -> str:
    named = [name for name in ("images", "x") if name in names]
    if named or len(names) == 1:
        return [*named, *names][0]
    raise UserError(f"{path}: holds {', '.join(names)}; call the images images")


def _pixels(path: Path, values: np.ndarray, most: int) -> torch.Tensor:
    if values.ndim not in (3, 4) or not len(values) or values.dtype.kind not in "uf":
        raise UserError(
            f"{path}: holds {values.dtype} {[*values.shape]}; expected images, uint8, uint16 or "
            "floats in 0..1, [n, h, w], [n, c, h, w] or [n, h, w, c]"
        )
    chosen = np.array(values[_spread(len(values), most)])
    if chosen.ndim == 3:
        chosen = chosen[:, None]
    elif chosen.shape[1] > MOST_CHANNELS >= chosen.shape[3]:
        chosen = chosen.transpose(0, 3, 1, 2)
    levels = np.iinfo(chosen.dtype).max if chosen.dtype.kind == "u" else 1
    pixels = np.ascontiguousarray(chosen.astype(np.float32) / levels)
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(f"{path}: values are not all in 0..1; divide those of pixels by 255")
    return torch.from_numpy(pixels)
