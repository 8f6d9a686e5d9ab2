import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from faultline.base.files import load_table, save_table
from faultline.studies.retraining.frozen import (
    fragile_by_band,
    fragile_by_layer,
    fragile_parameters,
    frozen,
)


@pytest.fixture
def layers():
    first, second = nn.Linear(4, 1), nn.Linear(3, 2, bias=False)
    first.weight.data = torch.tensor([[-1.0, -0.6, -0.4, 1.0]])
    second.weight.data = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    return {"first": first, "second": second}


def listed(masks):
    return {name: mask.tolist() for name, mask in masks.items()}


def test_masks_by_layer(layers):
    masks = fragile_by_layer(layers, {"first"})
    assert listed(masks) == {
        "first.weight": [[True] * 4],
        "first.bias": [True],
        "second.weight": [[False] * 3] * 2,
    }
    assert all(mask.dtype == torch.bool and not mask.requires_grad for mask in masks.values())
    assert not any(mask.any() for mask in fragile_by_layer(layers, set()).values())


def test_masks_by_band(layers):
    # centres -1, 0, 1: the middles at -0.5 and 0.5 part them
    bands = {"first": (np.array([-1.0, 0.0, 1.0]), np.array([True, False, True]))}
    assert listed(fragile_by_band(layers, bands)) == {"first.weight": [[True, True, False, True]]}
    bands["second"] = (np.array([0.0, 5.0]), np.array([False, True]))
    masks = fragile_by_band(layers, bands)
    assert masks["second.weight"].tolist() == [[False, False, False], [True, True, True]]


def test_policies(layers):
    fragile = fragile_by_layer(layers, {"first"})
    assert frozen(fragile, policy="regular", seed=0) == {}
    assert listed(frozen(fragile, policy="selective", seed=0)) == listed(fragile)
    opposite = frozen(fragile, policy="fragile_only", seed=0)
    assert list(opposite) == list(fragile)
    assert all(torch.equal(opposite[name], ~fragile[name]) for name in fragile)


def test_random_freezes_as_many_parameters():
    fragile = {"a": torch.rand(30, 7) < 0.3, "b": torch.rand(5) < 0.9, "c": torch.zeros(4).bool()}
    before = {name: mask.clone() for name, mask in fragile.items()}
    count = sum(mask.sum() for mask in fragile.values())

    def flat(seed, draw):
        masks = frozen(fragile, policy="random", seed=seed, draw=draw)
        assert {n: m.shape for n, m in masks.items()} == {n: m.shape for n, m in fragile.items()}
        assert sum(mask.sum() for mask in masks.values()) == count
        return torch.cat([mask.flatten() for mask in masks.values()])

    assert torch.equal(flat(0, 0), flat(0, 0))
    assert not torch.equal(flat(0, 0), flat(0, 1))
    assert not torch.equal(flat(0, 0), flat(1, 0))
    # every parameter can be drawn, whatever its class
    share = torch.stack([flat(0, draw) for draw in range(300)]).float().mean(0)
    assert share.min() > 0.15
    assert share.max() < 0.55
    assert all(torch.equal(fragile[name], before[name]) for name in fragile)


def test_random_draws_leave_the_global_random_state():
    state = torch.get_rng_state()
    frozen({"a": torch.ones(9).bool()}, policy="random", seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("share", [0, 1])
def test_random_of_nothing_and_of_everything(share):
    masks = frozen({"a": torch.full((3, 3), bool(share))}, policy="random", seed=0)
    assert masks["a"].float().mean() == share


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
            masks = fragile_parameters(layers, table, **(given | choice))
            assert list(masks) == ["first.weight", "first.bias", "second.weight"]
            return {name.split(".")[0] for name, mask in masks.items() if mask.all()}

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
        masks = fragile_parameters(
            layers, given, by="band", score="S_adv", attack="pgd", filter="combined"
        )
        # a layer that was not swept, and biases, cannot be frozen
        assert listed(masks) == {"first.weight": [[False, False, True, False]]}
