"""A trained network trained on against an attack, see `Course`; BatchNorm's statistics anew."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from faultline.base import memory, pace
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.networks.architectures import measure
from faultline.training.course import Course
from faultline.training.epochs import make_optimizer, train_epochs

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

STATISTICS_IMAGES = 1000
"""Training images that the statistics of BatchNorm are measured on, see `DataSet.seen`."""


def finetune(
    network: nn.Module,
    dataset: DataSet,
    *,
    settings: Mapping[str, Any],
    epochs: int,
    seed: int,
    frozen: dict[str, Tensor] | None = None,
    regularised: Mapping[str, float] | None = None,
    disturbed: Callable[[int], AbstractContextManager[None]] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Trains a network on, in place, until it is the average of its way; settings, frozen,
    regularised, disturbed: as for `train_epochs`."""
    batches = -(-len(dataset.splits["train"][1]) // settings["batch_size"])
    course = Course(settings, steps=epochs * batches)
    optimizer = make_optimizer(network, settings)
    training = train_epochs(
        network,
        optimizer,
        dataset,
        settings=settings,
        seed=seed_of("fine-tuning", seed),
        epochs=range(epochs),
        frozen=frozen,
        regularised=regularised,
        course=course,
        disturbed=disturbed,
        say=say,
    )
    for _ in training:
        pass
    if course.average:
        network.load_state_dict(course.average)
    network.requires_grad_(True).eval()
    measure_statistics(network, dataset)


def measure_statistics(network: nn.Module, dataset: DataSet) -> int:
    """Gives BatchNorm the mean and variance of the first training images, all else in eval mode;
    the number of image passes that it took. A network without BatchNorm stays as it is."""
    measure(network)
    norms = [m for m in network.modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
    if not norms:
        return 0
    images = dataset.pixels(dataset.seen[:STATISTICS_IMAGES])
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    network.eval()
    for norm in norms:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = torch.zeros_like(norm.num_batches_tracked)
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
        norm.train()
    # parts of one size, none of which is a single image
    most = max(2, memory.batch_size(STATISTICS_IMAGES, images.shape[1:]))
    parts = images.tensor_split(-(-len(images) // most))
    with torch.no_grad():
        for part in parts:
            network(part)
    pace.passed(len(images))
    for norm, (momentum, count) in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked = count
    network.eval()
    return len(images)
