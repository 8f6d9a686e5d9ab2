"""Data sets of the config. No torch."""

from typing import Annotated, Literal

from pydantic import Field

from faultline.base.errors import UserError, nearest
from faultline.config.fields import (
    ON_DISK,
    Absent,
    Images,
    Inferred,
    Name,
    OneOf,
    Section,
    only_for,
)
from faultline.data.describe import ENOUGH, describe
from faultline.data.sources import SOURCE_NAMES, Source

_DOWNLOADED = ("fashion_mnist", "mnist", "cifar10", "cifar100")
_FILES = only_for("source", *_DOWNLOADED, "tiny_imagenet", "image_folder")


class Dataset(Section):
    """One data set."""

    source: Inferred[Annotated[str, OneOf(SOURCE_NAMES)]] = None
    """Which data; by default what the data set is called."""
    folder: Annotated[str | None, ON_DISK, _FILES] = None
    """Where the files lie (not needed for digits, moons, breast_cancer, wine and npz). Of
    image_folder, the folder that holds train/ and, if there are any, test/ and validation/ (or
    val/, valid/), each with one folder of images per class. Without test/ the validation set is
    the test split, as with ImageNet."""
    file: Annotated[str | None, ON_DISK, only_for("source", "npz")] = None
    """The .npz file with train_images and train_labels, perhaps also test_ and validation_ (or
    val_, valid_), which without test_ is the test split, or x_train and y_train, as keras calls
    them (npz only). Images are uint8, uint16 or floats in 0..1, [n, h, w], [n, c, h, w] or
    [n, h, w, c]; the channels are the axis of 4 or fewer, the first where both are, and of more
    the one beside equal sides. In place of images it may hold signals, numbers [n, c, t];
    features, numbers [n, d]; or tokens, whole numbers [n, t]."""
    also: Annotated[dict[Name, str], ON_DISK, only_for("source", "image_folder", "npz")] = Field(
        default_factory=dict
    )
    """Further test sets of the same classes by a name of your choice, each a folder with one folder
    of images per class, such as {night: photos_night}, or an .npz file with test_images (or
    whatever it is) and test_labels; all they hold is judged beside stresses (image_folder and npz
    only)."""
    size: int | None = Field(None, ge=1, le=4096)
    """Images are made size x size. Those of image_folder by resizing the shorter side and
    cutting out the centre, those of other sources as a whole (bilinear, antialiased); null
    leaves the latter as they are."""
    channels: Annotated[Literal[1, 3] | None, only_for("source", "image_folder")] = None
    """1 makes images grey, 3 coloured (image_folder only); null is 3."""
    classes: Annotated[int | None, only_for("source", "npz")] = Field(None, ge=2, le=100_000)
    """Number of classes (npz only); null takes the largest label and one, and asks for labels
    from 0."""
    on_bad_image: Annotated[Literal["stop", "skip"], only_for("source", "image_folder")] = "stop"
    """What to do with an image that cannot be decoded (image_folder only). skip leaves it out
    and says so in the log."""
    mean: list[Annotated[float, Field(ge=-1e30, le=1e30)]] | None = Field(None, min_length=1)
    """Per channel, in pixel units, or per feature, in those of the data, to normalise with, for
    weights that expect it; null computes it from the train split."""
    std: list[Annotated[float, Field(ge=1e-30, le=1e30)]] | None = Field(None, min_length=1)
    """The standard deviation that goes with mean."""
    download: Annotated[bool, only_for("source", *_DOWNLOADED)] = False
    """Let torchvision download the files into the folder where they are missing."""
    train: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """Number of training samples; null takes all that are left. 0 is for weights that are trained
    already (epochs [0]): a folder or file may then hold test images alone, and mean and std are to
    be given."""
    validation: Annotated[Images | None, Absent(null=True)] = None
    """Number of validation samples, taken from the training set (by default 200), or from a
    validation set of its own beside a test set (by default, or null, all of it), or from the test
    set where there are no training images. At least 200, and as many as ablation.images, where
    ablation.split is validation."""
    test: Images | None = None
    """Number of test samples; null takes all of the official test set (where there is none, as
    in digits, moons and tables, say how many)."""
    split_seed: int = Field(0, ge=0, le=4_294_967_295)
    """Seed of the split; the same split serves every training seed."""
    samples: Annotated[int, only_for("source", "moons")] = Field(3000, ge=10, le=10_000_000)
    """Number of samples made (moons only)."""
    noise: Annotated[float, only_for("source", "moons")] = Field(0.2, ge=0, le=100)
    """Standard deviation of the noise (moons only; 0.2 is ours)."""


def check_source(name: str, dataset: Dataset) -> None:
    """A data set is of the source that it is called, unless it says otherwise."""
    if name in ("tables", "logs"):
        raise UserError(f"config key datasets.{name}: a folder of the results; rename it")
    dataset.source = dataset.source or name
    if dataset.source not in SOURCE_NAMES:
        raise UserError(
            f"config key datasets.{name}: no data set of this name, and no source given; "
            f"{nearest(name, SOURCE_NAMES)}"
        )


def check_dataset(name: str, dataset: Dataset) -> Source:
    """Completes one data set of the config; what is known of it."""
    source = dataset.source
    if source == "image_folder":
        dataset.channels = dataset.channels or 3
    facts = describe(dataset.dump(), name=name)
    if source == "npz":
        dataset.classes = facts.classes
    if "validation" not in dataset.model_fields_set:
        dataset.validation = None if facts.official_validation else ENOUGH
    if dataset.test is None and not facts.official_test:
        raise UserError(
            f"config key datasets.{name}.test: missing; {source} has no official "
            "test set, so say how many samples to test on"
        )
    for key, other in (("mean", "std"), ("std", "mean")):
        if getattr(dataset, other) is None:
            continue
        values = getattr(dataset, key)
        if facts.kind == "token":
            raise UserError(
                f"config key datasets.{name}.{key}: tokens are not normalised; leave it out"
            )
        if values is None:
            raise UserError(f"config key datasets.{name}.{key}: missing; it goes with {other}")
        if len(values) != facts.shape[0]:
            raise UserError(
                f"config key datasets.{name}.{key}: {len(values)} values; expected "
                f"{facts.shape[0]}, one per {'feature' if facts.kind == 'vector' else 'channel'}"
            )
        if facts.kind == "image" and not all(0 <= value <= 1 for value in values):
            raise UserError(
                f"config key datasets.{name}.{key}: {values}; expected pixel units, 0 to 1; "
                "divide those of pixels up to 255 by 255"
            )
    return facts
