"""A checkpoint with fewer bits or weights: each layer alone, on validation images; then those that
stand it alone all together, on test images, which chose nothing.

A layer, or a network, is safe where the interval of what it loses lies below the loss that is too
much, costly where it lies above, else undecided (ours).
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from faultline.ablation.compression import (
    FULL,
    Form,
    compressed_network,
    compression_variant,
    input_ranges,
)
from faultline.ablation.sweep import sweep
from faultline.base import pace
from faultline.base.statistics import paired_mean_interval
from faultline.data.splits import DataSet, images_of
from faultline.networks.evaluation import right
from faultline.studies.compression.names import (
    ALL,
    AS_ONE,
    COSTLY,
    FEWEST,
    SAFE,
    STAND,
    UNDECIDED,
)


class Network(NamedTuple):
    """What is compressed at once: layer -> its form; as_one: weights pruned as those of one
    layer."""

    of: Mapping[str, Form]
    as_one: bool = False


class Outcome(NamedTuple):
    """columns of the variant; base: which images are right without it, bool [n]; change: what
    becomes of each, -1, 0 or 1, [n]."""

    columns: Mapping[str, Any]
    base: np.ndarray
    change: np.ndarray


Evaluate = Callable[[Sequence[Network], str], list[Outcome]]
"""(networks, "validation" or "test") -> what each comes to."""


class Compressed(NamedTuple):
    """alone: a row per layer and form; together: a row per network that was judged; written: layer
    -> form, of the smallest network that is safe, empty where none is."""

    alone: pd.DataFrame
    together: pd.DataFrame
    written: Mapping[str, Form]


def evaluator(
    network: nn.Module,
    dataset: DataSet,
    layers: Mapping[str, nn.Module],
    *,
    by_channel: bool,
    inputs: bool = False,
    memory: Callable[[], float | None] = lambda: None,
) -> tuple[Evaluate, list[str]]:
    """(of a network on clean images, the layers of which inputs can be rounded, if they are to be:
    to values within what validation images show). memory: tells how many bytes may still be
    taken."""
    images = {split: images_of(dataset, split) for split in ("validation", "test")}
    ranges = input_ranges(network, layers, images["validation"][0]) if inputs else {}

    @functools.cache
    def base(split: str) -> np.ndarray:
        return right(network, *images[split])

    def evaluate(networks: Sequence[Network], split: str) -> list[Outcome]:
        clean, labels = images[split]
        variants = [
            compression_variant(
                layers,
                {name: form._replace(inputs=False) for name, form in of.items()},
                by_channel=by_channel,
                as_one=as_one,
            )
            for of, as_one in networks
        ]
        with_inputs = [any(form.inputs for form in of.values()) for of, _ in networks]
        outcomes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        if plain := [i for i, inputs in enumerate(with_inputs) if not inputs]:
            ablated = [name for name in layers if any(name in networks[i].of for i in plain)]
            facts = sweep(
                network,
                [variants[i] for i in plain],
                {"clean": clean},
                labels,
                ablated=ablated,
                memory=memory(),
            )
            after = zip(plain, facts.correct["clean"], strict=True)
            outcomes |= {i: (facts.base["clean"], hits) for i, hits in after}
        for i in np.flatnonzero(with_inputs).tolist():
            compact = compressed_network(network, networks[i].of, ranges, by_channel=by_channel)
            outcomes[i] = base(split), right(compact, clean, labels)
        return [
            Outcome(variant.columns, outcomes[i][0], outcomes[i][1].astype(float) - outcomes[i][0])
            for i, variant in enumerate(variants)
        ]

    return evaluate, [*ranges]


def compress(
    evaluate: Evaluate,
    layers: Sequence[str],
    *,
    forms: Sequence[Form],
    loss: float,
    confidence: float,
    observed: Collection[str] | None = None,
) -> Compressed:
    """Every layer in every form alone, and what is safe alone together.

    layers: in the order of the network. loss: of accuracy, a share, that is too much. observed: the
    layers of which inputs can be rounded, by default all; of the others weights alone are. Which
    layers are proposed together is decided on validation images: those that are safe alone, but
    those that cost most, which get more bits or are left out until the rest is safe together.
    Intervals of `alone` hold for all of its rows at once, and so do those of `together`
    (Bonferroni).
    """
    possible = {
        name: [f for f in forms if not f.inputs or observed is None or name in observed]
        for name in layers
    }
    alone = _alone(evaluate, possible, loss=loss, confidence=confidence)
    chosen: dict[str, Mapping[str, Form]] = {}
    of: Mapping[str, Form]
    for name, of in _proposed(alone, forms).items():
        while of:
            (outcome,) = evaluate([Network(of)], "validation")
            if _judged(outcome, loss, confidence, compared=1)["verdict"] == SAFE:
                break
            of = _relieved(of, alone, forms if name == FEWEST else ())
        chosen[name] = {key: of[key] for key in layers if key in of}
    networks: dict[tuple[str, str], Network] = {}
    for form in forms:
        whole = {
            name: form if form in possible[name] else form._replace(inputs=False) for name in layers
        }
        networks[form.name, ALL] = Network(whole)
        if form.share is not None and len(layers) > 1:
            networks[form.name, AS_ONE] = Network(whole, as_one=True)
        if 0 < len(chosen[form.name]) < len(layers):
            networks[form.name, STAND] = Network(chosen[form.name])
    if len({*chosen.get(FEWEST, {}).values()}) > 1:
        networks[FEWEST, STAND] = Network(chosen[FEWEST])
    weights = alone.drop_duplicates("layer").set_index("layer")["weights"]
    rows: list[dict[str, Any]] = []
    outcomes = evaluate([*networks.values()], "test")
    for ((form_name, what), (of, _)), outcome in zip(networks.items(), outcomes, strict=True):
        size = sum(weights[name] * (of[name].size if name in of else FULL) for name in layers)
        row = {"form": form_name, "compressed": what, "layers": len(of), "of": len(layers)}
        row["bits_per_weight"] = size / weights.sum()
        rows.append(row | _judged(outcome, loss, confidence, compared=len(networks)))
        print(f"{form_name}, {what}: {rows[-1]['verdict']} (n = {rows[-1]['n']})")
    together = pd.DataFrame(rows).assign(written=False)
    safe = together[(together["verdict"] == SAFE) & (together["compressed"] != AS_ONE)]
    if not len(safe):
        return Compressed(alone, together, {})
    proposed = [network.of for network in networks.values()]

    with_inputs = [-sum(form.inputs for form in of.values()) for of in proposed]
    best = min(safe.index, key=lambda row: (safe["bits_per_weight"][row], with_inputs[row]))
    together.loc[best, "written"] = True
    return Compressed(alone, together, proposed[best])


def _alone(
    evaluate: Evaluate,
    possible: Mapping[str, Sequence[Form]],
    *,
    loss: float,
    confidence: float,
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    compared = sum(map(len, possible.values()))
    for layer, forms in pace.each([*possible.items()]):
        outcomes = evaluate([Network({layer: form}) for form in forms], "validation")
        for form, outcome in zip(forms, outcomes, strict=True):
            judged = _judged(outcome, loss, confidence, compared=compared)
            rows.append({"layer": layer, **outcome.columns, "form": form.name, **judged})
        told = ", ".join(f"{row['form']} {row['verdict']}" for row in rows[-len(forms) :])
        print(f"{layer}: {told} (n = {rows[-1]['n']})")
    return pd.DataFrame(rows)


def _judged(outcome: Outcome, loss: float, confidence: float, *, compared: int) -> dict[str, Any]:
    """What an outcome tells; compared: how many intervals are to hold at once."""
    base, change = outcome.base, outcome.change
    difference, low, high = map(float, paired_mean_interval(change, confidence=confidence))
    wide = 1 - (1 - confidence) / compared
    _, family_low, family_high = map(float, paired_mean_interval(change, confidence=wide))
    return {
        "base_accuracy": base.mean(),
        "accuracy": base.mean() + difference,
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "family_low": family_low,
        "family_high": family_high,
        "verdict": SAFE if family_low > -loss else COSTLY if family_high < -loss else UNDECIDED,
        "n": len(change),
    }


def _proposed(alone: pd.DataFrame, forms: Sequence[Form]) -> dict[str, dict[str, Form]]:
    """Form -> the layers that are safe alone in it; under FEWEST each in the fewest bits in which
    it is, where there are several numbers of bits."""
    safe = alone[alone["verdict"] == SAFE]
    proposed = {
        form.name: dict.fromkeys(safe.loc[safe["form"] == form.name, "layer"], form)
        for form in forms
    }
    bits = sorted((f for f in forms if f.bits and not f.inputs), key=lambda form: -form.size)
    if len(bits) > 1:
        proposed[FEWEST] = {name: form for form in bits for name in proposed[form.name]}
    return proposed


def _relieved(
    of: Mapping[str, Form], alone: pd.DataFrame, forms: Sequence[Form]
) -> dict[str, Form]:
    """The same but for the layer that costs most alone, which gets the next more bits of `forms` in
    which it is safe, or else stays as it is; of equal ones that of the fewest bits."""
    rows = alone.set_index(["layer", "form"])
    worst = min(of, key=lambda name: (rows["difference"][name, of[name].name], of[name].size))
    wider = [
        form
        for form in forms
        if (form.bits or 0) > (of[worst].bits or 0) and rows["verdict"][worst, form.name] == SAFE
    ]
    rest = {name: form for name, form in of.items() if name != worst}
    return rest | ({worst: min(wider, key=lambda form: form.size)} if wider else {})
