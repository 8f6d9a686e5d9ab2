"""Attacks on tokens, which work on what is added to the output of their embedding."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from faultline.ablation.sweep import sweep
from faultline.ablation.tracing import Traced, Untraceable
from faultline.ablation.variants import Variant
from faultline.attacks.ascent import Ball, pgd, random_start
from faultline.attacks.craft import attack_curve, craft
from faultline.attacks.selfchecks import checks
from faultline.attacks.space import space
from faultline.networks.architectures import TokenNetwork
from faultline.networks.evaluation import predict
from faultline.training.epochs import train_epochs

ATTACKS = {
    "fgsm": {"method": "fgsm"},
    "pgd": {"method": "pgd", "steps": 5},
    "pgd-l2": {"method": "pgd", "norm": "l2", "steps": 5},
    "apgd": {"method": "apgd", "steps": 5},
}
COLUMNS = 6


class Head(nn.Module):
    """What follows the embedding: [n, t, c] to logits."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(COLUMNS, 16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, embedded):
        return self.fc2(self.fc1(embedded).tanh().mean(1))


class Text(nn.Module):
    def __init__(self, embedding=nn.Embedding):
        super().__init__()
        self.embedding = embedding(20, COLUMNS)
        self.head = Head()

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


@pytest.fixture
def text():
    """(network, tokens [n, 7], labels)"""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TokenNetwork(Text()).eval()
    tokens = torch.randint(20, (60, 7), generator=torch.Generator().manual_seed(1))
    return network, tokens, predict(network, tokens).argmax(1)


def packed(tokens, shift=None):
    shift = torch.zeros(*tokens.shape, COLUMNS) if shift is None else shift
    return torch.cat([tokens[..., None].float(), shift], -1)


def test_fgsm_by_hand():
    body = nn.Sequential(nn.Embedding(2, 2), nn.Flatten(), nn.Linear(2, 2, bias=False))
    body[0].weight.data = torch.tensor([[3.0, -4.0], [0.0, 5.0]])  # root mean square sqrt(50 / 4)
    body[2].weight.data = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    network = TokenNetwork(body).eval()
    assert network.unit == pytest.approx(12.5**0.5)
    tokens, labels = torch.tensor([[0], [1]]), torch.tensor([0, 1])
    found = craft(
        network, tokens, labels, attack={"method": "fgsm"}, eps=0.1, bounds=(0, 1), seed=0
    )
    step = 0.1 * 12.5**0.5  # down the first logit for label 0, up for label 1
    expected = torch.tensor([[[0, -step, step]], [[1, step, -step]]])
    torch.testing.assert_close(found, expected)
    logits = torch.tensor([[3 - step + 2 * (4 - step), 0], [step - 2 * (5 - step), 0]])
    torch.testing.assert_close(network(found), logits)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_on_tokens_is_that_on_what_follows_their_embedding(text, norm):
    network, tokens, labels = text
    network = network.double()
    eps, unit = (0.2, network.unit) if norm == "linf" else (1.5, network.unit)
    start = random_start((*tokens.shape, COLUMNS), eps=eps, norm=norm, seed=3).double()
    given = {"steps": 6, "step_size": 1 / 3}
    of = space(network, packed(tokens).double())
    ours = of.images(pgd(of.network, of.points, labels, ball=Ball(eps, norm), start=start, **given))
    embedded = network.embedding.weight[tokens].detach()
    theirs = pgd(
        network.body.head,
        embedded,
        labels,
        ball=Ball(unit * eps, norm),
        start=unit * start,
        **given,
    )
    torch.testing.assert_close(ours[..., 1:], theirs - embedded, rtol=0, atol=1e-9)
    torch.testing.assert_close(network(ours), network.body.head(theirs))


