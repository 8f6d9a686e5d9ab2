"""What attacks refuse, each in one line; modes and outputs under which they must not be silent."""

import copy

import pytest
import torch
from torch import nn

from faultline.attacks.craft import attack_curve, craft, judge
from faultline.attacks.methods import Attack
from faultline.attacks.run import crafters
from faultline.attacks.selfchecks import checks
from faultline.base.errors import UserError
from faultline.networks.architectures import TokenNetwork
from faultline.networks.evaluation import predict

INF, NAN = float("inf"), float("nan")
PGD = {"method": "pgd", "steps": 3}
ATTACKS = [{"method": "fgsm"}, PGD, {**PGD, "norm": "l2"}, {"method": "apgd", "steps": 3}]


def example(n=20, classes=3):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, classes)).eval()
    images = torch.rand(n, 1, 2, 2)
    return network, images, predict(network, images).argmax(1)


NETWORK, IMAGES, LABELS = example()
UNIT = (0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": LABELS[:5]}, "labels: 5 for 20 images"),
        ({"labels": LABELS - 1}, "labels: hold -1"),
        ({"labels": LABELS + 3}, "and the network tells 3 classes apart"),
        ({"labels": nn.functional.one_hot(LABELS)}, "one-hot"),
        ({"images": 2 * IMAGES}, "outside of the bounds 0 to 1"),
        ({"images": IMAGES - 1}, "outside of the bounds 0 to 1"),
        ({"images": IMAGES * NAN}, "images: hold NaN"),
        ({"images": IMAGES * NAN, "bounds": None}, "images: hold NaN"),
        ({"bounds": (1.0, 0.0)}, "outside of the bounds 1 to 0"),
        ({"bounds": (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5))}, "outside of the bounds"),
        ({"images": (255 * IMAGES).byte()}, "images: of type uint8"),
        ({"images": (255 * IMAGES).long()}, "images: of type int64"),
        ({"eps": -0.1}, "eps: -0.1"),
        ({"eps": NAN}, "eps: nan"),
        ({"eps": INF}, "eps: inf"),
        ({"attack": {**PGD, "steps": 0}}, "steps: 0; expected a whole number"),
        ({"attack": {**PGD, "steps": 2.5}}, "steps: 2.5"),
        ({"attack": {**PGD, "step_size": 0}}, "step_size: 0; expected a finite number above 0"),
        ({"attack": {**PGD, "step_size": -1}}, "step_size: -1"),
        ({"attack": {**PGD, "stepsize": 0.1}}, "'stepsize' is unknown; did you mean 'step_size'"),
        (
            {"attack": {"method": "pdg", "steps": 3}},
            "method is 'pdg'; choose one of fgsm",
        ),
        ({"batch_size": 0}, "batch_size: 0"),
    ],
)
def test_refused(changes, words):
    given = {"images": IMAGES, "labels": LABELS, "attack": PGD, "eps": 0.1, "bounds": UNIT}
    given = {"seed": 0, **given, **changes}
    before = len(NETWORK._forward_hooks)
    with pytest.raises(UserError, match=words):
        craft(NETWORK, **given)
    with pytest.raises(UserError, match=words):
        attack_curve(NETWORK, eps_grid=[0], **given)
    assert len(NETWORK._forward_hooks) == before == 0


def test_labels_of_more_classes_are_refused_without_an_attack_too():
    given = {"attack": PGD, "eps": 0, "eps_grid": [], "bounds": UNIT, "seed": 0}
    with pytest.raises(UserError, match="labels: hold 5"):
        attack_curve(NETWORK, IMAGES, LABELS + 3, **given)


def test_a_network_that_gives_no_logits_is_refused():
    class Named(nn.Module):
        def forward(self, images):
            return {"logits": images.flatten(1)}

    with pytest.raises(UserError, match="the network gives a dict"):
        craft(Named(), IMAGES, LABELS, attack=PGD, eps=0.1, bounds=UNIT, seed=0)


def test_an_attack_that_was_checked_before_is_as_good_as_its_settings():
    given = {"eps": 0.1, "bounds": UNIT}
    expected = craft(NETWORK, IMAGES, LABELS, attack=PGD, seed=0, **given)
    attack = Attack.of(PGD, **given)
    assert torch.equal(craft(NETWORK, IMAGES, LABELS, attack=attack, seed=0), expected)
    assert torch.equal(craft(NETWORK, IMAGES, LABELS, attack=attack, eps=0, seed=0), IMAGES)
    for lacking, words in (("eps", "needs the key eps"), ("bounds", "needs the bounds")):
        with pytest.raises(UserError, match=words):
            Attack.of(PGD, **{key: value for key, value in given.items() if key != lacking})


def test_crafters_need_an_eps():
    with pytest.raises(UserError, match="attack mine: needs the key eps"):
        crafters({"mine": PGD}, None, seed=0)


