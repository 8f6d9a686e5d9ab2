from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import (
    RANDOM_SHARES,
    band_of,
    nodal_variants,
    random_variants,
    removed,
    synaptic_variants,
    thresholds,
)
from faultline.base.errors import UserError

KINDS = ("high_pass", "low_pass", "pulse")


def layer_of(rows, bias=None):
    """A linear layer with the given weights."""
    weight = torch.tensor(rows)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def variants_of(layers, kind, **given):
    """The variants of one synaptic filter, and the weights of the layers under each."""
    variants = synaptic_variants(layers, kinds=[kind], together=len(layers) > 1, **given)
    weights = []
    for variant in variants:
        replaced = variant.replace()
        weights.append([replaced[f"{name}.weight"] for name in layers])
    return variants, weights


def test_thresholds_reach_both_ends():
    assert thresholds(-1.0, 3.0, 5).tolist() == [-1, 0, 1, 2, 3]
    low, high = -0.1234567, 0.7654321
    assert thresholds(low, high, 25)[[0, -1]].tolist() == [low, high]


def test_removed_at_the_boundaries():
    w = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert removed(w, "high_pass", 0.0, 0.5).tolist() == [True, True, True, False, False]
    assert removed(w, "low_pass", 0.0, 0.5).tolist() == [False, False, True, True, True]
    assert removed(w, "pulse", 0.0, 0.5).tolist() == [False, True, True, False, False]


# weights -2, -1, 1, 2 and a 0; thresholds -2, 0, 2, so d = 4 / 6
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("high_pass", [[0, -1, 0, 1, 2], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]]),
        ("low_pass", [[0, 0, 0, 0, 0], [-2, -1, 0, 0, 0], [-2, -1, 0, 1, 0]]),
        ("pulse", [[0, -1, 0, 1, 2], [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 0]]),
    ],
)
def test_every_synaptic_filter_by_hand(kind, expected):
    layer = layer_of([[-2.0, -1.0, 0.0, 1.0, 2.0]], bias=[0.5])
    variants, weights = variants_of({"fc": layer}, kind, count=3)
    assert [w[0].tolist() for w in weights] == [[row] for row in expected]
    changed = [4 - np.count_nonzero(row) for row in expected]
    assert [v.columns["changed_weights"] for v in variants] == changed
    assert [v.columns["kept"] for v in variants] == [1 - c / 4 for c in changed]
    assert [v.columns["threshold"] for v in variants] == [-2, 0, 2]
    assert [v.columns["normalised"] for v in variants] == [0, 0.5, 1]
    assert [v.key is None for v in variants] == [c == 0 for c in changed]
    assert all(set(v.replace()) == {"fc.weight"} for v in variants)  # biases are never filtered
    assert layer.weight.tolist() == [[-2, -1, 0, 1, 2]]


def test_zero_weights_do_not_count():
    # pulse at 0 removes only what is zero already
    layer = layer_of([[-2.0, 0.0, 0.0, 2.0]])
    middle = synaptic_variants({"fc": layer}, kinds=["pulse"], count=3)[1]
    assert middle.columns["changed_weights"] == 0
    assert middle.columns["kept"] == 1
    assert middle.key is None


def test_limits_beyond_all_weights():
    layer = layer_of([[-1.0, 0.5, 1.0]])
    given = {"count": 2, "limits": (-5.0, 5.0)}
    for kind, nothing, everything in (("high_pass", 0, 1), ("low_pass", 1, 0)):
        variants, weights = variants_of({"fc": layer}, kind, **given)
        assert [v.columns["threshold"] for v in variants] == [-5, 5]
        assert variants[nothing].key is None
        assert torch.equal(weights[nothing][0], layer.weight)
        assert not weights[everything][0].any()
        assert variants[everything].columns["kept"] == 0


def test_global_filtering_has_one_range():
    layers = {"a": layer_of([[-1.0, 0.25]]), "b": layer_of([[0.5], [3.0]])}
    variants, weights = variants_of(layers, "high_pass", count=3)
    assert [v.columns["threshold"] for v in variants] == [-1, 1, 3]
    assert [[w.flatten().tolist() for w in pair] for pair in weights] == [
        [[0, 0.25], [0.5, 3]],
        [[0, 0], [0, 3]],
        [[0, 0], [0, 0]],
    ]
    assert [v.columns["changed_weights"] for v in variants] == [1, 3, 4]


def test_keys_are_equal_exactly_where_networks_are():
    torch.manual_seed(0)
    layer = nn.Linear(5, 7)
    layer.weight.data[::2] = 0.0
    variants = synaptic_variants({"fc": layer}, kinds=KINDS, count=25)
    made = [v.replace()["fc.weight"] for v in variants]
    assert len({v.key for v in variants}) < len(variants)
    for v, a in zip(variants, made, strict=True):
        assert (v.key is None) == torch.equal(a, layer.weight)
        assert [v.key == u.key for u in variants] == [torch.equal(a, b) for b in made]


