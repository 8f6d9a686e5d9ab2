"""Targeted APGD and the standard judge: by hand, beside the authors' code, and what they cost."""

from itertools import pairwise

import pytest
import torch
from attacked import Apply
from torch import nn

from faultline.attacks.ascent import TARGETED_DLR, Ball, apgd, margin, random_start
from faultline.attacks.craft import craft
from faultline.attacks.standard import apgd_t, standard
from faultline.networks.evaluation import predict


def accuracy(network, images, labels):
    return (predict(network, images).argmax(1) == labels).float().mean().item()


def test_margin_by_hand():
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, -torch.inf], [0.0, torch.nan, 1.0]])
    lowest = [1.0, -2.0, -torch.inf]
    assert margin(logits, torch.tensor([1, 0, 2])).tolist() == lowest


def test_targeted_dlr_by_hand():
    logits = torch.tensor([[5.0, 2.0, 1.0, 3.0]])
    # (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2) = (3 - 5) / (5 - (2 + 1) / 2)
    value = TARGETED_DLR.loss(logits, torch.tensor([0]), torch.tensor([3]))
    torch.testing.assert_close(value, torch.tensor([-2 / 3.5]))
    scaled = TARGETED_DLR.loss(1000 * logits + 7, torch.tensor([0]), torch.tensor([3]))
    torch.testing.assert_close(scaled, value)
    # of three classes the difference alone
    value = TARGETED_DLR.loss(logits[:, :3], torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(value, torch.tensor([-3.0]))


def test_targeted_dlr_beside_the_authors_and_by_differences():
    library = pytest.importorskip("pyautoattack.autopgd_base")
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double()
    labels, aims = logits.argmax(1), logits.argsort(1)[:, -2]
    other = library.APGDAttack_targeted(None, n_iter=1, norm="Linf", eps=0.1, device="cpu")
    other.y_target = aims
    theirs = other.dlr_loss_targeted(logits, labels)
    torch.testing.assert_close(TARGETED_DLR.loss(logits, labels, aims), theirs)
    rise = TARGETED_DLR.rise(logits, labels, aims)
    for column in range(6):
        step = torch.zeros(6).double()
        step[column] = 1e-6
        both = [TARGETED_DLR.loss(logits + s, labels, aims) for s in (step, -step)]
        torch.testing.assert_close((both[0] - both[1]) / 2e-6, rise[:, column], atol=1e-5, rtol=0)


def test_a_class_that_is_switched_off_is_no_aim():
    logits = torch.tensor([[5.0, 2.0, 1.0, -torch.inf]])
    for aim in (1, 3):
        loss = TARGETED_DLR.loss(logits, torch.tensor([0]), torch.tensor([aim]))
        rise = TARGETED_DLR.rise(logits, torch.tensor([0]), torch.tensor([aim]))
        assert loss.isfinite().all() and rise.isfinite().all() and rise[0, 3] == 0


@pytest.mark.parametrize(("norm", "theirs", "eps"), [("linf", "Linf", 0.08), ("l2", "L2", 0.6)])
def test_targeted_apgd_agrees_with_the_authors(models, norm, theirs, eps):
    library = pytest.importorskip("pyautoattack.autopgd_base")
    network, images, labels, bounds = models["conv"]
    network, images, labels = network.eval(), images[:200], labels[:200]
    start = random_start(images.shape, eps=eps, norm=norm, seed=0)
    ball = Ball(eps, norm, bounds)
    ours = apgd_t(network, images, labels, ball=ball, steps=10, start=start)
    with torch.random.fork_rng():
        other = library.APGDAttack_targeted(network, n_iter=10, norm=theirs, eps=eps, device="cpu")
        other.n_target_classes = 9
        found = other.perturb(images, labels)
    difference = accuracy(network, ours, labels) - accuracy(network, found, labels)
    assert abs(difference) <= 0.02
    assert accuracy(network, ours, labels) < accuracy(network, images, labels) - 0.1


class Counted(nn.Module):
    """A network, and how many images went through it and back."""

    def __init__(self, network):
        super().__init__()
        self.network, self.passes = network, []

    def forward(self, images):
        self.passes.append(len(images))
        logits = self.network(images)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self.passes.append(len(gradient)))
        return logits


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "theirs", "eps"), [("linf", "Linf", 0.08), ("l2", "L2", 0.6)])
def test_standard_beside_autoattack(models, norm, theirs, eps):
    library = pytest.importorskip("pyautoattack")
    network, images, labels, bounds = models["conv"]
    images, labels = images[:100], labels[:100]
    ours, other = Counted(network.eval()).eval(), Counted(network.eval()).eval()
    passes = ours.passes, other.passes
    attack = {"method": "standard", "norm": norm}
    crafted = craft(ours, images, labels, attack=attack, eps=eps, bounds=bounds, seed=0)
    with torch.random.fork_rng():
        suite = library.AutoAttack(other, norm=theirs, eps=eps, version="standard", device="cpu")
        found = suite.run_standard_evaluation(images, labels)[0]
    difference = accuracy(network, crafted, labels) - accuracy(network, found, labels)
    assert abs(difference) <= 0.011
    assert 5 * sum(passes[0]) < sum(passes[1])


