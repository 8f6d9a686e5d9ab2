"""Square: its points lie where they may, it finds what its authors' code finds, and it is blind to
gradients."""

import numpy as np
import pytest
import torch
from attacked import Apply
from torch import nn

from faultline.attacks.ascent import Ball, l2_norm
from faultline.attacks.square import _bump, _Patches, square
from faultline.networks.evaluation import predict


def accuracy(network, images, labels):
    return (predict(network, images).argmax(1) == labels).float().mean().item()


SHAPES = {"image": (3, 9, 7), "signal": (2, 20), "features": (11,), "tokens": (6, 4)}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_tried_uses_the_ball_and_stays_inside(kind, norm):
    shape = SHAPES[kind]
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    ball = Ball(0.3, norm, None, channels=2 if kind == "tokens" else 1)
    patches, added, moved = _Patches(images, ball, seed=1), torch.zeros_like(images), 0
    for number in range(40):
        new = patches.next(added, 0.5 / (1 + number), number == 0)
        assert new.shape == images.shape
        if norm == "linf":
            assert torch.equal(new.abs(), torch.full_like(new, 0.3))
        else:
            torch.testing.assert_close(l2_norm(new), torch.full((5,), 0.3), rtol=1e-4, atol=0)
        moved += not torch.equal(new, added)
        added = new
    assert moved >= 10  # a patch may have by chance what is there


def test_a_patch_is_a_square_with_one_sign_a_channel():
    images = torch.zeros(2, 3, 10, 10)
    added = _Patches(images, Ball(1.0), seed=0).next(images, 0.16, first=False)
    there = added != 0
    assert torch.equal(there, there[:1, :1].expand_as(there))
    rows, columns = there[0, 0].any(1).nonzero()[:, 0], there[0, 0].any(0).nonzero()[:, 0]
    assert rows.tolist() == [*range(int(rows[0]), int(rows[0]) + 4)]
    assert columns.tolist() == [*range(int(columns[0]), int(columns[0]) + 4)]
    for channel in added[0]:
        assert channel[channel != 0].unique().numel() == 1


def test_of_tokens_a_patch_covers_a_stretch_of_them():
    images = torch.zeros(2, 10, 4)
    added = _Patches(images, Ball(1.0, channels=2), seed=0).next(images, 0.3, first=False)
    tokens = (added[0] != 0).all(1)
    assert tokens.sum() == 3 and (added[0] != 0).any(1).equal(tokens)
    assert tokens.nonzero()[:, 0].diff().eq(1).all()


def test_a_bump_is_highest_in_its_middle():
    # n = 2 for three positions: 1/9 at the edges, 1/9 + 1/4 in the middle
    torch.testing.assert_close(_bump([3]), torch.tensor([1 / 4, 1 / 4 + 1.0, 1 / 4]))
    heights = _bump([5, 5])
    assert heights.argmax() == 12 and torch.equal(heights, heights.T)
    torch.testing.assert_close(heights[0, 0], torch.tensor(1 / 9))
    torch.testing.assert_close(heights[2, 2], torch.tensor(1 / 9 + 1 / 4 + 1))


@pytest.mark.parametrize(("norm", "theirs", "eps"), [("linf", "Linf", 0.1), ("l2", "L2", 0.8)])
def test_square_agrees_with_the_authors(models, norm, theirs, eps):
    library = pytest.importorskip("pyautoattack.square")
    network, images, labels, bounds = models["conv"]
    network, images, labels = network.eval(), images[:200], labels[:200]
    ball = Ball(eps, norm, bounds)
    left, of_others = [], []
    for seed in range(4):
        ours = square(network, images, labels, ball=ball, queries=150, seed=seed)
        left.append(accuracy(network, ours, labels))
        other = library.SquareAttack(
            network, norm=theirs, eps=eps, n_queries=150, p_init=0.8, device="cpu", seed=seed
        )
        with torch.no_grad():
            of_others.append(accuracy(network, other.perturb(images, labels), labels))
    assert max(left) < accuracy(network, images, labels) - 0.1
    # random searches on 200 images; on ones as small as these, ours leaves 2 and 8 points less
    assert -0.12 <= np.mean(left) - np.mean(of_others) <= 0.02


def test_a_gradient_that_is_cut_off_does_not_matter(models):
    network, images, labels, bounds = models["conv"]
    network, images, labels = network.eval(), images[:100], labels[:100]
    ball = Ball(0.1, "linf", bounds)
    cut = nn.Sequential(Apply(lambda x: x.detach()), network)
    points = [square(of, images, labels, ball=ball, queries=30, seed=0) for of in (network, cut)]
    assert torch.equal(*points)
    more = square(network, images, labels, ball=ball, queries=200, seed=0)
    assert accuracy(network, more, labels) < accuracy(network, points[0], labels)


def test_bounds_and_eps_may_differ_by_feature():
    network = nn.Linear(4, 2)
    rows = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    low, high = torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.tensor([1.0, 0.9, 0.8, 0.7])
    rows = rows.clamp(low, high)
    eps = torch.tensor([0.0, 0.1, 0.2, 0.3])
    ball = Ball(eps, "linf", (low, high))
    moved = square(network, rows, network(rows).argmax(1), ball=ball, queries=20, seed=0)
    assert ((moved - rows).abs() <= eps + 1e-6).all()
    assert (moved >= low).all() and (moved <= high).all()
