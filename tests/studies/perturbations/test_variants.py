import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import nn
from torch.func import functional_call

from faultline.ablation.sweep import sweep
from faultline.base.errors import UserError
from faultline.base.inputs import count_of
from faultline.base.seeds import seed_of
from faultline.networks.layers import filters, of_units
from faultline.studies.perturbations.kinds import entries
from faultline.studies.perturbations.variants import perturbation_variants, perturbed

KINDS = ("synapse_knockout", "node_knockout", "gaussian", "resample")
PLACE = {"dataset": "digits", "network": "micro", "training": "standard", "seed": "0", "epoch": "2"}


def micro_network(groups=1):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=groups),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
    ).eval()


def variants_of(layer, name="2", **given):
    settings = {"kinds": KINDS, "parameters": ("weight", "bias"), "repeats": 2}
    settings |= {"shares": (0.3, 0.8), "sigmas": (0.5,)} | given
    return perturbation_variants(name, layer, place=PLACE, **settings)


def applied(network, variant, name="2"):
    """A copy of the network, changed as a variant says, without the engine."""
    changed = copy.deepcopy(network)
    layer = changed.get_submodule(name)
    with torch.no_grad():
        if variant.mask:
            for index in variant.mask.filters:
                layer.weight[index] = 0
                layer.bias[index] = 0
        else:
            for path, value in variant.replace().items():
                changed.get_parameter(path).copy_(value)
    return changed


@pytest.mark.parametrize(
    ("share", "size", "count"),
    [
        *((0, 10, 0), (0.7, 10, 7), (0.29, 100, 29), (0.57, 100, 57), (0.5, 5, 2), (1, 7, 7)),
        *((1e-05, 200000, 2), (0.9, 102760448, 92484403)),
    ],
)
def test_counts_are_those_of_the_share_as_written(share, size, count):
    assert count_of(share, size) == count_of(float(share), size) == count


def test_every_choice_of_entries_is_equally_likely():
    rng = np.random.default_rng(0)
    for count in (2, 4):  # fewer and more than half
        choices = list(combinations(range(6), count))
        found = dict.fromkeys(choices, 0)
        for _ in range(3000):
            found[tuple(entries(6, count, rng).nonzero().flatten().tolist())] += 1
        assert chisquare(list(found.values())).pvalue > 1e-3
    assert not entries(6, 0, rng).any() and entries(6, 6, rng).all()


def test_synapse_knockout_removes_as_many_as_it_says():
    value = torch.arange(1.0, 11).view(2, 5)
    after = perturbed(value, "synapse_knockout", 0.7, seed=3)
    assert (after == 0).sum() == 7 and torch.equal(after[after != 0], value[after != 0])
    assert torch.equal(value, torch.arange(1.0, 11).view(2, 5))


def test_gaussian_takes_the_population_std_of_the_tensor():
    value = torch.tensor([0.0, 2.0])  # population std 1, sample std 1.41
    noise = np.random.default_rng(5).standard_normal(2, dtype=np.float32)
    assert torch.equal(perturbed(value, "gaussian", 1.0, seed=5), value + torch.from_numpy(noise))
    assert torch.equal(
        perturbed(torch.full((4,), 3.0), "gaussian", 2.0, seed=5), torch.full((4,), 3.0)
    )

    torch.manual_seed(0)
    value = 0.3 * torch.randn(100, 50) + 7
    noise = perturbed(value, "gaussian", 0.5, seed=1) - value
    assert kstest(noise.flatten() / (0.5 * 0.3), "norm").pvalue > 1e-3


def test_resample_puts_values_of_the_tensor():
    value = torch.arange(1000.0).view(10, 100)
    after = perturbed(value, "resample", 0.4, seed=2)
    moved = after != value
    assert 380 <= moved.sum() <= 400  # an entry may draw its own value
    assert torch.isin(after, value).all()
    assert kstest(after[moved] / 1000, "uniform").pvalue > 1e-3


def flipped(value, share, seed):
    """A second implementation of bit_flip: entry by entry, in numpy."""
    rng, bits = np.random.default_rng(seed), value.numpy().copy().view(np.uint32).reshape(-1)
    count = count_of(share, bits.size)
    fewer = min(count, bits.size - count)
    chosen = set(rng.choice(bits.size, fewer, replace=False, shuffle=False).tolist())
    if fewer < count:
        chosen = set(range(bits.size)) - chosen
    for entry, bit in zip(sorted(chosen), rng.integers(32, size=count).tolist(), strict=True):
        bits[entry] ^= np.uint32(2**bit)
    return bits.view(np.float32).reshape(value.shape)


