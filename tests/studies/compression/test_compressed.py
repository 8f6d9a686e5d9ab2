"""What stands fewer bits or weights: decisions by hand, over simulated networks, and a real one."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom

from faultline.ablation.compression import (
    Form,
    compressed,
    compressed_network,
    forms,
    input_ranges,
)
from faultline.networks.layers import layers
from faultline.networks.registry import build
from faultline.studies.compression.compressed import Network, Outcome, compress, evaluator
from faultline.studies.compression.names import (
    ALL,
    AS_ONE,
    COSTLY,
    FEWEST,
    SAFE,
    STAND,
    UNDECIDED,
)
from faultline.studies.compression.written import precision


def changing(lost, n=400):
    """Of n images, all right at first, so many become wrong."""
    change = np.zeros(n)
    change[: round(lost)] = -1
    return Outcome({"weights": 100, "changed_weights": 1}, np.ones(n, bool), change)


def by_rule(cost):
    """An evaluation whose lost images are `cost(network, split)`; it remembers what was asked."""
    asked = []

    def evaluate(networks, split):
        asked.append((split, [dict(of) for of, _ in networks]))
        outcomes = [changing(cost(network, split)) for network in networks]
        return [
            of._replace(columns=of.columns | {"form": next(iter(network.of.values())).name})
            for network, of in zip(networks, outcomes, strict=True)
        ]

    return evaluate, asked


INT8, INT4, HALF = forms([8, 4], [0.5])


def test_what_is_safe_alone_is_tried_together_and_the_costly_left_out(capsys):
    alone = {"a": {INT8: 0, INT4: 0}, "b": {INT8: 0, INT4: 1}, "c": {INT8: 1, INT4: 40}}

    def cost(network, split):
        lost = sum(alone[name][form] for name, form in network.of.items())
        both = {network.of.get("a"), network.of.get("b")} == {INT4}
        return lost + 30 * both  # a and b are safe in four bits, and not together

    evaluate, asked = by_rule(cost)
    result = compress(evaluate, ["a", "b", "c"], forms=[INT8, INT4], loss=0.05, confidence=0.95)
    verdicts = result.alone.set_index(["layer", "form"])["verdict"].to_dict()
    assert verdicts.pop(("c", "int4")) == COSTLY and set(verdicts.values()) == {SAFE}
    tables = result.together.set_index(["form", "compressed"])
    assert list(tables.index) == [
        *[("int8", ALL), ("int4", ALL), ("int4", STAND), (FEWEST, STAND)],
    ]
    assert tables["verdict"].to_dict() == {
        ("int8", ALL): SAFE,
        ("int4", ALL): COSTLY,
        ("int4", STAND): SAFE,
        (FEWEST, STAND): SAFE,
    }
    # b cost most of those proposed together, a stays
    assert tables.loc[("int4", STAND), "layers"] == 1
    assert tables.loc[("int4", STAND), "bits_per_weight"] == pytest.approx((4 + 32 + 32) / 3)
    # of those in the fewest bits b costs most in the fewest, so it gets more
    assert result.written == {"a": INT4, "b": INT8, "c": INT8}
    written = tables[tables["written"]]
    assert len(written) == 1 and written["bits_per_weight"].iloc[0] == pytest.approx(20 / 3)
    assert [split for split, _ in asked].count("test") == 1 and asked[-1][0] == "test"
    assert "c: int8 safe, int4 costly (n = 400)" in capsys.readouterr().out


def test_every_form_is_judged_as_a_whole_and_pruning_as_one_too():
    evaluate, _ = by_rule(lambda network, split: 0 if network.as_one else 5 * len(network.of))
    result = compress(evaluate, ["a", "b"], forms=[HALF], loss=0.02, confidence=0.95)
    assert set(result.alone["verdict"]) == {UNDECIDED}
    judged = result.together.set_index("compressed")
    assert [*judged.index] == [ALL, AS_ONE] and judged["verdict"].to_dict()[AS_ONE] == SAFE
    assert not judged["written"].any() and not result.written  # as one, no layer has a share
    text = precision({}, result.together, scales="channel", loss=0.02, confidence=0.95)
    assert json.loads(text) | {"loss": 0} == {
        **{
            "bits": {},
            "inputs": {},
            "pruned": {},
            "scales": "channel",
            "loss": 0,
            "confidence": 0.95,
        },
        "judged": {},
    }


def test_the_file_says_bits_and_shares_and_what_test_images_say():
    evaluate, _ = by_rule(lambda network, split: 0)
    result = compress(evaluate, ["a", "b"], forms=[INT8, INT4], loss=0.02, confidence=0.9)
    assert result.written == {"a": INT4, "b": INT4}
    said = json.loads(
        precision(result.written, result.together, scales="layer", loss=0.02, confidence=0.9)
    )
    row = result.together[result.together["written"]].iloc[0]
    assert said["bits"] == {"a": 4, "b": 4} and said["pruned"] == {} and said["scales"] == "layer"
    assert said["judged"]["test_images"] == 400 and said["judged"]["accuracy"] == 1
    assert said["judged"]["difference"][1] == pytest.approx(row["family_low"], abs=1e-6)


def simulated(rng, *, layers, share, n_validation=300, n_test=500):
    """A network whose layers cost more in company; (how it is evaluated, its true loss)."""
    forms = {form: rng.exponential(share, layers) for form in (INT8, INT4, HALF)}
    company = rng.uniform(0, 0.6)

    def truth(network: Network) -> float:
        costs = [forms[form][name] for name, form in network.of.items()]
        return min(sum(costs) * (1 + company * (len(costs) - 1) / layers), 0.9)

    def evaluate(networks, split):
        n = n_validation if split == "validation" else n_test
        out = []
        for network in networks:
            loss, churn = truth(network), rng.uniform(0, 0.02)
            change = rng.choice([-1.0, 0.0, 1.0], n, p=[loss + churn, 1 - loss - 2 * churn, churn])
            columns = {"form": "", "weights": 10, "changed_weights": 1}
            columns["form"] = next(iter(network.of.values())).name
            out.append(Outcome(columns, np.ones(n, bool), change))
        return out

    return evaluate, truth


@pytest.mark.parametrize("share", [0.004, 0.012])
def test_of_simulated_networks_few_are_called_safe_that_are_not(share):
    rng, loss, networks = np.random.default_rng(0), 0.03, 250
    wrong_alone = wrong = called = 0
    for _ in range(networks):
        evaluate, truth = simulated(rng, layers=5, share=share)
        seen = {}

        def watched(networks, split, evaluate=evaluate, seen=seen):
            if split == "test":
                seen["networks"] = [*networks]
            return evaluate(networks, split)

        result = compress(watched, range(5), forms=[INT8, INT4, HALF], loss=loss, confidence=0.95)
        safe = result.alone[result.alone["verdict"] == SAFE]
        by_name = {form.name: form for form in (INT8, INT4, HALF)}
        costs = [truth(Network({row["layer"]: by_name[row["form"]]})) for _, row in safe.iterrows()]
        wrong_alone += any(cost > loss for cost in costs)
        verdicts = result.together["verdict"].to_numpy()
        losses = np.array([truth(network) for network in seen["networks"]])
        wrong += bool(((verdicts == SAFE) & (losses > loss)).any())
        called += int((verdicts == SAFE).sum())
    assert called > networks / 4
    most = binom.ppf(0.999, networks, 0.05)
    assert wrong <= most and wrong_alone <= most, (wrong, wrong_alone)


def test_a_real_network_is_judged_as_a_plain_loop_says():
    torch.manual_seed(0)
    network = build("small_conv", shape=(1, 8, 8), classes=3, mean=0.5, std=0.3, seed=0).eval()
    own = layers(network)
    images = torch.rand(90, 1, 8, 8)
    own["fc"].bias.data -= network(images).mean(0)  # every class has its images
    labels = network(images).argmax(1)
    splits = {"validation": (images[:40], labels[:40]), "test": (images[40:], labels[40:])}
    data = SimpleNamespace(splits=splits, pixels=lambda stored: stored)
    evaluate, observed = evaluator(network, data, own, by_channel=True, inputs=True)
    assert observed == [*own]
    for split, of in (("validation", {"conv1": Form(bits=2)}), ("test", dict.fromkeys(own, HALF))):
        (outcome,) = evaluate([Network(of)], split)
        given, right = splits[split]
        kept = {key: value.clone() for key, value in network.state_dict().items()}
        with torch.no_grad():
            for name, form in of.items():
                for key, value in compressed(own[name], form).items():
                    own[name].get_parameter(key).copy_(value)
            expected = (network(given).argmax(1) == right).numpy()
        network.load_state_dict(kept)
        assert outcome.base.all() and np.array_equal(outcome.change, expected.astype(float) - 1)
        assert not expected.all()
    result = compress(evaluate, [*own], forms=[INT8], loss=0.02, confidence=0.95)
    assert isinstance(result.alone, pd.DataFrame) and len(result.alone) == len(own)
    # beside a form that is swept, one whose inputs are rounded, by the range on validation images
    of = dict.fromkeys(own, Form(bits=3, inputs=True))
    swept, outcome = evaluate([Network({"conv1": Form(bits=2)}), Network(of)], "test")
    compact = compressed_network(network, of, input_ranges(network, own, images[:40]))
    expected = (compact(images[40:]).argmax(1) == labels[40:]).numpy()
    assert np.array_equal(outcome.change, expected.astype(float) - 1) and not expected.all()
    assert swept.base.all() and not np.array_equal(swept.change, outcome.change)
    (alone,) = evaluate([Network(of)], "test")
    assert np.array_equal(alone.change, outcome.change)


def test_inputs_are_rounded_where_they_are_seen_and_of_equal_size_that_is_written():
    eight, both = forms([8], [], inputs=True)
    assert both.name == "int8 and inputs" and both.size == eight.size
    evaluate, asked = by_rule(lambda network, split: 0)
    given = {"forms": [eight, both], "loss": 0.02, "confidence": 0.95}
    result = compress(evaluate, ["a", "b"], **given, observed=["a"])
    assert [*zip(result.alone["layer"], result.alone["form"], strict=True)] == [
        *[("a", "int8"), ("a", "int8 and inputs"), ("b", "int8")],
    ]
    _, networks = asked[-1]
    assert networks == [{"a": eight, "b": eight}, {"a": both, "b": eight}, {"a": both}]
    assert result.written == {"a": both, "b": eight}
    told = json.loads(
        precision(result.written, result.together, scales="channel", loss=0.02, confidence=0.95)
    )
    assert told["bits"] == {"a": 8, "b": 8} and told["inputs"] == {"a": 8}
