"""Recipes of adversarial training against hand-worked values and a plain second implementation."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from trainings import (
    assert_same_bits,
    dataset_of,
    network_of,
    quiet,
    settings_of,
    trained,
)

from faultline.attacks.ascent import random_start
from faultline.base.errors import UserError
from faultline.base.files import load_arrays, load_table, load_tensors, save_tensors
from faultline.data.splits import DataSet
from faultline.networks.evaluation import evaluation, predict
from faultline.networks.probes import relative_errors, watch
from faultline.networks.registry import build
from faultline.studies.sustainability.lists import by_perturber, most_vulnerable, regularised_layers
from faultline.training.checkpoints import checkpoint, restore
from faultline.training.epochs import HISTORY, make_optimizer, train_epochs
from faultline.training.recipes import craft, loss_of

BASES = ("at-fgsm", "at-pgd", "at-fast", "at-nfgsm", "at-trades", "at-apgd")
ADVERSARIAL = {"eps": 0.1, "norm": "linf", "steps": 3, "step_size": None, "beta": 6.0}
UNIT = (0.0, 1.0)


def recipe_of(recipe, *, at="activation", **adversarial):
    return settings_of(
        recipe=recipe,
        adversarial=ADVERSARIAL | adversarial,
        regularisation={"at": at} if recipe.endswith("-lr") else None,
    )


def network(seed=0):
    """Double precision: in single, the sign of a gradient near zero is a matter of rounding."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(7, 1, 6, 6, generator=generator).double()
    return images, torch.randint(0, 3, (7,), generator=generator)


