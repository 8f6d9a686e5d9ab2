from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from faultline.base.files import load_table, save_table
from faultline.networks.layers import layers as layers_of
from faultline.studies.retraining.frozen import (
    OF_ALL,
    OF_FROZEN,
    by_band,
    by_layer,
    exchanged,
    freezable,
    frozen,
    matched,
)
from faultline.training.epochs import make_optimizer, train_epochs


@pytest.fixture
def layers():
    first, second = nn.Linear(4, 1), nn.Linear(3, 2, bias=False)
    first.weight.data = torch.tensor([[-1.0, -0.6, -0.4, 1.0]])
    second.weight.data = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    return {"first": first, "second": second}


def listed(masks):
    return {name: mask.tolist() for name, mask in masks.items()}


def fragile_of(given):
    return listed(frozen(given, policy="selective", seed=0))


def test_layers_are_frozen_with_their_biases(layers):
    given = by_layer(layers, {"first"})
    masks = frozen(given, policy="selective", seed=0)
    assert listed(masks) == {
        "first.weight": [[True] * 4],
        "first.bias": [True],
        "second.weight": [[False] * 3] * 2,
    }
    assert all(mask.dtype == torch.bool for mask in masks.values())
    assert not any(np.any(mask) for mask in fragile_of(by_layer(layers, set())).values())
    opposite = frozen(given, policy="fragile_only", seed=0)
    assert list(opposite) == list(masks)
    assert all(torch.equal(opposite[name], ~masks[name]) for name in masks)


def test_bands_are_frozen_without_biases(layers):
    # centres -1, 0, 1: the middles at -0.5 and 0.5 part them
    bands = {"first": (np.array([-1.0, 0.0, 1.0]), np.array([True, False, True]))}
    assert fragile_of(by_band(layers, bands)) == {"first.weight": [[True, True, False, True]]}
    bands["second"] = (np.array([0.0, 5.0]), np.array([False, True]))
    masks = fragile_of(by_band(layers, bands))
    assert masks["second.weight"] == [[False, False, False], [True, True, True]]
    assert not by_band(layers, {}).units


# Layers of several parameters, and parameters of several layers