def test_keys_tell_layers_and_places_apart():
    layers = {"a": layer_of([[-1.0, 1.0]]), "b": layer_of([[-2.0, 3.0]])}
    one, other = (
        synaptic_variants({name: layers[name]}, kinds=["high_pass"], count=2) for name in layers
    )
    assert one[1].key != other[1].key
    nodal = [
        next(nodal_variants(name, layers[name], filters=[0], at=at)).key
        for name in layers
        for at in ("weights", "activation")
    ]
    assert len(set(nodal)) == 4


def test_a_constant_layer():
    layer = layer_of([[0.5, 0.5]])
    variants = synaptic_variants({"fc": layer}, kinds=KINDS, count=3)
    by_kind = {kind: [v for v in variants if v.columns["filter"] == kind] for kind in KINDS}
    assert all(v.columns["kept"] == 0 for v in by_kind["high_pass"] + by_kind["low_pass"])
    assert all(v.key is None for v in by_kind["pulse"])  # a band without width


def test_a_layer_of_zeros():
    variants = synaptic_variants({"fc": layer_of([[0.0, 0.0]])}, kinds=KINDS, count=3)
    assert all(v.key is None and v.columns["kept"] == 1 for v in variants)


def test_thresholds_at_the_ends_catch_the_extreme_float32_weights():
    torch.manual_seed(1)
    for layer in (nn.Linear(9, 9), nn.Conv2d(3, 4, 3), nn.Conv2d(6, 6, 3, groups=6)):
        first, *_, last = synaptic_variants({"x": layer}, kinds=["high_pass"], count=25)
        assert first.columns["changed_weights"] == 1
        assert last.columns["kept"] == 0
        first, *_, last = synaptic_variants({"x": layer}, kinds=["low_pass"], count=25)
        assert first.columns["kept"] == 0
        assert last.columns["changed_weights"] == 1


def test_pulse_bands_do_not_overlap():
    torch.manual_seed(2)
    layer = nn.Linear(30, 30)
    variants = synaptic_variants({"x": layer}, kinds=["pulse"], count=25)
    gone = torch.stack([v.replace()["x.weight"] == 0 for v in variants])
    assert gone.sum(0).max() == 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(3, 4),
        nn.Linear(3, 4, bias=False),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
    ],
)
def test_nodal_dropout_of_weights(layer):
    variants = list(nodal_variants("x", layer, filters=range(len(layer.weight)), at="weights"))
    for index, variant in enumerate(variants):
        size = sum(parameter[index].numel() for parameter in layer.parameters())
        assert variant.columns == {"filter": index, "changed_weights": size}
        assert variant.mask == ("x", (index,), "weights")
        assert variant.replace is None
    assert len({v.key for v in variants}) == len(variants)


def test_nodal_dropout_of_a_filter_that_is_zero():
    layer = layer_of([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]], bias=[0.0, 1.0, 0.0])
    zero, bias_only, weight_only = nodal_variants("x", layer, filters=range(3), at="weights")
    assert zero.key is None
    assert [v.columns["changed_weights"] for v in (zero, bias_only, weight_only)] == [0, 1, 1]
    assert bias_only.key is not None
    assert weight_only.key is not None


def test_nodal_dropout_of_activations():
    (variant,) = nodal_variants("x", nn.Linear(2, 3), filters=[2], at="activation")
    assert variant.mask == ("x", (2,), "activation")
    assert variant.replace is None
    assert variant.columns == {"filter": 2, "changed_weights": -1}


@pytest.mark.parametrize("at", ["weights", "activation"])
def test_nodal_results_follow_a_permutation_of_the_filters(at):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten()).eval()
    images, labels = torch.rand(40, 1, 5, 5), torch.randint(0, 4, (40,))
    permutation = [3, 0, 4, 1, 2]

    def facts():
        variants = list(nodal_variants("0", network[0], filters=range(5), at=at))
        return sweep(network, variants, {"clean": images}, labels, ablated=["0"])

    before = facts()
    network[0].weight.data = network[0].weight.data[permutation]
    network[0].bias.data = network[0].bias.data[permutation]
    network[2].weight.data = network[2].weight.data[:, permutation]
    after = facts()
    assert np.array_equal(after.correct["clean"], before.correct["clean"][permutation])


def test_band_of_by_hand():
    # centres -3, 0, 3 of the range -3..3, d = 1: gaps -2..-1 and 1..2, parted in their middle
    weight = torch.tensor([-9.0, -3.0, -2.0, -1.75, -1.5, -1.25, 0.0, 1.0, 1.5, 1.75, 3.0, 9.0])
    found = band_of(weight, np.array([-3.0, 0.0, 3.0]))
    assert found.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert band_of(weight.reshape(3, 4), np.array([-3.0, 0.0, 3.0])).shape == (3, 4)


