"""The data sets that are known by name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faultline.base.errors import UserError
from faultline.networks.facts import KINDS


@dataclass(frozen=True)
class Source:
    """Where images, signals, features or tokens come from; docs call each sample an image.

    shape:         of one image: (channels, height, width); of a signal: (channels, steps); of a
                   vector: (features,); of a sequence of tokens: (tokens,).
    classes:       number of classes.
    bounds:        (lowest, highest) pixel value; (0, 1) of signals and features as well, which
                   become shares of their range; None where values are unbounded.
    official_test: whether a test set is published apart from the train set.
    train, test:   images in the official sets (train: all of them where there is no test set);
                   None where any number can be drawn, or they have not been counted; train: 0
                   where there are test images alone.
    official_validation: whether there is a validation set apart from the train set.
    vocabulary:    number of different tokens; None of what holds none.
    unlearned:     classes of which the train set has no sample.
    """

    shape: tuple[int, ...]
    classes: int
    bounds: tuple[float, float] | None
    official_test: bool
    train: int | None
    test: int | None
    official_validation: bool = False
    vocabulary: int | None = None
    unlearned: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """What one sample is: "image", "signal", "vector" or "token"."""
        return KINDS[len(self.shape)] if self.vocabulary is None else "token"

    @property
    def ranged(self) -> bool:
        """Whether values are shares of the range of their feature or channel."""
        return self.kind in ("vector", "signal") and self.bounds is not None


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What a data set is made of, as in the config.

    train, validation, test: numbers of images; None takes all that are left. Where a source has a
        test or validation set of its own, that split is a sample of it, and else of the train set.
        The test split does not depend on the size of the others. Images that are skipped as
        undecodable are not made up for.
    split_seed: of the order in which images are dealt out.
    folder: where the files of fashion_mnist, mnist, cifar10, cifar100 and tiny_imagenet are. Files
        of other than the official number of images are read too, but only official ones have a
        checksum.
        Of image_folder: the folder that holds train/, and perhaps test/ and validation/ (val/,
        valid/), which is the test set where there is no test/.
    file: of npz. classes: of npz; None counts them.
    download: fetch missing files into the folder with torchvision.
    noise, samples: of moons, which are drawn with split_seed and standardised over all samples.
    also: of image_folder and npz: further test sets by name, each a folder that holds one per
        class, or a file that holds a test set.
    size: images are made size x size: those of image_folder by their shorter side and a cut of the
        centre, others as a whole; None leaves them as they are. channels: of image_folder.
    on_bad_image: what to do with an image of image_folder that cannot be decoded: stop or skip.
    mean, std: per channel in pixel units, or per feature in those of the source, to normalise with;
        None: computed from the train split.
    """

    source: str
    validation: int | None
    split_seed: int
    train: int | None = None
    test: int | None = None
    folder: str | Path | None = None
    file: str | Path | None = None
    also: Mapping[str, str | Path] = field(default_factory=dict)
    download: bool = False
    noise: float = 0.2
    samples: int = 3000
    size: int | None = None
    channels: int | None = 3
    classes: int | None = None
    on_bad_image: str = "stop"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


PIXELS = (0.0, 1.0)
"""Bounds of images."""

SOURCES = {
    "digits": Source((1, 8, 8), 10, PIXELS, False, 1797, 0),
    "fashion_mnist": Source((1, 28, 28), 10, PIXELS, True, 60000, 10000),
    "mnist": Source((1, 28, 28), 10, PIXELS, True, 60000, 10000),
    "cifar10": Source((3, 32, 32), 10, PIXELS, True, 50000, 10000),
    "cifar100": Source((3, 32, 32), 100, PIXELS, True, 50000, 10000),
    # The published test images carry no labels, so `val` is the test set, as is usual.
    "tiny_imagenet": Source((3, 64, 64), 200, PIXELS, True, 100000, 10000),
    "moons": Source((2,), 2, None, False, None, None),
    "breast_cancer": Source((30,), 2, PIXELS, False, 569, 0),
    "wine": Source((13,), 3, PIXELS, False, 178, 0),
}

RANGED = (*(name for name, source in SOURCES.items() if source.ranged), "npz")
"""Sources whose values may be shares of the range of their feature or channel."""

# The user's own data; what these hold is read from the files.
SOURCE_NAMES = (*SOURCES, "image_folder", "npz")

ALSO = "also {}"
"""What a further test set is called among the splits."""

VALIDATION = ("validation", "val", "valid")
"""What a validation set of the user's own may be called."""


def named_splits(names: Collection[str], *, origin: str, form: str) -> dict[str, str]:
    """Split -> what it is called among the names of sets in the user's own data.

    A validation set without a test set beside it is what networks are to be judged on, as with
    ImageNet: it is the test split (ours). origin, form: where the sets are, and how one is written
    there, for the error where several validation sets are.
    """
    alike = [name for name in VALIDATION if name in names]
    if len(alike) > 1:
        those = " and ".join(form.format(name) for name in alike)
        raise UserError(
            f"{origin}: holds {those}, and each may be the validation set; rename what is not"
        )
    called = {split: split for split in ("train", "test") if split in names}
    return called | {"validation" if "test" in called else "test": name for name in alike}