class Tied(nn.Module):
    """A transformer of one block, whose head reads the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Embedding(5, 4), nn.MultiheadAttention(4, 2)
        self.lstm, self.head = nn.LSTM(4, 2), nn.Linear(4, 5)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens).transpose(0, 1)
        x, _ = self.attention(x, x, x)
        x, _ = self.lstm(x)
        return self.head(x.mean(0).repeat(1, 2))


def test_every_parameter_of_a_layer_is_frozen_with_it():
    network = Tied()
    given = by_layer(layers_of(network), {"attention"})
    masks = frozen(given, policy="selective", seed=0)
    assert list(masks) == [name for name, _ in network.named_parameters()]
    for name, mask in masks.items():
        assert mask.shape == network.get_parameter(name).shape
        assert mask.all() if name.startswith("attention.") else not mask.any()
    embed = given.units["embed.weight"]
    assert given.units["head.bias"].unique() == 3 and embed.unique() == 0  # shared: of the first


def test_bands_of_a_layer_go_over_all_of_its_weights():
    network, alphas = Tied(), np.array([-0.2, 0.0, 0.2])
    bands = {name: (alphas, np.array([False, True, False])) for name in ("attention", "lstm")}
    given = by_band(layers_of(network), bands)
    assert list(given.layer) == [0] * 3 + [1] * 3
    masks = frozen(given, policy="selective", seed=0)
    weights = ["attention.in_proj_weight", "attention.out_proj.weight"]
    assert list(masks) == [*weights, "lstm.weight_ih_l0", "lstm.weight_hh_l0"]
    for name, mask in masks.items():  # the middles of the centres are at -0.1 and 0.1
        assert torch.equal(mask, network.get_parameter(name).abs() <= 0.1)


@pytest.mark.parametrize("by", ["layer", "band"])
def test_what_is_frozen_keeps_its_bits_in_training(by):
    torch.manual_seed(0)
    network = Tied()
    layers, bands = layers_of(network), {}
    if by == "layer":
        given = by_layer(layers, {"embed", "lstm"})
    else:
        alphas = (np.array([-0.2, 0.0, 0.2]), np.array([False, True, False]))
        bands = dict.fromkeys(("embed", "attention", "lstm"), alphas)
        given = by_band(layers, bands)
    masks = frozen(given, policy="selective", seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tokens, labels = torch.randint(5, (20, 3)), torch.randint(5, (20,))
    splits = {"train": (tokens, labels), "validation": (tokens, labels)}
    dataset = SimpleNamespace(splits=splits, pixels=lambda x: x, bounds=None)
    settings = {"optimizer": "adam", "lr": 0.1, "weight_decay": 0.1, "batch_size": 10}
    settings |= {"schedule": {"kind": "constant"}, "recipe": "standard"}
    settings |= {"augmentation": {"shift": 0, "flip": False}}
    optimizer, run = make_optimizer(network, settings), {"seed": 0, "epochs": range(2)}
    given = {"settings": settings, "frozen": masks, "say": lambda _: None} | run
    list(train_epochs(network, optimizer, dataset, **given))
    for name, parameter in network.named_parameters():
        mask = masks.get(name, torch.zeros_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter[mask], before[name][mask]), name
        assert (parameter != before[name])[~mask].any() or mask.all(), name


# The control


def draws_of(sizes, fragile, count=40, layer=None):
    """Some draws, bool [draws, units]; every layer a unit if not told else."""
    sizes, fragile = np.array(sizes), np.array(fragile, bool)
    layer = np.arange(len(sizes)) if layer is None else np.array(layer)
    rngs = map(np.random.default_rng, range(count))
    return np.array([matched(sizes, layer, fragile, rng=rng) for rng in rngs])


RESNET18 = [576, 5130, *[36864] * 4, 73728, 8192, *[147456] * 3, 294912, 32768, *[589824] * 3]
RESNET18 += [1179648, 131072, *[2359296] * 3]


@pytest.mark.parametrize("fragile", [[0, 1], [3, 9, 12], [20], [13, 14, 15, 16], range(1, 21)])
def test_layers_drawn_are_others_of_about_the_same_size(fragile):
    fragile, sizes = np.isin(np.arange(21), fragile), np.array(RESNET18)
    draws = draws_of(sizes, fragile)
    near = max(OF_FROZEN * sizes[fragile].sum(), OF_ALL * sizes.sum())
    assert (np.abs(draws @ sizes - sizes[fragile].sum()) <= near).all()
    assert (draws & ~fragile).any(1).all() and (~draws & fragile).any(1).all()
    if fragile.sum() < 20:
        assert len(np.unique(draws, axis=0)) > 3  # not one best match


def test_over_many_draws_every_layer_is_frozen_alike():
    draws = draws_of([10] * 8, [True] * 2 + [False] * 6, count=600)
    assert (draws.sum(1) == 2).all()
    share = draws.mean(0)
    assert np.ptp(share[:2]) < 0.06 and np.ptp(share[2:]) < 0.1


def test_where_no_other_set_is_as_large_the_nearest_is_drawn():
    assert draws_of([1000, 10, 30], [1, 0, 0]).tolist() == [[False, True, True]] * 40
    assert draws_of([10, 1000, 3000], [1, 0, 0]).tolist() == [[False, True, False]] * 40
    assert draws_of([7, 50], [1, 0]).tolist() == [[False, True]] * 40


@pytest.mark.parametrize("fragile", [[0, 0, 0], [1, 1, 1]])
def test_random_of_nothing_and_of_everything(fragile):
    assert (draws_of([4, 2, 3], fragile) == np.array(fragile, bool)).all()
    assert not exchanged(np.array([4, 2, 3]), np.array(fragile, bool), rng=None)[1]


def test_bands_are_matched_layer_by_layer():
    sizes = [4, 20, 76, 76, 20, 4] * 2
    fragile = [0, 1, 0, 0, 0, 0, *[1, 0, 1, 0, 0, 0]]
    draws = draws_of(sizes, fragile, layer=[0] * 6 + [1] * 6)
    counts = (draws * sizes).reshape(-1, 2, 6).sum(2)
    assert (counts[:, 0] == 20).all() and set(counts[:, 1]) <= {80, 84}  # 84: 5 % more
    assert len(np.unique(draws[:, 6:], axis=0)) > 2


def test_bands_without_a_match_in_their_layer_are_matched_over_layers():
    # the central band of the first is most of it; nothing of the second, which has one as large, is
    # fragile; the third has a match of its own
    sizes = [10, 900, 10, *[15, 900, 15], *[50, 50, 50]]
    draws = draws_of(sizes, [0, 1, 0, *[0] * 3, 1, 0, 0], layer=[0] * 3 + [1] * 3 + [2] * 3)
    counts = (draws * sizes).reshape(-1, 3, 3).sum(2)
    assert (counts[:, 2] == 50).all()
    assert (np.abs(counts[:, :2].sum(1) - 900) <= 0.05 * 900).all() and draws[:, 4].all()


def test_bands_that_hold_no_weight_are_not_drawn():
    draws = draws_of([5, 0, 5, 0, 5], [1, 0, 0, 0, 0], layer=[0] * 5)
    assert not draws[:, [1, 3]].any() and (draws[:, [2, 4]].sum(1) == 1).all()


def test_random_freezes_whole_units_and_follows_from_its_seeds(layers):
    bands = {
        "second": (np.arange(6.0), np.arange(6) == 2),
        "first": (np.array([-1.0, 1.0]), np.array([False, False])),
    }
    for given in (by_band(layers, bands), by_layer(layers, {"second"})):
        state = torch.get_rng_state()
        found = [frozen(given, policy="random", seed=s, draw=k) for s in (0, 1) for k in range(9)]
        assert torch.equal(torch.get_rng_state(), state)
        again = frozen(given, policy="random", seed=0, draw=0)
        assert listed(again) == listed(found[0])
        for masks in found:
            assert {n: m.shape for n, m in masks.items()} == {
                name: unit.shape for name, unit in given.units.items()
            }
            for unit in range(len(given.fragile)):
                of = [masks[name][given.units[name] == unit] for name in masks]
                assert len(torch.cat(of).unique()) <= 1
    drawn = [frozen(by_band(layers, bands), policy="random", seed=s, draw=0) for s in range(9)]
    assert len({str(listed(masks)) for masks in drawn}) > 1
    draws = [frozen(by_band(layers, bands), policy="random", seed=0, draw=k) for k in range(9)]
    assert len({str(listed(masks)) for masks in draws}) > 1
    assert all(masks["second.weight"].sum() == 1 for masks in drawn)


def row(layer, name, *, score="S_adv", attack="pgd", filter="combined", scope="local", **more):
    return {
        "scope": scope,
        "layer": layer,
        "filter": filter,
        "attack": attack,
        "score": score,
        "class": name,
        **more,
    }


def test_fragile_parameters_by_layer(layers, tmp_path):
    rows = [
        row("first", "fragile"),
        row("second", "robust"),
        row("second", "fragile", attack="fgsm"),
        row("second", "fragile", filter="pulse"),
        row("second", "fragile", score="S_diff"),
        row("all layers", "fragile", scope="global"),
        row("first", "antifragile", score="S_clean", attack="none"),
        row("second", "fragile", score="S_clean", attack="none"),
    ]
    save_table(pd.DataFrame(rows), tmp_path / "layers.tsv")
    for table in (pd.DataFrame(rows), load_table(tmp_path / "layers.tsv")):

        def chosen(table=table, **choice):
            given = {"by": "layer", "score": "S_adv", "attack": "pgd", "filter": "combined"}
            masks = fragile_of(freezable(layers, table, **(given | choice)))
            assert list(masks) == ["first.weight", "first.bias", "second.weight"]
            return {name.split(".")[0] for name, mask in masks.items() if np.all(mask)}

        assert chosen() == {"first"}
        assert chosen(attack="fgsm") == {"second"}
        assert chosen(filter="pulse") == {"second"}
        assert chosen(score="S_diff") == {"second"}
        assert chosen(score="S_clean") == {"second"}  # needs no attack: its rows say "none"


def test_fragile_parameters_by_band(layers, tmp_path):
    bands = zip(range(3), (-1.0, 0.0, 1.0), ("robust", "fragile", "untouched"), strict=True)
    rows = [row("first", name, band=band, threshold=alpha) for band, alpha, name in bands][::-1]
    rows += [
        row("first", "fragile", band=band, threshold=alpha, attack="fgsm")
        for band, alpha in enumerate((-1.0, 0.0, 1.0))
    ]
    table = pd.DataFrame(rows).drop(columns=["scope", "filter"])
    save_table(table, tmp_path / "bands.tsv")
    for given in (table, load_table(tmp_path / "bands.tsv")):
        found = freezable(layers, given, by="band", score="S_adv", attack="pgd", filter="combined")
        # a layer that was not swept, and biases, cannot be frozen
        assert fragile_of(found) == {"first.weight": [[False, False, True, False]]}
