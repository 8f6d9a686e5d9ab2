"""Networks whose gradient lies, planted, and the checks that find them."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from support import ROOT
from torch import nn

from faultline.attacks.checks import masked
from faultline.attacks.craft import craft
from faultline.attacks.methods import Attack
from faultline.attacks.selfchecks import Parts, signs
from faultline.data.splits import test_images as images_to_test
from faultline.networks.evaluation import predict, predicted

IMAGES, LABELS = torch.full((3, 1, 1, 2), 0.5), torch.zeros(3, dtype=torch.int64)


def attack_of(method="apgd", *, eps=0.1, bounds=(0.0, 1.0), **settings):
    settings = {"steps": 4} | settings | ({"queries": 40} if method == "standard" else {})
    return Attack.of({"method": method, "norm": "linf", "eps": eps} | settings, bounds=bounds)


class Two(nn.Module):
    """Logits (f(2 x0 + x1), 0) of images of two pixels."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        value = self.f(2 * x[:, 0, 0, :1] + x[:, 0, 0, 1:])
        return torch.cat([value, torch.zeros_like(value)], 1)


def rows_of(network, images=IMAGES, labels=LABELS, *, attack=None, **given):
    given = {"correct": np.ones(len(images), bool)} | given
    rows = signs(network, images, labels, attack=attack or attack_of(), **given)
    return {row["check"]: row for row in rows}


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: 3 * x, 0),
        # at 1.5 the square moves by 2 x d less d^2, d = 0.0003: d / 2 x is not the gradient's
        (lambda x: x**2, 0.01),
        (lambda x: x + x.detach(), 50),
        (lambda x: x + 3 * x.detach(), 75),
        (lambda x: x - 2 * x.detach(), 200),
        # steps of 0.4 from 1.4 to 1.8: the largest move, of 0.03, crosses none of them
        (lambda x: x + ((x / 0.4 - 0.5).round() * 0.4 - x).detach(), 100),
    ],
)
def test_what_the_gradient_leaves_unexplained_by_hand(f, left):
    row = rows_of(Two(f))["false_gradients"]
    found = float(re.search(r"by ([\d.]+)%;", row["detail"])[1])
    assert found == pytest.approx(left, abs=0.02)
    assert row["status"] == ("ok" if left < 10 else "warning")


def test_values_cut_to_steps_are_told_by_a_move_at_random_where_the_gradient_is_zero():
    images = torch.linspace(0.2, 0.8, 80).reshape(40, 1, 1, 2)
    labels = torch.zeros(40, dtype=torch.int64)
    found = rows_of(Two(lambda x: (50 * x).round()), images, labels)
    assert found["false_gradients"]["status"] == found["zero_gradients"]["status"] == "warning"
    constant = rows_of(Two(lambda x: 0 * x + 1), images, labels)
    assert constant["false_gradients"]["status"] == "ok"  # nothing changes, as it says


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_bounds_and_size_zero_leave_an_honest_network_alone(eps):
    edge = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(2, 1, 1, 2)
    found = rows_of(Two(lambda x: 3 * x), edge, LABELS[:2], attack=attack_of(eps=eps))
    assert found["false_gradients"]["status"] == "ok"


def test_what_stands_after_each_part_is_gathered_over_batches():
    parts = Parts()
    assert parts.of(3) == {}
    for stands in ([True, True], [True], [True, True], [False]):  # given up after the first batch
        for name, fooled in (("apgd", []), ("apgd_t", []), ("apgd_t", [0]), ("square", [0])):
            left = torch.tensor(stands)
            left[fooled] = False
            parts(name, left)
    found = {name: [*map(int, of)] for name, of in parts.of(3).items()}
    assert found == {"apgd": [1, 1, 0], "apgd_t": [0, 1, 0], "square": [0, 1, 0]}


