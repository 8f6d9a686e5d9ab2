"""The network that was given and its mends, judged on test images; the one that is handed back."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from faultline.attacks.run import correct_under, judged
from faultline.base import pace
from faultline.base.comparison import compare
from faultline.data.splits import DataSet, test_images
from faultline.networks.architectures import body_of, measure
from faultline.networks.evaluation import chance, right
from faultline.studies.mending.faults import (
    BOUNDS,
    Faults,
    apart,
    correct_held,
    in_words,
    load,
    state_of,
)
from faultline.studies.mending.mended import bought, chosen, quick
from faultline.studies.mending.names import BUDGETS, GIVEN, WORST
from faultline.studies.mending.note import Verdict, note
from faultline.studies.stresses.judged import Stored

HALVINGS = 4
"""Of eps, at most, where the given network is at chance."""


class Judgement(NamedTuple):
    """correct: network -> image set -> bool [n] of the test split, `WORST` among them: right under
    each attack on the network itself and on each other one. masked: network -> why its accuracies
    under attack are not to be believed, else ""."""

    correct: dict[str, dict[str, np.ndarray]]
    masked: dict[str, str]


def judge_all(
    network: nn.Module,
    states: Mapping[str, Mapping[str, Tensor]],
    dataset: DataSet,
    *,
    attacks: dict[str, dict[str, Any]],
    seed: int,
) -> Judgement:
    """Judge a network under several states of its weights, by name, one after the other.

    Adversarial images are crafted on each anew, and all are shown to all others too: a network
    whose gradient lies is often fooled by what fools its neighbour.
    """
    _, labels = test_images(dataset)
    correct: dict[str, dict[str, np.ndarray]] = {}
    masked, adversarial = {}, {}
    for name, state in pace.each(states.items()):
        put(network, state)
        of = judged(attacks, network, dataset, seed=seed)
        correct[name], masked[name] = dict(of.correct), of.masked
        adversarial[name] = of.adversarial
        told = ", ".join(f"{key} {hits.mean():.4f}" for key, hits in of.correct.items())
        print(f"{name}: {told} (n = {len(labels)}) {of.masked}".rstrip())
    for name, state in states.items():
        put(network, state)
        stands = np.logical_and.reduce([*correct[name].values()])
        for other, crafted in adversarial.items():
            for moved in crafted.values() if other != name else ():
                stands &= right(network, moved, labels)
        correct[name][WORST] = stands
    return Judgement(correct, masked)


def judge_under(
    network: nn.Module,
    states: Mapping[str, Mapping[str, Tensor]],
    dataset: DataSet,
    held: Stored | Faults,
    *,
    under: Collection[str],
    seed: int = 0,
) -> Judgement:
    """The same under stresses, which no network can hide from. held: the test inputs under them
    and others, or faults of the weights, which are drawn by the seed; under: those that `WORST` is
    over, with the inputs as they are."""
    correct = {}
    for name, state in pace.each(states.items()):
        put(network, state)
        sets = correct_held(network, dataset, held, split="test", seed=seed)
        counts = (of for key, of in sets.items() if key.rpartition("@")[0] in ("", *under))
        sets[WORST] = np.logical_and.reduce([*counts])
        told = ", ".join(f"{key} {hits.mean():.4f}" for key, hits in sets.items())
        print(f"{name}: {told} (n = {len(sets[WORST])})")
        correct[name] = sets
    return Judgement(correct, dict.fromkeys(correct, ""))


def ramp(
    network: nn.Module, dataset: DataSet, *, attacks: Mapping[str, Mapping[str, Any]], seed: int
) -> dict[str, dict[str, Any]]:
    """Where a network is at chance under the first of the attacks: the same at half its eps, or a
    quarter and so on, where it still stands, by its name. Nothing where it stands anyway, or at
    none of `HALVINGS` (ours).

    A quick form of the attack and validation images tell; chance is the share of the commonest
    label.
    """
    _, labels = dataset.splits["validation"]
    name, attack = next(iter(attacks.items()))
    for halving in range(HALVINGS + 1):
        eps = attack["eps"] / 2**halving
        of = {name: quick({**attack, "eps": eps})}
        correct = correct_under(of, network, dataset, split="validation", seed=seed)
        if correct[name].mean() > chance(labels):
            return {f"{name} at {eps:g}": {**attack, "eps": eps}} if halving else {}
    return {}


def put(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives a network other weights, and bounds of its outputs, if the state has any."""
    load(network, state)
    measure(network)


def verdict_on(
    candidate: str, judgement: Judgement, *, clean_loss: float, confidence: float
) -> Verdict:
    """Whether a mend keeps on test images what validation images promised."""
    correct = judgement.correct
    worst, clean = (
        _difference(correct[candidate][images], correct[GIVEN][images], confidence)
        for images in (WORST, "clean")
    )
    why = judgement.masked[candidate] or judgement.masked[GIVEN]
    if not why and worst[1] <= 0:
        why = "No gain is told on test images."
    if not why and clean[2] < -clean_loss:
        why = (
            "It is told to lose more clean accuracy on test images than mending.clean_loss allows."
        )
    return Verdict(not why, why, worst, clean)


