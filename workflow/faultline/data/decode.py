"""Pools of images, and images decoded from files."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from faultline.base.errors import UserError, printable

if TYPE_CHECKING:
    import PIL.Image


class Pool(NamedTuple):
    """Labelled images of which splits take their share.

    labels: int [n]. read: indices into them -> (images, labels) at these indices, without those
    images that are skipped because they cannot be read.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def array_pool(images: np.ndarray, labels: np.ndarray) -> Pool:
    """A pool of images [n, ...] that are in memory."""
    return Pool(labels, lambda chosen: (images[chosen], labels[chosen]))


def file_pool(paths: list[Path], labels: np.ndarray, **how: Any) -> Pool:
    """A pool of image files; `how`: the keywords of `decode`."""

    def read(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, good = decode([paths[index] for index in chosen], **how)
        return images, labels[chosen[good]]

    return Pool(labels, read)


def in_one_line(error: BaseException) -> str:
    """What an exception says, short and without line ends."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def decode(
    paths: list[Path],
    *,
    convert: Callable[["PIL.Image.Image"], np.ndarray],
    shape: tuple[int, int, int],
    formats: list[str],
    threads: int,
    remedy: str,
    skip: bool = False,
) -> tuple[np.ndarray, list[int]]:
    """(uint8 images [n, *shape], their indices in `paths`), decoded by that many threads.

    convert: PIL image -> array of that shape. formats: of PIL, that are tried. skip: leave out the
    images that cannot be decoded, and print which. Else raises UserError, which ends in `remedy`.
    """
    from PIL import Image

    Image.init()  # not safe to leave to the threads

    def attempt(path: Path) -> np.ndarray | str:
        try:
            with Image.open(path, formats=formats) as image:
                return convert(image)
        except MemoryError:
            raise
        except Exception as error:  # a broken image can raise anything
            return f"{path}: cannot be decoded ({in_one_line(error)})"

    images = np.empty((len(paths), *shape), np.uint8)
    good: list[int] = []
    bad: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for index, pixels in enumerate(pool.map(attempt, paths)):
            if isinstance(pixels, np.ndarray):
                images[len(good)] = pixels
                good.append(index)
            elif skip:
                bad.append(pixels)
            else:
                raise UserError(f"{pixels}; {remedy}")
            if (index + 1) % 1000 == 0 or index + 1 == len(paths):
                print(f"decoded {index + 1} of {len(paths)} images", flush=True)
    if bad:
        print("\n".join([f"skipped {len(bad)} of {len(paths)} images:", *map(printable, bad)]))
    if bad and not good:
        raise UserError(f"{bad[0]}, nor can any other of {len(paths)} images; {remedy}")
    return images[: len(good)], good