def test_bit_flip_by_hand():
    # 1.0 is 0 01111111 000...: its sign, its exponent of 127, of which 128 is missing, its mantissa
    by_bit = [1 + 2 ** (bit - 23) for bit in range(23)]
    by_bit += [2.0 ** -(2 ** (bit - 23)) for bit in range(23, 30)] + [np.inf, -1.0]
    found = [perturbed(torch.ones(1), "bit_flip", 1.0, seed=s).item() for s in range(3000)]
    counts = [found.count(np.float32(value)) for value in by_bit]
    assert sum(counts) == 3000 and chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 1.0])
def test_bit_flip_as_a_second_implementation(share):
    torch.manual_seed(2)
    value = torch.randn(20, 5, 3)
    value[0] = 0.0
    after = perturbed(value, "bit_flip", share, seed=7)
    assert after.numpy().tobytes() == flipped(value, share, 7).tobytes()
    differ = value.numpy().view(np.uint32) ^ after.numpy().view(np.uint32)
    assert np.bitwise_count(differ).sum() == np.count_nonzero(differ) == count_of(share, 300)


def test_every_bit_flips_at_the_rate():
    value = torch.zeros(200, 250)
    after = perturbed(value, "bit_faults", 0.01, seed=4).numpy().view(np.uint32)
    by_bit = [int((after >> bit & 1).sum()) for bit in range(32)]
    total = sum(by_bit)
    assert abs(total - 0.01 * 32 * value.numel()) < 4 * np.sqrt(0.01 * 32 * value.numel())
    assert chisquare(by_bit).pvalue > 1e-3
    per_entry = np.bincount(np.bitwise_count(after).ravel())
    assert per_entry[2] > 0.8 * value.numel() * 496 * 0.01**2 * 0.99**30  # of an entry several


def test_bit_faults_count_what_they_draw():
    layer = nn.Linear(40, 30)
    before = layer.weight.detach().numpy().view(np.uint32)
    for variant in variants_of(layer, kinds=("bit_faults",), rates=(1e-3, 1e-6), repeats=20):
        if variant.columns["parameter"] == "weight":
            after = variant.replace()["2.weight"].numpy().view(np.uint32)
            flips = int(np.bitwise_count(before ^ after).sum())
            assert flips == variant.columns["changed_weights"]
            assert (variant.key is None) == (flips == 0)


def test_bits_of_int8_flip_by_hand():
    # channels of largest 127 and 254, so scales 1 and 2; bias of one scale
    value = torch.tensor([[127.0, -3.0, 2.4, 0.0], [254.0, 100.0, -1.2, 6.0]])
    stored = torch.tensor([[127, -3, 2, 0], [127, 50, -1, 3]], dtype=torch.int8)
    scale = torch.tensor([[1.0], [2.0]])
    assert torch.equal(perturbed(value, "bit_faults_int8", 1e-9, seed=0), stored * scale)
    seen = set()
    for seed in range(300):
        after = perturbed(value, "bit_faults_int8", 0.01, seed=seed) / scale
        assert torch.equal(after, after.round()) and after.abs().max() <= 128
        flips = (after.to(torch.int8) ^ stored).numpy().view(np.uint8)
        seen |= {int(flip).bit_length() - 1 for flip in flips[flips > 0].ravel()}
    assert seen == set(range(8))
    variant = variants_of(nn.Linear(4, 2), kinds=("bit_faults_int8",), rates=(1e-9,), repeats=1)[0]
    assert variant.columns["changed_weights"] == 0 and variant.key is not None


def test_facts_of_flipped_bits_are_those_of_a_naive_implementation():
    network, images = micro_network(), torch.rand(40, 2, 6, 6)
    network[2].weight.data *= 30  # those between 1 and 2 become infinite or NaN
    labels = network(images).argmax(1)
    variants = variants_of(network[2], kinds=("bit_flip",), shares=(0, 0.002, 0.02, 0.5), repeats=9)
    given = {"ablated": ["2"], "tops": (1, 2), "say": lambda _: None}
    facts = sweep(network, variants, {"clean": images}, labels, **given)
    for row, variant in enumerate(variants):
        with torch.no_grad():
            logits = (applied(network, variant) if variant.key else network)(images)
        finite = logits.isfinite().all(1)
        for top, name in ((1, "clean"), (2, "clean@2")):
            hits = (logits.topk(top).indices == labels[:, None]).any(1) & finite
            assert facts.correct[name][row].tolist() == hits.tolist(), variant.columns
            assert facts.nonfinite[name][row] == (~finite).sum()
        untouched = variant.columns["changed_weights"] == 0
        assert untouched == (variant.key is None)
        assert not (untouched and facts.changed["clean"][row])
    counts = facts.nonfinite["clean"]
    assert 0 < np.count_nonzero(counts) < len(counts)