def test_foolbox_attacks_embeddings_as_we_do(text):
    foolbox = pytest.importorskip("foolbox")
    network, tokens, labels = text
    embedded = network.embedding.weight[tokens].detach()
    reference = foolbox.PyTorchModel(network.body.head.eval(), bounds=(-1e3, 1e3))
    eps = 0.1 * network.unit
    _, theirs, _ = foolbox.attacks.FGSM()(reference, embedded, labels, epsilons=eps)
    ours = craft(network, tokens, labels, attack=ATTACKS["fgsm"], eps=0.1, bounds=None, seed=0)
    torch.testing.assert_close(ours[..., 1:], theirs - embedded, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_and_its_checks(text, name):
    network, tokens, labels = text
    eps = 0.5 if "l2" not in name else 4.0
    given = {"attack": ATTACKS[name], "eps": eps, "bounds": None}
    before = packed(tokens)
    correct, moved = attack_curve(network, before, labels, eps_grid=[0], seed=0, **given)
    assert correct[0.0].all() and correct[eps].mean() < 0.9
    assert torch.equal(moved[..., 0], before[..., 0])
    found = checks(network, before, labels, adversarial=moved, correct=correct, **given)
    assert all(row["status"] == "ok" for row in found), found
    again = craft(network, tokens, labels, seed=0, batch_size=7, **given)  # plain, in batches
    torch.testing.assert_close(again, moved, rtol=0, atol=1e-5)
    further = space(network, moved)
    torch.testing.assert_close(further.images(further.points), moved)
    moved[0, 0, 1] += 10
    found = checks(network, before, labels, adversarial=moved, correct=correct, **given)
    assert {row["check"]: row["status"] for row in found}["inside_ball"] == "warning"


@pytest.mark.parametrize("method", ["apgd", "apgd_t", "square", "standard"])
def test_tokens_that_still_stand_are_attacked_as_if_alone(text, method):
    network, tokens, labels = text
    attack = {"method": method, "norm": "linf", "steps": 4, "queries": 12}
    given = {"attack": attack, "eps": 0.2, "bounds": None, "seed": 0, "until_fooled": True}
    moved = craft(network, tokens, labels, **given)
    stand = predict(network, moved).argmax(1) == labels
    assert 5 < stand.sum() < 55  # some are left early, others to the end
    alone = craft(network, tokens, labels, batch_size=1, **given)
    assert torch.equal(predict(network, alone).argmax(1) == labels, stand)
    # the sign of a gradient near zero is a matter of rounding
    assert ((moved - alone).abs() > 1e-5).float().mean() < 0.005
    assert torch.equal(moved[..., 0], tokens.float())


def test_the_unit_is_that_of_the_weights_that_were_measured(text):
    network, tokens, labels = text
    unit = network.unit
    network.embedding.weight.data.zero_()
    given = {"attack": ATTACKS["fgsm"], "eps": 0.1, "bounds": None, "seed": 0}
    assert craft(network, tokens, labels, **given)[..., 1:].abs().max() == pytest.approx(0.1 * unit)
    network.embedding.weight.data.fill_(2.0)
    network.measure()
    assert network.unit == 2.0


def test_training_measures_anew(text):
    network, tokens, labels = text
    network.embedding.weight.data.mul_(5)
    data = type("Data", (), {})()
    data.splits = {"train": (tokens, labels), "validation": (tokens, labels)}
    data.pixels, data.bounds = lambda images: images, None
    settings = {
        "lr": 0.01,
        "schedule": {"kind": "constant"},
        "batch_size": 20,
        "augmentation": {"shift": 0, "flip": False},
        "recipe": "at-pgd",
        "adversarial": {"eps": 0.1, "norm": "linf", "steps": 2, "step_size": None},
    }
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    (row,) = train_epochs(
        network, optimizer, data, settings=settings, seed=0, epochs=range(1), say=lambda _: None
    )
    assert 0 < row["train_adversarial_accuracy"] <= 1
    weight = network.embedding.weight.detach()
    assert network.unit == pytest.approx(weight.square().mean().sqrt().item())


class Twice(Text):
    """Calls its embedding once more, which nothing is added to."""

    def forward(self, tokens):
        return self.head(self.embedding(tokens)) + self.embedding(tokens).mean((1, 2))[:, None]


class Kept(nn.Embedding):
    """An embedding of the user's own kind."""

    def forward(self, tokens):
        return 2 * super().forward(tokens)


@pytest.mark.parametrize("body", [Text, Twice, lambda: Text(Kept)])
def test_what_is_added_goes_to_the_first_output_of_the_embedding(body):
    network = TokenNetwork(body()).eval()
    tokens, shift = torch.randint(20, (4, 7)), torch.rand(4, 7, COLUMNS)
    embedding = network.embedding
    assert isinstance(embedding, nn.Embedding)
    scale = 2 if isinstance(embedding, Kept) else 1
    embedded = scale * embedding.weight[tokens]
    rest = embedded.mean((1, 2))[:, None] if body is Twice else 0
    head = network.body.head
    torch.testing.assert_close(network(tokens), head(embedded) + rest)
    torch.testing.assert_close(network(packed(tokens)), network(tokens))
    torch.testing.assert_close(network(packed(tokens, shift)), head(embedded + shift) + rest)


class Odd(nn.Module):
    """Goes by the content of the tokens, which torch.fx cannot trace."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, COLUMNS)

    def forward(self, tokens):
        return self.embedding(tokens) * (2 if tokens.sum() > 1e9 else 1)


class Inside(nn.Module):
    """Its embedding lies in a part that torch.fx cannot trace."""

    def __init__(self):
        super().__init__()
        self.odd, self.head = Odd(), Head()

    def forward(self, tokens):
        return self.head(self.odd(tokens))


@pytest.mark.parametrize(("body", "traceable"), [(Text, True), (Twice, True), (Inside, False)])
def test_a_sweep_loses_nothing_of_what_is_added(body, traceable):
    network = TokenNetwork(body()).eval()
    tokens = torch.randint(20, (40, 7))
    sets = {"clean": packed(tokens)}
    sets["moved"] = packed(tokens, torch.randn(40, 7, COLUMNS))
    if traceable:
        traced = Traced(network, ["head.fc1"], sets["clean"])
        for images in sets.values():
            start = traced.start(images)
            kept = traced.run(traced.after, start, keep=[traced.result])
            torch.testing.assert_close(kept[traced.result], network(images))
    else:
        with pytest.raises(Untraceable):
            Traced(network, ["head.fc1"], sets["clean"])
    weight = network.body.head.fc1.weight.detach()
    halves = [weight * (torch.rand_like(weight) < share) for share in (0.3, 0.8)]
    variants = [
        Variant({"at": at}, at, replace=lambda half=half: {"head.fc1.weight": half})
        for at, half in enumerate(halves)
    ]
    labels = predict(network, sets["clean"]).argmax(1)
    facts = sweep(network, variants, sets, labels, ablated=["head.fc1"], say=lambda _: None)
    for name, images in sets.items():
        for place, half in enumerate(halves):
            network.body.head.fc1.weight.data = half
            expected = (predict(network, images).argmax(1) == labels).numpy()
            assert np.array_equal(facts.correct[name][place], expected)
        network.body.head.fc1.weight.data = weight


@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd-l2", "apgd"])
@pytest.mark.parametrize(("body", "traceable"), [(Text, True), (Inside, False)])
def test_a_sweep_attacks_ablated_networks_as_they_are_attacked_alone(body, traceable, name):
    """In the space of the embedding, too: the tokens stay, and eps is in the embedding's unit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TokenNetwork(body()).eval()
    tokens = torch.randint(1, 20, (60, 7), generator=torch.Generator().manual_seed(1))
    labels, images = predict(network, tokens).argmax(1), packed(tokens)
    held = torch.full((1 + COLUMNS,), torch.inf).index_fill(0, torch.tensor([0]), 0.0)
    attack = partial(craft, attack=ATTACKS[name], eps=0.3, bounds=(-held, held), seed=4)
    layer = network.body.head.fc1
    weight = layer.weight.detach().clone()
    variants = [
        Variant({"kept": kept}, kept, lambda kept=kept: {"head.fc1.weight": kept * weight})
        for kept in (0.3, 0.8)
    ]
    given = {"ablated": ["head.fc1"], "attacks": {name: attack}, "say": lambda _: None}
    facts = sweep(network, variants, {"clean": images}, labels, **given)
    expected = []
    for kept in (1.0, 0.3, 0.8):
        layer.weight.data = kept * weight
        attacked = attack(network, images, labels)
        assert torch.equal(attacked[..., 0].long(), tokens)
        expected.append((predict(network, attacked).argmax(1) == labels).numpy())
    found = [facts.base[name], *facts.correct[name]]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert 0 < expected[0].sum() < len(labels)
