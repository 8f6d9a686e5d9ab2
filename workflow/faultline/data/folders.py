"""Folders of the user's own images."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from faultline.base.errors import UserError, printable, some
from faultline.data.decode import Pool, file_pool
from faultline.data.sources import ALSO, PIXELS, VALIDATION, DataSettings, Source, named_splits

if TYPE_CHECKING:
    import PIL.Image

# A folder of class folders


def class_folders(folder: str | Path, *, name: str, learned: bool = True) -> dict[str, list[Path]]:
    """Split -> its class folders in alphabetical order, for the splits that `folder` has, the one
    that tells the classes first: train/ where it is there; see `named_splits`.

    A class is numbered by its place in that order, as in torchvision's ImageFolder. Raises
    UserError without train/ if anything is to be learned, without any split, with fewer than two
    classes, where the splits differ in them, or where train/ is another split as well.
    """
    root = Path(folder).expanduser()
    there: dict[Path, str] = {}  # one folder under two names, as by a link, is one split
    for called in ("train", "test", *VALIDATION):
        if (root / called).is_dir():
            same = there.setdefault((root / called).resolve(), called)
            if same == "train" != called:
                raise UserError(
                    f"{root / called}: is the folder {root / same} itself, so networks would be "
                    "judged on images that they learn from; give it images of its own"
                )
    splits = named_splits(there.values(), origin=str(root), form="{}/")
    if "train" not in splits and (learned or not splits):
        alone = f"; for test images alone say datasets.{name}.train: 0" if splits else ""
        raise UserError(
            f"config key datasets.{name}.folder: there is no folder {root / 'train'}; name the "
            f"folder that holds train/ (and test/), each with one folder per class{alone}"
        )
    first = root / next(iter(splits.values()))
    classes = _classes(first)
    if len(classes) < 2:
        raise UserError(
            f"{first}: {len(classes)} class folders; expected at least two, each with the "
            "images of one class"
        )
    return {split: _same_classes(root / called, classes) for split, called in splits.items()}


def _first(splits: Mapping[str, list[Path]]) -> list[Path]:
    """The class folders that tell the classes."""
    return next(iter(splits.values()))


def _classes(place: Path) -> list[Path]:
    """The class folders in a folder, in alphabetical order."""
    with os.scandir(place) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return [place / each for each in sorted(names)]


def _same_classes(place: Path, learned: list[Path]) -> list[Path]:
    """Those of another split; UserError for a class that is not learned."""
    own = _classes(place)
    names, known = ({path.name for path in of} for of in (own, learned))
    if not names or names - known:
        raise UserError(
            f"{place}: its classes differ from those of {learned[0].parent} "
            f"({some(sorted(names ^ known), 3)} in one of them only); give both the same folders"
        )
    return own


def further_folders(
    also: Mapping[str, str | Path], learned: list[Path], *, name: str
) -> dict[str, list[Path]]:
    """Name of a further test set -> its class folders; learned: those that tell the classes."""
    found = {}
    for called, folder in also.items():
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise UserError(
                f"config key datasets.{name}.also.{called}: there is no folder {place}; name one "
                "that holds a folder of images per class"
            )
        found[ALSO.format(called)] = _same_classes(place, learned)
    return found


def folders(
    folder: str | Path, *, name: str, also: Mapping[str, str | Path] = MappingProxyType({})
) -> list[str]:
    """The class folders of every split: they change when an image is added, removed or renamed."""
    splits = class_folders(folder, name=name, learned=False)  # `describe_folder` has looked
    splits |= further_folders(also, _first(splits), name=name)
    return [str(place) for of in splits.values() for place in of]


def describe_folder(dataset: Mapping[str, Any], *, name: str) -> Source:
    """Shape and classes of a data set of source `image_folder`, from the names of its folders."""
    for key in ("folder", "size"):
        if not dataset.get(key):
            raise UserError(
                f"config key datasets.{name}.{key}: missing; an image_folder needs its folder and "
                "the size that images are brought to, in pixels"
            )
    splits = class_folders(dataset["folder"], name=name, learned=dataset.get("train") != 0)
    further_folders(dataset.get("also") or {}, _first(splits), name=name)
    return Source(
        shape=(dataset["channels"], dataset["size"], dataset["size"]),
        classes=len(_first(splits)),
        bounds=PIXELS,
        official_test="test" in splits,
        train=None if "train" in splits else 0,
        test=None,
        official_validation="validation" in splits,
    )


def folder_pools(settings: DataSettings, *, threads: int, name: str) -> dict[str, Pool]:
    """Pool of each split that the folder has. Files that PIL does not know by name are left out."""
    from PIL import Image

    folder, size, channels = settings.folder, settings.size, settings.channels
    assert folder and size and channels, "see describe_folder"
    splits = class_folders(folder, name=name, learned=settings.train != 0)
    root, read = Path(folder).expanduser(), {of[0].parent for of in splits.values()}
    beside = (path for path in root.iterdir() if path.is_dir() and path not in read)
    if unread := sorted(path.name for path in beside if not path.name.startswith(".")):
        print(f"{root}: not read: {some(unread)}")
    splits |= further_folders(settings.also, _first(splits), name=name)
    suffixes = Image.registered_extensions()
    # PIL hands PostScript to a program that executes it
    formats = sorted(Image.OPEN.keys() - {"EPS"})
    number = {place.name: label for label, place in enumerate(_first(splits))}
    pools = {}
    for split, classes in splits.items():
        paths, labels, others = [], [], []
        if lacking := sorted(number.keys() - {place.name for place in classes}):
            print(f"{split}: no image of {some(lacking)}, so nothing is judged on these")
        for place in classes:
            files = sorted(path for path in place.rglob("*") if path.is_file())
            images = [path for path in files if suffixes.get(path.suffix.lower()) in formats]
            if not images:
                raise UserError(
                    f"{place}: there is no image in it (of {len(files)} files); put some there, or "
                    f"remove the class {place.name} from every split"
                )
            others += sorted(set(files) - set(images))
            paths += images
            labels += [number[place.name]] * len(images)
        print(f"{split}: {len(paths)} images of {len(classes)} classes, of {place.parent}")
        if others:
            print(f"{split}: {len(others)} other files left out, such as {printable(others[0])}")
        pools[split] = file_pool(
            paths,
            np.array(labels),
            convert=partial(square, size=size, channels=channels),
            shape=(channels, size, size),
            formats=formats,
            threads=threads,
            remedy=f"mend or remove it, or set datasets.{name}.on_bad_image to skip",
            skip=settings.on_bad_image == "skip",
        )
    return pools


def square(image: "PIL.Image.Image", *, size: int, channels: int) -> np.ndarray:
    """A PIL image as uint8 [channels, size, size].

    It is turned as its EXIF data say, and what is transparent becomes white. The shorter side is
    then resized to `size`, bilinear with antialiasing, and the centre is cut out of the longer one:
    the numbers of torchvision's Resize and CenterCrop.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # PIL would clip all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its 32-bit pixels have no known range; expected 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer)
    image = image.convert("L" if channels == 1 else "RGB")
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)