def test_nothing_changes_at_strength_0():
    for variant in variants_of(micro_network()[2], shares=(0.0, 0.001), sigmas=(0.0,)):
        if variant.columns["strength"] == 0 or variant.columns["kind"] == "node_knockout":
            assert variant.key is None and variant.columns["changed_weights"] == 0
    value = torch.randn(50)
    for kind in ("synapse_knockout", "gaussian", "resample", "bit_flip"):
        assert torch.equal(perturbed(value, kind, 0.0, seed=0), value)


def test_share_1_removes_the_layer():
    layer = micro_network()[2]
    for variant in variants_of(layer, shares=(1.0,), kinds=("synapse_knockout", "node_knockout")):
        if variant.mask:
            assert variant.mask.filters == tuple(range(8)) and variant.mask.at == "weights"
            assert variant.columns["parameter"] == "both"
            assert variant.columns["changed_weights"] == layer.weight.numel() + 8
        else:
            (value,) = variant.replace().values()
            assert not value.any() and variant.columns["changed_weights"] == value.numel()


def test_weights_and_biases_apart_each_with_its_own_statistics():
    layer = micro_network()[2]
    layer.bias.data = torch.linspace(100, 200, 8)
    for variant in variants_of(layer, kinds=("gaussian", "resample"), sigmas=(1.0,)):
        ((path, value),) = variant.replace().items()
        parameter = variant.columns["parameter"]
        assert path == f"2.{parameter}" and value.shape == getattr(layer, parameter).shape
        moved = (value - getattr(layer, parameter)).abs().max()
        assert moved > 10 if parameter == "bias" else moved < 2


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_facts_are_those_of_a_naive_implementation(groups):
    network = micro_network(groups)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images, labels = torch.rand(40, 2, 6, 6), torch.arange(40) % 5
    variants = variants_of(network[2])
    assert len(variants) == 2 * (2 * (2 + 1 + 2) + 2)
    facts = sweep(network, variants, {"clean": images}, labels, ablated=["2"], say=lambda _: None)
    with torch.no_grad():
        for row, variant in enumerate(variants):
            expected = applied(network, variant)(images).argmax(1) == labels
            assert facts.correct["clean"][row].tolist() == expected.tolist(), variant.columns
            assert facts.changed["clean"][row] == 40
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert {p.requires_grad for p in network.parameters()} == {True}


def test_a_grouped_convolution_counts_as_one_layer():
    layer = micro_network(groups=2)[2]
    (whole,) = variants_of(
        layer, kinds=("synapse_knockout",), parameters=("weight",), shares=(0.5,), repeats=1
    )
    (value,) = whole.replace().values()
    assert (value == 0).sum() == layer.weight.numel() // 2
    of_groups = [(part == 0).sum().item() for part in value.chunk(2)]
    assert of_groups[0] != of_groups[1]  # drawn from all of them, not from each


def test_draws_depend_on_what_they_are_for_and_on_nothing_else():
    layer = micro_network()[2]

    def drawn(variants):
        return {
            tuple(v.columns.items()): v.mask or next(iter(v.replace().values())).numpy().tobytes()
            for v in variants
        }

    whole = drawn(variants_of(layer))
    parts = {}
    for kind in reversed(KINDS):
        for share in (0.8, 0.3):
            parts |= drawn(variants_of(layer, kinds=(kind,), shares=(share,)))
    assert parts == whole and len(set(whole.values())) == len(whole)
    for other in ({"name": "5"}, {"parameters": ("bias",)}):
        for columns, value in drawn(variants_of(layer, **other)).items():
            assert (value == whole[columns]) == ("name" not in other)
    later = perturbation_variants(
        "2",
        layer,
        place=PLACE | {"epoch": "3"},
        kinds=KINDS,
        parameters=("weight",),
        shares=(0.3,),
        sigmas=(0.5,),
        repeats=2,
    )
    assert not set(drawn(later).values()) & set(whole.values())