def test_parts_take_what_those_before_leave(models):
    network, images, labels, bounds = models["conv"]
    network, images, labels = network.eval(), images[:100], labels[:100]
    ball = Ball(0.08, "linf", bounds)
    start = random_start(images.shape, eps=0.08, norm="linf", seed=0)
    parts = []
    moved = standard(
        network,
        images,
        labels,
        ball=ball,
        steps=10,
        queries=20,
        start=start,
        seed=0,
        after=lambda name, stands: parts.append((name, stands)),
    )
    assert [name for name, _ in parts] == ["apgd", *["apgd_t"] * 9, "square"]
    for (_, before), (_, after) in pairwise(parts):
        assert not (after & ~before).any()
    first = apgd(network, images, labels, ball=ball, steps=10, start=start, until_fooled=True)
    right = predict(network, images).argmax(1) == labels
    assert torch.equal(parts[0][1], right & (predict(network, first).argmax(1) == labels))
    assert torch.equal(parts[-1][1], predict(network, moved).argmax(1) == labels)
    assert torch.equal(moved[~right], images[~right])  # nothing is left to do for these
    stands = parts[-1][1]
    before, after = (margin(predict(network, of), labels) for of in (images, moved))
    assert stands.any() and (after <= before)[stands].all()


def test_logits_that_hide_their_gradient_do_not_hide_from_standard(models):
    network, images, labels, bounds = models["conv"]
    network, images, labels = network.eval(), images[:100], labels[:100]
    given = {"eps": 0.08, "bounds": bounds, "seed": 0}
    attack = {"method": "standard", "steps": 10, "queries": 20}
    huge = nn.Sequential(network, Apply(lambda logits: 1000 * logits))
    left = [
        accuracy(of, craft(of, images, labels, attack=attack, **given), labels)
        for of in (network, huge)
    ]
    assert abs(left[0] - left[1]) <= 0.02


@pytest.mark.parametrize("method", ["apgd_t", "square", "standard"])
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_by_hand(classes, method):
    network = nn.Linear(3, classes, bias=False)
    nn.init.eye_(network.weight)
    rows = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    logits = rows[:, :classes]
    labels = logits.argmax(1)
    attack = {"method": method, **{"steps": 10, "queries": 60}}
    if method != "standard":
        del attack["queries" if method == "apgd_t" else "steps"]
    moved = craft(network, rows, labels, attack=attack, eps=0.2, bounds=(0.0, 1.0), seed=0)
    own = logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], -1).amax(1)
    can_be_fooled = (own - 0.2).clamp(min=0) < (other + 0.2).clamp(max=1)
    assert torch.equal(predict(network, moved).argmax(1) != labels, can_be_fooled)
    assert can_be_fooled.any() and not can_be_fooled.all()