def naive_attacked(model, images, labels, *, recipe, eps, norm, steps, seed):
    """The images that a recipe crafts, by plain autograd on a copy of the network."""
    model = copy.deepcopy(model).eval()
    start = random_start(images.shape, eps=eps, norm=norm, seed=seed).double()
    step = 2.5 * eps / steps
    if recipe == "at-fgsm":
        start, steps, step = torch.zeros_like(images), 1, eps
    elif recipe == "at-fast":
        steps, step = 1, 1.25 * eps
    elif recipe == "at-trades":
        draws = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        start = 0.001 * draws.double()
    x = (images + start).clamp(*UNIT)
    if recipe == "at-nfgsm":  # from twice as much noise, and nothing is clipped
        noise = random_start(images.shape, eps=2 * eps, norm=norm, seed=seed).double()
        x = (images + noise).requires_grad_()
        loss = F.cross_entropy(model(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        ways = gradient.sign() if norm == "linf" else torch.stack([g / g.norm() for g in gradient])
        return (x + eps * ways).detach()
    for _ in range(steps):
        x = x.detach().requires_grad_()
        if recipe == "at-trades":
            wanted = model(images).softmax(1).detach()
            loss = F.kl_div(model(x).log_softmax(1), wanted, reduction="sum")
        else:
            loss = F.cross_entropy(model(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        if norm == "linf":
            delta = (x + step * gradient.sign() - images).clamp(-eps, eps)
        else:
            delta = torch.stack([g / g.norm() for g in gradient]) * step + x - images
            delta = torch.stack([d * min(1, eps / d.norm()) for d in delta])
        x = (images + delta).clamp(*UNIT)
    return x.detach()


def naive_loss(model, images, attacked, labels, *, recipe, gammas, beta):
    """(J + regulariser, regulariser) with the outputs of modules read by hand."""

    def outputs(x):
        seen = []
        for module in model:
            x = module(x)
            seen.append(x)
        return x, {"0": seen[2], "4": seen[5]}

    base = recipe.removesuffix("-lr")
    clean, before = outputs(images) if recipe.endswith("-lr") or base == "at-trades" else (0, 0)
    out, after = outputs(attacked)
    if base == "at-trades":
        p, q = clean.softmax(1), out.softmax(1)
        total = F.cross_entropy(clean, labels) + beta * (p * (p / q).log()).sum(1).mean()
    else:
        total = F.cross_entropy(out, labels)
    extra = 0.0
    for name, gamma in gammas.items():
        pairs = zip(before[name], after[name], strict=True)
        extra = extra + gamma * sum((a - b).norm() / a.norm() for a, b in pairs) / len(images)
    return total + extra, extra


@pytest.mark.parametrize(
    ("recipe", "norm"),
    [
        (base + suffix, norm)
        for base in BASES[:4]
        for suffix in ("", "-lr")
        for norm in ("linf", "l2")
        if (base, norm) != ("at-fgsm", "l2")  # which knows linf only
    ],
)
def test_loss_and_gradient_against_plain_autograd(batch, recipe, norm):
    images, labels = batch
    ours, plain = network().train(), network().train()
    gammas = {"0": 0.7, "4": 0.2} if recipe.endswith("-lr") else {}
    eps = 0.1 if norm == "linf" else 0.8
    given = {"settings": recipe_of(recipe, norm=norm, eps=eps), "bounds": UNIT, "seed": 5}
    attacked = naive_attacked(
        plain,
        images,
        labels,
        recipe=recipe.removesuffix("-lr"),
        eps=eps,
        norm=norm,
        steps=3,
        seed=5,
    )
    torch.testing.assert_close(craft(ours, images, labels, **given), attacked, rtol=0, atol=1e-9)
    expected, extra = naive_loss(
        plain, images, attacked, labels, recipe=recipe, gammas=gammas, beta=6.0
    )
    expected.backward()
    found = loss_of(ours, images, labels, **given, regularised=gammas)
    assert all(parameter.grad is None for parameter in ours.parameters())
    found.total.backward()
    torch.testing.assert_close(found.total, expected)
    if gammas:
        torch.testing.assert_close(found.regulariser, extra)
    else:
        assert found.regulariser is None
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(ours.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_apgd_recipe_uses_its_few_steps(batch):
    images, labels = batch
    model = network().train()
    given = {"bounds": UNIT, "seed": 5}
    attacked = craft(model, images, labels, settings=recipe_of("at-apgd"), **given)
    found = loss_of(model, images, labels, settings=recipe_of("at-apgd"), **given)
    again = network().train()
    torch.testing.assert_close(found.total, F.cross_entropy(again(attacked), labels))
    assert (attacked - images).abs().max() <= 0.1 + 1e-9
    losses = [
        F.cross_entropy(
            predict(
                model, craft(model, images, labels, settings=recipe_of("at-apgd", steps=n), **given)
            ),
            labels,
        )
        for n in (1, 8)
    ]
    assert losses[0] < losses[1]


class Identity(nn.Module):
    """Logits (x0, x1); the network has nothing to learn but a factor."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.factor * x


def test_trades_and_fast_by_hand():
    x, y = torch.tensor([[0.5, 0.0]]), torch.tensor([0])
    given = {"bounds": None, "seed": 9}
    # TRADES pushes both coordinates one way, whichever its start leans to, to the ball's corner:
    # the logit difference goes from 0.5 to 0.7, as less is closer, or to 0.3.
    settings = recipe_of("at-trades", beta=2.0, steps=4)
    attacked = craft(Identity(), x, y, settings=settings, **given)
    difference = (attacked[0, 0] - attacked[0, 1]).item()
    assert difference == pytest.approx(0.7, abs=1e-6) or difference == pytest.approx(0.3, abs=1e-6)
    p, q = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-difference))
    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    loss = loss_of(Identity(), x, y, settings=settings, **given)
    assert loss.total.item() == pytest.approx(-math.log(p) + 2 * divergence, rel=1e-4)

    # FAST: from its start, 1.25 eps along the sign (- for the label, + for the other), then back
    # into the ball; with a step below 1 it stays short of the ball's edge.
    start = random_start(x.shape, eps=0.1, norm="linf", seed=9)
    signs = torch.tensor([[-1.0, 1.0]])
    for share in (None, 0.2):
        attacked = craft(Identity(), x, y, settings=recipe_of("at-fast", step_size=share), **given)
        expected = (start + (share or 1.25) * 0.1 * signs).clamp(-0.1, 0.1)
        torch.testing.assert_close(attacked, x + expected)


def test_trades_of_confident_networks_has_a_gradient():
    # probabilities that round to 0 once made it NaN
    model = Identity()
    x, y = torch.tensor([[300.0, 0.0]]), torch.tensor([0])
    settings = recipe_of("at-trades", eps=200.0)
    loss_of(model, x, y, settings=settings, bounds=None, seed=0).total.backward()
    assert model.factor.grad.isfinite()


@pytest.mark.parametrize("recipe", BASES)
def test_crafting_leaves_no_trace_and_draws_from_its_seed(batch, recipe):
    images, labels = (batch[0].float(), batch[1])
    model = network().float().train()
    model[1].eval()
    next(model.parameters()).requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    random_state, kept = torch.get_rng_state(), images.clone()
    given = {"settings": recipe_of(recipe), "bounds": UNIT}
    one, again, other = (craft(model, images, labels, **given, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (recipe == "at-fgsm")
    within = recipe != "at-nfgsm"  # which goes up to three times as far, and over the bounds
    assert (one.min() >= 0 and one.max() <= 1) == within
    assert (one - images).abs().max() <= (0.1 if within else 0.3) + 1e-6
    assert not one.requires_grad and torch.equal(images, kept)
    assert_same_bits(dict(before), dict(model.state_dict()))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [m.training for m in model][:3] == [True, False, True]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    assert wanted == [False] + [True] * (len(wanted) - 1)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("recipe", ["at-pgd", "at-fast", "at-trades"])
def test_every_batch_of_every_epoch_and_seed_is_attacked_from_a_start_of_its_own(recipe):
    """Where all images are the same and nothing is learned, losses differ by their starts alone."""

    def losses(seed, n=8):
        split = (torch.full((n, 1, 2, 2), 0.5), torch.zeros(n, dtype=torch.long))
        splits = dict.fromkeys(("train", "validation", "test"), split)
        data = DataSet("made", 3, (0.0, 1.0), None, (0.0,), (1.0,), splits)
        settings = recipe_of(recipe, steps=1, step_size=0.1)
        settings |= {"optimizer": "sgd", "lr": 1e-20, "batch_size": 8}
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        run = {"settings": settings, "network": model, "seed": seed, "dataset": data}
        return [row["train_loss"] for row in trained(range(3), **run)[2]]

    one, two_batches, other = losses(0), losses(0, n=16), losses(1)
    assert len({*one, *two_batches, *other}) == 9


@pytest.mark.parametrize("base", BASES)
def test_gamma_zero_and_an_empty_list_are_the_base(base):
    expected, _, rows = trained(range(2), settings=recipe_of(base))
    for regularised in ({"0": 0.0}, {}):
        found, _, again = trained(
            range(2), settings=recipe_of(f"{base}-lr"), regularised=regularised
        )
        assert_same_bits(dict(found.state_dict()), dict(expected.state_dict()))
        assert str(again) == str(rows)


def test_both_batches_meet_the_same_dropout():
    model = nn.Sequential(nn.Linear(50, 50), nn.Dropout(0.5), nn.ReLU(), nn.Linear(50, 2)).train()
    images, labels = torch.rand(20, 50), torch.zeros(20, dtype=torch.long)
    settings = recipe_of("at-fgsm-lr", eps=1e-6)
    given = {"settings": settings, "bounds": None, "regularised": {"0": 1.0}}
    losses = [loss_of(model, images, labels, **given, seed=seed) for seed in (0, 0, 1)]
    assert losses[0].regulariser < 1e-3  # hardly any attack, so no relative error
    assert torch.equal(losses[0].clean, losses[1].clean)
    assert not torch.equal(losses[0].clean, losses[2].clean)


@pytest.mark.parametrize("recipe", ["at-pgd-lr", "at-fast", "at-trades-lr", "at-apgd"])
def test_a_chain_of_segments_gives_the_bits_of_one_run(recipe, tmp_path):
    settings = recipe_of(recipe, steps=2)
    more = {"regularised": {"0": 0.5} if recipe.endswith("-lr") else None}
    whole, whole_optimizer, whole_rows = trained(range(3), settings=settings, **more)
    rows, path = [], tmp_path / "checkpoint.pt"
    for epochs in (range(1), range(1, 3)):
        torch.manual_seed(77)  # another process: another past
        model = network_of(seed=epochs.start)
        optimizer = make_optimizer(model, settings)
        if epochs.start:
            restore(model, optimizer, load_tensors(path, "a checkpoint"))
        rows += trained(epochs, settings=settings, network=model, optimizer=optimizer, **more)[2]
        save_tensors(checkpoint(model, optimizer, epoch=epochs.stop, seed=0), path)
    state = load_tensors(path, "a checkpoint")
    assert_same_bits(dict(state["network"]), dict(whole.state_dict()))
    assert_same_bits(state["optimizer"], whole_optimizer.state_dict())
    assert str(rows) == str(whole_rows)


@pytest.mark.parametrize(
    ("recipe", "clean", "adversarial", "regulariser"),
    [
        ("standard", True, False, False),
        ("at-pgd", False, True, False),
        ("at-pgd-lr", True, True, True),
        ("at-trades", True, True, False),
    ],
)
def test_history_holds_what_the_recipe_has(recipe, clean, adversarial, regulariser):
    regularised = {"0": 0.5} if regulariser else None
    _, _, (row,) = trained(range(1), settings=recipe_of(recipe), regularised=regularised)
    assert list(row) == HISTORY
    assert math.isfinite(row["train_accuracy"]) == clean
    assert math.isfinite(row["train_adversarial_accuracy"]) == adversarial
    assert math.isfinite(row["regulariser"]) == regulariser
    assert 0 < row["train_loss"] < math.inf and 0 <= row["validation_accuracy"] <= 1


def digits(n=400):
    data = load_digits()
    images = torch.tensor(data.images[:n], dtype=torch.uint8).unsqueeze(1)
    labels = torch.tensor(data.target[:n])
    splits = {"train": (images[:300], labels[:300]), "validation": (images[300:], labels[300:])}
    return DataSet("digits", 10, UNIT, 16, (0.3,), (0.37,), splits)


def test_the_regulariser_lowers_the_relative_error_of_its_layer():
    dataset, errors, accuracies = digits(), {}, {}
    images, labels = dataset.splits["validation"]
    images = dataset.pixels(images)
    for gamma in (0.0, 2.0):
        model = build("small_conv", shape=(1, 8, 8), classes=10, mean=0.3, std=0.37, seed=0)
        settings = recipe_of("at-fgsm-lr") | {"batch_size": 50, "lr": 0.003}
        _, _, rows = trained(
            range(6),
            settings=settings,
            network=model,
            dataset=dataset,
            regularised={"conv3": gamma},
        )
        attacked = craft(model, images, labels, settings=settings, bounds=UNIT, seed=0)
        with evaluation(model), torch.no_grad(), watch(model, at="activation") as seen:
            model(images)
            before = dict(seen)
            model(attacked)
        errors[gamma] = relative_errors(before["conv3"], seen["conv3"]).mean().item()
        accuracies[gamma] = rows[-1]["validation_accuracy"]
    assert errors[2.0] < 0.8 * errors[0.0]
    assert accuracies[2.0] > 0.5  # it has learned, too


def test_regularising_at_the_layers_themselves():
    settings = recipe_of("at-fgsm-lr", at="layer")
    _, _, (row,) = trained(range(1), settings=settings, regularised={"5": 1.0})
    assert row["regulariser"] > 0
    settings = recipe_of("at-fgsm-lr")
    with pytest.raises(UserError, match="no activation at '5'; the nearest is '0'") as error:
        trained(range(1), settings=settings, regularised={"5": 1.0})
    assert "regularisation.layers" in str(error.value) and "\n" not in str(error.value)


def test_divergence_stops_before_it_is_learned_from():
    settings = recipe_of("at-fgsm-lr") | {"batch_size": 25}
    model = network_of()
    optimizer = make_optimizer(model, settings)
    rows = train_epochs(
        model,
        optimizer,
        dataset_of(),
        settings=settings,
        seed=0,
        epochs=range(2),
        regularised={"0": 0.5},
        say=quiet,
    )
    with torch.no_grad():
        model[5].bias[0] = math.nan
    before = model[0].weight.detach().clone()
    with pytest.raises(UserError, match=r"epoch 1, batch 1; .*trainings.*gamma"):
        next(rows)
    assert torch.equal(before, model[0].weight)


def test_frozen_parameters_stay_frozen_under_a_regularised_recipe():
    # selective retraining goes on with the training's own recipe
    settings = recipe_of("at-pgd-lr", steps=2)
    model, optimizer, _ = trained(range(1), settings=settings, regularised={"0": 0.5})
    before = copy.deepcopy(model.state_dict())
    mask = torch.rand(before["5.weight"].shape) < 0.5
    frozen = {"0.weight": torch.ones_like(before["0.weight"], dtype=torch.bool), "5.weight": mask}
    trained(
        range(1, 3),
        settings=settings,
        network=model,
        optimizer=optimizer,
        frozen=frozen,
        regularised={"0": 0.5},
    )
    after = model.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["5.weight"][mask], before["5.weight"][mask])
    assert (after["5.weight"][~mask] != before["5.weight"][~mask]).all()
    assert all(p.requires_grad for n, p in model.named_parameters() if n != "0.weight")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"layers": "mvl", "eta": 0.1}, {"b": 0.5}),
        ({"layers": "mvl", "eta": -5.0}, {"b": 0.5, "a": 0.5}),
        ({"layers": ["c", "a"]}, {"c": 0.5, "a": 0.5}),
        ({"layers": ["c", "a"], "gamma": {"a": 1.0, "c": 2.0}}, {"c": 2.0, "a": 1.0}),
        ({"layers": "mvl", "eta": 5.0}, {}),
    ],
)
def test_layers_of_a_training(capsys, chosen, expected):
    errors = {"pgd/a": [1.0, 2.0], "pgd/b": [3.0, 4.0], "salt/a": [9.0, 9.0], "salt/b": [1.0, 1.0]}
    errors = by_perturber({name: np.array(values) for name, values in errors.items()})
    settings = {"regularisation": {"gamma": 0.5, "perturber": "pgd", "on_empty": "base"} | chosen}
    found = regularised_layers(settings, errors)
    assert list(found.items()) == list(expected.items())
    said = capsys.readouterr().out
    assert ("nothing to regularise" in said) == (not expected)
    assert ("most vulnerable layers" in said) == (chosen["layers"] == "mvl")


def test_an_empty_list_may_stop():
    errors = {"pgd": {"a": np.array([1.0]), "b": np.array([1.0])}}
    chosen = {"layers": "mvl", "gamma": 1, "perturber": "pgd", "on_empty": "stop", "eta": 0.5}
    with pytest.raises(UserError, match=r"no layer .* at eta 0.5; .*regularisation.eta.*on_empty"):
        regularised_layers({"regularisation": chosen}, errors)
    assert regularised_layers({"regularisation": None}) is None


# In the workflow

PLACE = "results/digits/small_conv/{}/seed-0/epoch-{}"


def with_training(workflow, **chosen):
    config = workflow.config()
    config["trainings"]["mended"] = {
        "recipe": "at-pgd-lr",
        "batch_size": 50,
        "epochs": [1, 2],
        "adversarial": {"eps": 0.1, "steps": 2},
        "regularisation": {"layers": "mvl", "gamma": 0.5, "eta": 0.1} | chosen,
    }
    workflow.configure(config)


@pytest.mark.slow
def test_a_training_regularised_at_the_most_vulnerable_layers(rerun):
    with_training(rerun)
    place = PLACE.format("mended", 2)
    target = f"{place}/retraining/regular/result.tsv"
    jobs = rerun.announced(target)
    assert [job["rule"] for job in jobs] == ["train", "train", "retrain"]
    before = (rerun.folder / PLACE.format("standard", 2) / "checkpoint.pt").read_bytes()
    rerun.run("--cores", "1", target)
    assert (rerun.folder / PLACE.format("standard", 2) / "checkpoint.pt").read_bytes() == before

    errors = by_perturber(
        load_arrays(rerun.folder / PLACE.format("standard", 2) / "sustainability/errors.npz")
    )
    listed, _, _ = most_vulnerable(errors["pgd"], eta=0.1)
    assert listed
    for log in ("train", "retrain-regular"):
        said = rerun.folder / place.replace("results", "results/logs") / f"{log}.log"
        assert f": {', '.join(listed)}\n" in said.read_text(encoding="utf-8")
    history = load_table(rerun.folder / place / "history.tsv")
    assert list(history["epoch"]) == [1, 2]
    assert (history["regulariser"] > 0).all() and history[
        "train_adversarial_accuracy"
    ].notna().all()
    further = load_table(rerun.folder / place / "retraining/regular/history.tsv")
    assert list(further["epoch"]) == [3] and (further["regulariser"] > 0).all()
    plain = load_table(rerun.folder / PLACE.format("standard", 2) / "history.tsv")
    assert plain["regulariser"].isna().all() and plain["train_accuracy"].notna().all()


@pytest.mark.slow
def test_all_that_a_list_takes_is_announced(fresh):
    with_training(fresh)
    config = fresh.config()
    config["sustainability"]["epochs"] = []  # the list is made all the same
    config["seeds"] = [0, 1]
    fresh.configure(config)
    jobs = fresh.announced(f"{PLACE.format('mended', 2).replace('seed-0', 'seed-1')}/checkpoint.pt")
    found = [(job["rule"], *job["wildcards"].values()) for job in jobs]
    place = ("digits", "small_conv")
    assert sorted(found) == [
        ("analyse_sustainability", *place, "standard", "1", "2"),
        ("prepare_data", "digits"),
        ("train", *place, "mended", "1", "1"),
        ("train", *place, "mended", "1", "2"),
        ("train", *place, "standard", "1", "1"),
        ("train", *place, "standard", "1", "2"),
    ]