class Outcome(NamedTuple):
    """correct: "network|image set" -> bool [n]; result: a row per network, with what was chosen and
    what became of it; bought: see `bought`; weights: what is handed back, for the network's own
    class, else None; note: the text beside it; bounds: within which the outputs of its layers are
    to be kept, empty but where `clip` is handed back."""

    correct: dict[str, np.ndarray]
    result: pd.DataFrame
    bought: pd.DataFrame
    weights: dict[str, Tensor] | None
    note: str
    bounds: Mapping[str, tuple[float, float]] = MappingProxyType({})


def judge_mends(
    network: nn.Module,
    dataset: DataSet,
    *,
    states: Mapping[str, Mapping[str, Tensor]],
    paths: Mapping[str, pd.DataFrame],
    abouts: Mapping[str, str],
    attacks: dict[str, dict[str, Any]],
    clean_loss: float,
    confidence: float,
    name: str,
    seed: int,
    dtype: torch.dtype | None = None,
    stressed: Stored | None = None,
    faults: Faults | None = None,
    under: Sequence[str] = (),
) -> Outcome:
    """Judge the network that was given and each candidate that came to something, and hand back the
    one that validation images chose where test images bear it out.

    states, paths: candidate -> its state and its path, see `mend_by`; abouts: candidate -> what it
    is, in words; name: of the network; dtype: that the weights are handed back in, and judged with
    its precision; stressed: the test inputs under stresses, of which those in `under` judge in
    place of attacks; faults: of the weights, which judge in place of both.
    """
    given = state_of(network)
    tried = {
        key: {
            name: value if name.startswith(BOUNDS) else _in(value, dtype).to(value)
            for name, value in state.items()
        }
        for key, state in states.items()
        if not paths[key]["best"].iloc[0]
    }
    weaker: dict[str, dict[str, Any]] = {}
    held = stressed if faults is None else faults
    if held is not None:
        all_states = {GIVEN: given} | tried
        judgement = judge_under(network, all_states, dataset, held, under=under, seed=seed)
        said = in_words(held, under)
    else:
        weaker = ramp(network, dataset, attacks=attacks, seed=seed)
        attacks = attacks | weaker
        judgement = judge_all(network, {GIVEN: given} | tried, dataset, attacks=attacks, seed=seed)
        said = ", ".join(f"{key} (eps {of['eps']:g}, {of['norm']})" for key, of in attacks.items())
    candidate = chosen({key: paths[key] for key in tried}, clean_loss=clean_loss)
    verdict, state = None, None
    if candidate is not None:
        verdict = verdict_on(candidate, judgement, clean_loss=clean_loss, confidence=confidence)
        state = tried[candidate] if verdict.handed_back else None
    rows = []
    for key, of in judgement.correct.items():
        row: dict[str, Any] = {"candidate": key, "masked": judgement.masked[key]}
        path = paths[key] if key in paths else next(iter(paths.values()))
        best = path[path["best"]].iloc[0] if key != GIVEN else path.iloc[0]
        row |= {column: best[column] for column in ("rate", "share")}
        row["passes"] = (
            path.groupby("rate", dropna=False)["passes"].max().sum() if key != GIVEN else 0
        )
        row |= {"chosen": key == candidate, "handed_back": key == candidate and state is not None}
        row["why"] = verdict.why if verdict and key == candidate else ""
        row |= {"clean": of["clean"].mean(), "worst": of[WORST].mean()}
        rows.append(row | {"n": len(of["clean"])})
    table = bought(paths, BUDGETS)
    normalise = getattr(network, "normalise", None)
    moments = [getattr(normalise, key, None) for key in ("mean", "std")]
    correct = judgement.correct
    at_chance = [
        (attack["eps"], correct[GIVEN][key].mean(), correct[candidate][key].mean())
        for key, attack in weaker.items()
        if candidate
    ]
    bounds = apart(state)[1] if state is not None else {}
    text = note(
        verdict,
        clipped=bool(bounds),
        candidate=candidate,
        about=abouts.get(candidate or "", ""),
        network=name,
        under=said,
        at_chance=at_chance,
        n=rows[0]["n"],
        confidence=confidence,
        clean_loss=clean_loss,
        bought=table,
        moments=None
        if moments[0] is None
        else [part.flatten().tolist() for part in moments if part is not None],
    )
    print(text)
    hits = {
        f"{key}|{images}": of
        for key, sets in judgement.correct.items()
        for images, of in sets.items()
    }
    weights = None
    if state is not None:
        weights = {key: _in(value, dtype) for key, value in plain_state(network, state).items()}
    return Outcome(hits, pd.DataFrame(rows), table, weights, text, bounds)


def _difference(
    hits: np.ndarray, reference: np.ndarray, confidence: float
) -> tuple[float, float, float]:
    pair: dict[Hashable, dict[str, np.ndarray]] = {0: {"mended": hits, "given": reference}}
    row = compare(pair, reference="given", confidence=confidence).iloc[0]
    return row["difference"], row["ci_low"], row["ci_high"]


def _in(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor of floating point in a type, if one is asked for; others as they are."""
    return value.to(dtype) if dtype and value.is_floating_point() else value


def plain_state(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the network proper, as its own class names it: without the normalisation
    that stands before it."""
    put(network, state)
    return {
        key: value.detach().cpu().clone().contiguous()
        for key, value in body_of(network).state_dict().items()
        if isinstance(value, torch.Tensor)
    }