def test_layer_without_bias():
    layer = nn.Linear(4, 3, bias=False)
    found = {v.columns["parameter"] for v in variants_of(layer)}
    assert found == {"weight", "both"}
    with pytest.raises(UserError, match=r"parameters: layer fc has no bias; add weight"):
        variants_of(layer, name="fc", parameters=("bias",), kinds=("gaussian",))


# Layers of several weights

LAYERS = {
    "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
    "attention of three weights": nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
    "lstm": nn.LSTM(3, 2, num_layers=2),
    "embedding": nn.Embedding(6, 3),
    "conv1d": nn.Conv1d(3, 4, 3),
    "layernorm": nn.LayerNorm(5),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_weight_or_every_bias_is_perturbed_with_its_own_draw_and_statistics(name):
    layer = LAYERS[name]
    own, weights = dict(layer.named_parameters()), [k for k, _ in layer.named_parameters()]
    weights = [key for key in weights if "bias" not in key]
    for index, parameter in enumerate(own.values()):
        nn.init.uniform_(parameter, 10 * index + 1, 10 * index + 2)
    seen = set()
    for variant in variants_of(layer, kinds=("synapse_knockout", "gaussian", "resample")):
        columns, changed = variant.columns, 0
        keys = weights if columns["parameter"] == "weight" else [k for k in own if k not in weights]
        replaced = variant.replace()
        assert list(replaced) == [f"2.{key}" for key in keys]
        for key in keys:
            before, after = own[key].detach(), replaced[f"2.{key}"]
            count = count_of(columns["strength"], before.numel())
            if columns["kind"] == "synapse_knockout":
                assert (after == 0).sum() == count
            elif columns["kind"] == "resample":  # 10 to 11, 20 to 21: a tensor keeps to its own
                assert torch.isin(after, before).all() and (after != before).sum() <= count
            else:
                count = before.numel()
                std = before.double().std(correction=0)
                assert (after - before).abs().max() < 6 * 0.5 * std + 1e-6
            changed += count
            seen.add(((after - before) / before.abs().max()).numpy().tobytes())
        assert columns["changed_weights"] == changed and variant.key is not None
        assert torch.equal(*(variant.replace()[f"2.{keys[0]}"] for _ in range(2)))
    if name.startswith("attention"):  # of tensors alike in shape, none is drawn as another
        assert len(seen) > 2 * len(own)


@pytest.mark.parametrize("name", LAYERS)
def test_units_of_any_kind_are_knocked_out(name):
    layer = LAYERS[name]
    units = filters(layer)
    for variant in variants_of(layer, kinds=("node_knockout",), shares=(0.0, 0.5, 1.0)):
        assert len(variant.mask.filters) == int(variant.columns["strength"] * units)
        belong = of_units(layer, variant.mask.filters)
        assert variant.columns["changed_weights"] == sum(m.sum().item() for m in belong.values())
        assert (variant.key is None) == (not variant.mask.filters)


def test_an_attention_by_a_second_implementation():
    torch.manual_seed(0)
    network = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    tokens = torch.rand(3, 5, 4)
    for variant in variants_of(network.self_attn, "self_attn", kinds=("synapse_knockout",)):
        if variant.columns["parameter"] == "weight":
            found = functional_call(network, variant.replace(), (tokens,))
            expected = copy.deepcopy(network)
            weights = [expected.self_attn.in_proj_weight, expected.self_attn.out_proj.weight]
            for key, weight in zip(("in_proj_weight", "out_proj.weight"), weights, strict=True):
                seed = seed_of("tensor", variant.key, key)
                rng = np.random.default_rng(seed)
                count = count_of(variant.columns["strength"], weight.numel())
                gone = entries(weight.numel(), count, rng).view(weight.shape)
                weight.data[gone] = 0
            torch.testing.assert_close(found, expected(tokens))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": ["bitflip"]}, "'bitflip' is unknown; did you mean 'bit_flip'"),
        ({"parameters": ["weights"]}, "'weights' is unknown; did you mean 'weight'"),
        ({"shares": [1.5]}, "shares: 1.5; expected a finite number from 0 to 1"),
        ({"shares": [-0.5]}, "shares: -0.5"),
        ({"sigmas": [float("nan")]}, "sigmas: nan"),
        ({"repeats": 0}, "repeats: 0"),
    ],
)
def test_unknown_names_and_numbers_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        variants_of(micro_network()[2], **changes)