def test_a_weight_lies_in_the_band_whose_pulse_removes_it():
    torch.manual_seed(4)
    layer = nn.Conv2d(3, 20, 3)
    low, high = layer.weight.min().item(), layer.weight.max().item()
    alphas = thresholds(low, high, 25)
    band = band_of(layer.weight.detach(), alphas)
    for index, alpha in enumerate(alphas):
        gone = removed(layer.weight.detach(), "pulse", alpha, (high - low) / 50)
        assert (band[gone] == index).all()
    nearest = (layer.weight.detach().double()[..., None] - torch.as_tensor(alphas)).abs().argmin(-1)
    assert torch.equal(band, nearest)


def test_random_variants_remove_a_share_of_the_non_zero_weights_of_all_layers_together():
    one = layer_of([[0.0, 1.0, 2.0, 3.0, 4.0]] * 20)  # 80 of 100 are not zero
    two = layer_of([[5.0] * 20])
    layers = {"one": one, "two": two}
    variants = random_variants(layers, draws=2, seed=1, together=True)
    assert [v.columns["draw"] for v in variants] == [0] * 9 + [1] * 9
    assert tuple(v.columns["normalised"] for v in variants[:9]) == RANDOM_SHARES
    found = []
    for variant in variants:
        new = torch.cat([w.flatten() for w in variant.replace().values()])
        old = torch.cat([one.weight.flatten(), two.weight.flatten()])
        count = round(100 * variant.columns["normalised"])
        assert variant.columns["changed_weights"] == count == ((old != 0) & (new == 0)).sum()
        assert variant.columns["kept"] == pytest.approx(1 - count / 100)
        assert torch.equal(new[new != 0], old[new != 0]) and variant.columns["filter"] == "random"
        found.append((new == 0).tolist())
    assert found[2] != found[11]  # the same share in two draws
    assert not {i for i, zero in enumerate(found[2]) if zero} < set(np.flatnonzero(found[3]))
    again = random_variants(layers, draws=2, seed=1, together=True)
    assert [v.key for v in again] == [v.key for v in variants]
    assert all(
        torch.equal(a.replace()["one.weight"], b.replace()["one.weight"])
        for a, b in zip(again, variants, strict=True)
    )
    other = random_variants(layers, draws=2, seed=2, together=True)[2].replace()["one.weight"]
    assert not torch.equal(other, variants[2].replace()["one.weight"])


def test_all_weights_removed_at_random_are_those_that_a_filter_removes():
    layers = {"one": layer_of([[0.0, 1.0, -2.0]])}
    drawn = {v.key for v in random_variants(layers, draws=2, seed=0) if v.columns["kept"] == 0}
    swept = synaptic_variants(layers, kinds=["high_pass"], count=3)
    assert len(drawn) == 1 and swept[-1].key in drawn


LAYERS = {"a": layer_of([[-1.0, 1.0]]), "b": layer_of([[-2.0, 3.0]])}
ONE = {"a": LAYERS["a"]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(synaptic_variants, ONE, kinds=["highpass"], count=3), "mean 'high_pass'"),
        (partial(synaptic_variants, ONE, kinds=["pulse"], count=1), "count: 1; expected"),
        (
            partial(synaptic_variants, ONE, kinds=["pulse"], count=3, limits=(1.0, -1.0)),
            r"limits \(1.0, -1.0\); expected the lowest and the highest",
        ),
        (
            partial(synaptic_variants, ONE, kinds=["pulse"], count=3, limits=(0.0, np.nan)),
            "limits",
        ),
        (partial(synaptic_variants, {}, kinds=["pulse"], count=3), "no layer is there"),
        (
            partial(synaptic_variants, LAYERS, kinds=["pulse"], count=3),
            r"2 layers \(a, b\) are there; call it for each alone, or set together=True",
        ),
        (partial(random_variants, LAYERS, draws=1, seed=0), "2 layers .* together=True"),
        (partial(random_variants, ONE, draws=-1, seed=0), "draws: -1"),
        (
            partial(nodal_variants, "a", LAYERS["a"], filters=[0], at="activations"),
            "layer a: at: 'activations' is unknown; did you mean 'activation'",
        ),
        (
            partial(nodal_variants, "a", LAYERS["a"], filters=[0, 1], at="weights"),
            "layer a: has no filter 1; its 1 are 0 to 0",
        ),
        (partial(nodal_variants, "a", LAYERS["a"], filters=[-1], at="weights"), "no filter -1"),
    ],
)
def test_unknown_names_and_numbers_that_make_no_sense_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        list(make())


def test_one_layer_is_the_same_alone_and_together():
    for make in (
        partial(synaptic_variants, ONE, kinds=KINDS, count=3),
        partial(random_variants, ONE, draws=1, seed=0),
    ):
        assert [v.key for v in make()] == [v.key for v in make(together=True)]