def test_whole_numbers_of_any_type_are_labels_and_tokens_have_no_bounds():
    given = {"attack": PGD, "eps": 0.1, "bounds": UNIT, "seed": 0}
    expected = craft(NETWORK, IMAGES, LABELS, **given)
    for labels in (LABELS.int(), LABELS.byte(), LABELS.float()):
        assert torch.equal(craft(NETWORK, IMAGES, labels, **given), expected)
    body = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))
    tokens = torch.randint(9, (20, 3))
    assert craft(TokenNetwork(body).eval(), tokens, LABELS, **given).shape == (20, 3, 5)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a["method"] + a.get("norm", ""))
def test_inference_mode_changes_no_bit(attack):
    given = {"attack": attack, "eps_grid": [0.1], "eps": 0.2, "bounds": UNIT, "seed": 0}
    expected, images = attack_curve(NETWORK, IMAGES, LABELS, **given)
    assert not torch.equal(images, IMAGES)
    with torch.inference_mode():
        inside = IMAGES.clone(), LABELS.clone()
        correct, made = attack_curve(NETWORK, *inside, **given)
    again = attack_curve(NETWORK, *inside, **given)[1]  # inference tensors, outside of the mode
    assert torch.equal(made, images) and torch.equal(again, images)
    assert {eps: hits.tolist() for eps, hits in correct.items()} == {
        eps: hits.tolist() for eps, hits in expected.items()
    }


def test_a_function_of_the_users_own_in_inference_mode(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n\n\n"
        "def step(network, images, labels, *, attack, eps, bounds, start):\n"
        "    images = images.requires_grad_()\n"
        "    loss = torch.nn.functional.cross_entropy(network(images), labels)\n"
        "    (gradient,) = torch.autograd.grad(loss, images)\n"
        "    return (images + eps * gradient.sign()).clamp(*bounds).detach()\n"
    )
    given = {"attack": {"method": f"{file}:step"}, "eps": 0.1, "bounds": UNIT, "seed": 0}
    expected = craft(NETWORK, IMAGES, LABELS, **given)
    with torch.inference_mode():
        assert torch.equal(craft(NETWORK, IMAGES.clone(), LABELS.clone(), **given), expected)


def test_a_network_made_in_inference_mode_is_refused():
    given = {"attack": PGD, "eps": 0.1, "bounds": UNIT, "seed": 0}
    expected = craft(NETWORK, IMAGES, LABELS, **given)
    with torch.inference_mode():
        made = copy.deepcopy(NETWORK)
        with pytest.raises(UserError, match=r"made inside of torch.inference_mode"):
            craft(made, IMAGES, LABELS, **given)
    with pytest.raises(UserError, match=r"give copy.deepcopy\(network\)"):
        craft(made, IMAGES, LABELS, **given)
    assert torch.equal(craft(copy.deepcopy(made), IMAGES, LABELS, **given), expected)


class Broken(nn.Module):
    """Gives NaN or infinite logits for images whose first pixel is above a half."""

    def __init__(self, value):
        super().__init__()
        self.network, self.value = NETWORK, value

    def forward(self, images):
        logits = self.network(images)
        above = images.flatten(1)[:, :1] > 0.5
        return torch.where(above, torch.full_like(logits, self.value), logits)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_outputs_that_are_not_finite_are_misclassified_counted_and_told(value):
    network, labels, told = Broken(value), torch.zeros(20, dtype=torch.long), []
    above = IMAGES.flatten(1)[:, 0] > 0.5
    given = {"attack": PGD, "eps": 0.0, "bounds": UNIT}
    settings = {"eps_grid": [], "seed": 0, "say": told.append}
    correct, made = attack_curve(network, IMAGES, labels, **settings, **given)
    expected = (predict(NETWORK, IMAGES).argmax(1) == 0) & ~above
    assert correct[0.0].tolist() == expected.tolist()
    count = int(above.sum())
    assert told == [f"eps 0: {count} outputs of 20 are not finite and count as misclassified"]
    told = []
    assert judge(network, IMAGES, labels, attacks={}, say=told.append)["clean"].tolist() == (
        expected.tolist()
    )
    assert told == [f"clean: {count} outputs of 20 are not finite and count as misclassified"]
    found = checks(network, IMAGES, labels, adversarial=made, correct=correct, **given)
    status = {row["check"]: row["status"] for row in found}
    assert status["finite_outputs"] == "warning" and status["randomised_outputs"] == "ok"
    detail = {row["check"]: row["detail"] for row in found}
    assert f"for {count} of 20 images, and for {count} of their adv" in detail["finite_outputs"]


def test_a_class_that_is_switched_off_is_no_fault():
    class Masked(nn.Module):
        def forward(self, images):
            logits = NETWORK(images)
            return torch.cat([logits, torch.full_like(logits[:, :1], -INF)], 1)

    for attack in ATTACKS:
        plain, masked = (
            craft(network, IMAGES, LABELS, attack=attack, eps=0.2, bounds=UNIT, seed=0)
            for network in (NETWORK, Masked())
        )
        assert torch.equal(plain, masked)
    given, settings = {"attack": PGD, "eps": 0.2, "bounds": UNIT}, {"eps_grid": [0], "seed": 0}
    correct, made = attack_curve(Masked(), IMAGES, LABELS, **settings, **given)
    found = checks(Masked(), IMAGES, LABELS, adversarial=made, correct=correct, **given)
    assert [row["check"] for row in found if row["status"] != "ok"] == []
