"""How often intervals of layer scores against random removal miss the truth, in simulated layers.

    PYTHONPATH=workflow python benchmarks/coverage.py [repetitions] [a word of the scenarios' names]

A layer is swept at six thresholds that remove 5 to 100 % of its weights, or at one share alone, on
images that are lost at random; the true score is 0, or as a scenario says. Each scenario tells what
a random draw costs. Images differ in how easily they are lost, and draws in how much they cost, the
same for all images that have the draw in common (`part` of `Facts`). Per scenario and score: how
often the 95 % interval lies below and above the truth (nominal: 2.5 % each), the same of families
of ten layers of which any misses (5 % together), and the mean half-width of an interval that holds
for ten at once over the standard deviation of the estimate (2.81 where that were known). Scores of
ten layers share their images, not their draws.
"""

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd

from faultline.ablation.facts import Facts
from faultline.ablation.variants import RANDOM_SHARES
from faultline.studies.synaptic.scores import layer_scores

LAYERS = 10
MIDDLE = 5  # of RANDOM_SHARES, half of the weights


@dataclass(frozen=True)
class Scenario:
    """How a layer is lost: `cost` of a draw [shares, draws] from rng; accuracy clean and attacked.

    removed: shares of the weights that the thresholds remove. n images in `parts` of `draws` draws.
    """

    name: str
    cost: str = "uniform"
    removed: tuple[float, ...] = (0.05, 0.2, 0.35, 0.5, 0.7, 1.0)
    n: int = 200
    parts: int = 4
    draws: int = 2
    accuracy: tuple[float, float] = (0.95, 0.5)
    score: float = 0.0
    differ: bool = True


def costs(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The part of an average image's chance to be lost, [shares, draws, parts]; mean .2."""
    if kind == "none":
        return np.full(shape, 0.2)
    if kind == "uniform":
        return rng.uniform(0.0, 0.4, shape)
    if kind == "skewed":
        return rng.gamma(2.0, 0.1, shape).clip(max=0.5) * (0.2 / SKEWED_MEAN)
    if kind == "uneven":  # shares vary very differently
        width = 0.2 * 0.4 ** np.arange(shape[0])[:, None, None]
        return 0.2 + width[np.argsort(UNEVEN)] * rng.uniform(-1, 1, shape)
    raise ValueError(kind)


SKEWED_MEAN = float(np.random.default_rng(0).gamma(2.0, 0.1, 10**6).clip(max=0.5).mean())
UNEVEN = np.array([7, 3, 1, 0, 2, 4, 5, 6, 8])


SCENARIOS = [
    Scenario("as many draws as ever, all images alike", parts=1, draws=3),
    Scenario("two draws in each of four parts"),
    Scenario("three draws in each of four parts", parts=4, draws=3),
    Scenario("one share alone", removed=(0.5, 0.5)),
    Scenario("one share alone, one part", removed=(0.5, 0.5), parts=1, draws=3),
    Scenario("shares that vary very differently", cost="uneven"),
    Scenario("shares that vary very differently, one part", cost="uneven", parts=1, draws=3),
    Scenario("draws skewed", cost="skewed"),
    Scenario("draws skewed, one part", cost="skewed", parts=1, draws=3),
    Scenario("draws skewed, one share alone", cost="skewed", removed=(0.5, 0.5)),
    Scenario("draws differ in nothing", cost="none"),
    Scenario("images do not differ", cost="uniform", differ=False),
    Scenario("neither differs", cost="none", differ=False),
    Scenario("an accuracy of 15 %", accuracy=(0.9, 0.15)),
    Scenario("a score of -0.1", score=-0.1),
    Scenario("1,000 images", n=1000, parts=10),
]


def network(of: Scenario, rng: np.random.Generator) -> list[Facts]:
    """The facts of LAYERS layers of a network on one set of images."""
    shares, count = np.array(RANDOM_SHARES), len(RANDOM_SHARES)
    base = {k: rng.random(of.n) < p for k, p in zip(("clean", "pgd"), of.accuracy, strict=True)}
    ease = rng.choice([0.25, 1.75], of.n) if of.differ else np.ones(of.n)
    part = rng.permutation(of.n) % of.parts
    layers = []
    for _ in range(LAYERS):
        cost = costs(of.cost, rng, (count, of.draws, of.parts))[:, :, part]
        chance = rng.random((count, of.draws, of.n))  # the same clean and attacked: draws are alike
        swept = rng.random((1, of.n))
        correct = {}
        for name, before in base.items():
            lost = chance < ease * cost
            mean = np.clip(0.2 * ease - of.score, 0, 1)
            hits = np.repeat(before & ~(swept < mean), len(of.removed), 0)
            correct[name] = np.concatenate([hits, (before & ~lost).reshape(-1, of.n)])
        v = len(of.removed)
        kept = 1 - np.concatenate([of.removed, np.repeat(shares, of.draws)])
        grid = np.concatenate([np.linspace(0, 1, v), np.repeat(shares, of.draws)])
        variants = {
            "filter": np.array(["high_pass"] * v + ["random"] * (count * of.draws)),
            "normalised": grid,
            "kept": kept,
            "changed_weights": np.full(len(kept), 9),
        }
        changed = {name: np.full(len(kept), 9) for name in base}
        layers.append(Facts(variants, base, correct, changed, part=part.astype(np.uint8)))
    return layers


def coverage(of: Scenario, repetitions: int, *, seed: int = 0) -> pd.DataFrame:
    """One row per score of a scenario."""
    rng, tables = np.random.default_rng(seed), []
    for repetition in range(repetitions):
        for facts in network(of, rng):
            table = layer_scores(
                facts,
                baseline="random",
                integration="trapezoid",
                confidence=0.95,
                compared=LAYERS,
            )
            tables.append(table[table["filter"] == "combined"].assign(repetition=repetition))
    table = pd.concat(tables)
    truth = table["score"].map({"S_clean": of.score, "S_adv": of.score, "S_diff": 0.0})
    table["below"], table["above"] = table["ci_high"] < truth, table["ci_low"] > truth
    table["any"] = (table["family_high"] < truth) | (table["family_low"] > truth)
    half = (table["family_high"] - table["family_low"]) / 2
    groups = table.assign(half=half).groupby("score", sort=False)
    rows = groups.agg(below=("below", "mean"), above=("above", "mean"), n=("value", "size"))
    rows["families"] = table.groupby(["score", "repetition"])["any"].any().groupby("score").mean()
    rows["half_width"] = groups["half"].mean() / groups["value"].std()
    return rows.reset_index().assign(scenario=of.name)


if __name__ == "__main__":
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    for scenario in SCENARIOS:
        if word in scenario.name:
            print(f"\n{scenario.name} ({repetitions} families of {LAYERS} layers)")
            table = coverage(scenario, repetitions).drop(columns="scenario")
            print(table.round(4).to_string(index=False), flush=True)
