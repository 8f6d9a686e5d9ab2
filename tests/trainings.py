"""What tests of trainings share: settings, a data set, a network, and a comparison of bits."""

import torch
from torch import nn

from faultline.data.splits import DataSet
from faultline.training.epochs import make_optimizer, train_epochs

CONSTANT = {"kind": "constant", "epochs": 100, "factor": 0.1}
PLAIN = {"shift": 0, "flip": False}


BRIEF_MEND = {"batch_size": 25, "epochs": 1, "rates": [0.01], "shares": [1.0], "clean_loss": 1.0}
"""Settings of a mend in one call."""


def quiet(*_):
    pass


class OfTokens(nn.Module):
    """Layers that take whole numbers and floats, and one whose weight a function takes."""

    def __init__(self):
        super().__init__()
        self.words, self.first, self.last = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.aside = nn.Linear(3, 2)

    def forward(self, tokens):
        hidden = self.first(self.words(tokens).mean(1)).relu()
        return self.last(hidden) + nn.functional.linear(hidden, self.aside.weight)


def settings_of(optimizer="adam", schedule=CONSTANT, augmentation=PLAIN, **more):
    common = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.001, "batch_size": 16}
    return {
        "recipe": "standard",
        "optimizer": optimizer,
        "schedule": schedule,
        "augmentation": augmentation,
        **common,
        **more,
    }


def dataset_of(n=50, channels=2, *, validation=20, test=20):
    generator = torch.Generator().manual_seed(1)
    splits = {}
    for split, size in (("train", n), ("validation", validation), ("test", test)):
        shape = (size, channels, 6, 6)
        images = torch.randint(0, 17, shape, generator=generator, dtype=torch.uint8)
        splits[split] = (images, torch.randint(0, 3, (size,), generator=generator))
    moments = {"mean": (0.5,) * channels, "std": (0.3,) * channels}
    return DataSet("made", 3, (0.0, 1.0), 16, **moments, splits=splits)


def network_of(seed=0, channels=2):
    """Convolution, BatchNorm and dropout, so that every kind of state is there."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def trained(epochs, *, settings, network=None, optimizer=None, seed=0, dataset=None, **more):
    network = network or network_of()
    optimizer = optimizer or make_optimizer(network, settings)
    rows = list(
        train_epochs(
            network,
            optimizer,
            dataset or dataset_of(),
            settings=settings,
            seed=seed,
            epochs=epochs,
            say=quiet,
            **more,
        )
    )
    return network, optimizer, rows


def assert_same_bits(one, other):
    """Of nested dicts and lists of tensors and numbers."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same_bits(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_bits(a, b)
    else:
        assert one == other or (one != one and other != other)  # NaN, where there is no value
