import copy

import pytest
import torch
from attacked import Normalise, trained
from sklearn.datasets import load_digits, make_moons
from torch import nn


@pytest.fixture
def models(trained_models):
    """name -> (network, test images, labels, bounds): digits in [0, 1], moons without bounds."""
    return copy.deepcopy(trained_models)  # foolbox leaves gradients behind


@pytest.fixture(scope="session")
def trained_models():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
        labels = torch.tensor(digits.target)
        train, test = slice(0, 1400), slice(1400, None)
        conv = nn.Sequential(
            Normalise(),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
        linear = nn.Sequential(Normalise(), nn.Flatten(), nn.Linear(64, 10))
        points, sides = make_moons(1000, noise=0.2, random_state=0)
        points = torch.tensor((points - points.mean(0)) / points.std(0), dtype=torch.float32)
        sides = torch.tensor(sides)
        mlp = nn.Sequential(nn.Linear(2, 32), nn.ELU(), nn.Linear(32, 32), nn.ELU())
        mlp.append(nn.Linear(32, 2))
        unit = (0.0, 1.0)
        yield {
            "conv": (
                trained(conv, images[train], labels[train], epochs=8),
                images[test],
                labels[test],
                unit,
            ),
            "linear": (
                trained(linear, images[train], labels[train], epochs=8),
                images[test],
                labels[test],
                unit,
            ),
            "mlp": (
                trained(mlp, points[:700], sides[:700], epochs=8),
                points[700:],
                sides[700:],
                None,
            ),
        }