def test_a_black_box_attack_and_more_steps_are_held_against_the_judge():
    stands, judge = np.ones(3, bool), attack_of("standard")
    honest = Two(lambda x: 3 * x)
    for left, status in (([True, False, False], "ok"), ([False] * 3, "warning")):  # 2 may be chance
        beaten = {"apgd": stands, "apgd_t": stands, "square": np.array(left)}
        found = rows_of(honest, attack=judge, correct=beaten["square"], parts=beaten)
        assert found["black_box_not_stronger"]["status"] == status
    assert "fooled 3 of 3 images (100.00%)" in found["black_box_not_stronger"]["detail"]
    found = rows_of(honest, attack=judge, correct=stands, parts=beaten)
    assert found["more_steps"]["status"] == "ok"  # of 1.5 an attack can take 0.3
    near = Two(lambda x: 3 * x - 4)  # 0.5 at the images, and the judge has overlooked all
    found = rows_of(near, attack=judge, correct=stands, parts=dict.fromkeys(beaten, stands))
    assert found["black_box_not_stronger"]["status"] == "ok"
    assert found["more_steps"]["status"] == "warning"
    assert {"black_box_not_stronger", "more_steps"}.isdisjoint(rows_of(near))


def test_more_queries_are_held_against_the_judge():
    """How many of 36 pixels lie on the right side of their middle, in whole numbers: no gradient,
    and a search that goes uphill one patch after the other needs its time."""
    side = torch.where(torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.5, -1, 1)

    def agreeing(least):
        def forward(x):
            of = ((x - 0.5).sign() * side).sum((1, 2, 3)).detach() + 0 * x.sum((1, 2, 3))
            return torch.stack([least - of, torch.zeros_like(of)], 1)

        return forward

    images, labels = torch.full((3, 1, 6, 6), 0.5), torch.zeros(3, dtype=torch.int64)
    for least, few, many, status in ((9, 3, 3, "ok"), (25, 0, 3, "warning"), (36, 0, 0, "ok")):
        network = nn.Module()
        network.forward = agreeing(least)
        for queries, fooled in ((40, few), (200, many)):
            attack = attack_of("square", queries=queries)
            found = predicted(
                predict(network, craft(network, images, labels, attack=attack, seed=1))
            )
            assert int((found != labels).sum()) == fooled, (least, queries)
        judge = attack_of("standard")
        stands = np.full(3, not few)
        row = rows_of(network, images, labels, attack=judge, correct=stands)["more_steps"]
        assert row["status"] == status, row["detail"]
        assert ("Square of 200 queries 3 more (100.00%)" in row["detail"]) == (status != "ok")


@pytest.fixture(scope="module")
def planted():
    """The benchmark of planted networks, with less to learn."""
    path = ROOT / "benchmarks/masking.py"
    spec = importlib.util.spec_from_file_location("planted", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DATA["digits"] |= {"train": 400, "test": 60}
    module.EPOCHS["digits"] = 2
    return module


EXPECTED = {
    "activations cut around their mean": {"false_gradients"},
    "input quantised": {"zero_gradients", "false_gradients"},
    "logits times 1,000": {"saturated_logits"},
    "sign activation": {"zero_gradients", "false_gradients"},
    "noise in eval mode": {"randomised_outputs", "false_gradients"},
    "residual branches detached": {"false_gradients"},
}


def test_planted_networks_are_refused_and_what_they_were_made_of_is_not(planted):
    dataset = planted.dataset_of("digits")
    images, labels = images_to_test(dataset)
    for name, expected in EXPECTED.items():
        found = rows_of(planted.PLANTED[name](), images, labels, attack=attack_of())
        warned = {check for check, row in found.items() if row["status"] == "warning"}
        assert expected <= warned, name
        assert masked(found.values()).startswith("Accuracy under attack is not to be believed, as ")
    for network in ("small_conv", "small_resnet"):
        honest = planted.trained("digits", network, "standard")
        assert masked(rows_of(honest, images, labels).values()) == ""


def test_the_judge_sees_through_a_quantised_input(planted):
    images, labels = (part[:30] for part in images_to_test(planted.dataset_of("digits")))
    network, parts = planted.PLANTED["input quantised"](), Parts()
    judge = attack_of("standard", eps=0.2)
    adversarial = craft(network, images, labels, attack=judge, seed=0, after=parts)
    correct = (predicted(predict(network, adversarial)) == labels).numpy()
    stood = parts.of(len(images))
    assert (stood["square"] == correct).all()
    assert stood["apgd_t"].mean() > stood["square"].mean()
    found = rows_of(network, images, labels, attack=judge, correct=correct, parts=stood)
    assert found["black_box_not_stronger"]["status"] == "warning"
