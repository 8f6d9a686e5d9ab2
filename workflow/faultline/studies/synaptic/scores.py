"""Scores of layers, bands of weights and filters, from the facts of a sweep. No torch.

For the clean and the adversarial accuracy p, q under an ablation, and p0, q0 of the base network:

    S_clean = p/p0 - baseline      S_adv = q/q0 - baseline      S_diff = S_adv - S_clean

integrated over the normalised threshold for a layer (Pravin et al. 2024). The baseline (ours) is

    unfiltered      1: what the unablated network keeps
    kept_fraction   the share of the layer's weights that the filter keeps
    random          r/p0 or r/q0, r what is left when as many weights of the layer, drawn at random,
                    are removed (mean over draws, which are swept beside the filters)

Every score table has the columns filter, attack ("none" for S_clean), score, value, standard_error,
ci_low, ci_high (the interval of this score), family_low, family_high (the interval, wider, that
holds for the whole family at once: Bonferroni over the `compared` units), p_value (two-sided, of no
effect), n (images), untouched (no weight or no output changed). All but the first three, n,
compared and untouched are NaN where there is nothing to lose: where the base network's accuracy on
the images is not above chance (see `base_accuracy`).

Where images were drawn by strata (`Facts.strata`), means and variances go by these, and all tables
have one column more, stands_for: the images that the n stand for. Counts (correct, lost, gained)
are of the n images as they are.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.integrate import simpson, trapezoid
from scipy.special import ndtr, stdtrit

from faultline.ablation.facts import Facts
from faultline.base.errors import UserError, some
from faultline.base.inputs import check_count, check_number, one_of
from faultline.base.sampling import Alike, Strata
from faultline.base.statistics import (
    mcnemar,
    normal_quantile,
    paired_ratio_interval,
    paired_ratio_tails,
)

RULES = {"trapezoid": trapezoid, "simpson": simpson}

RANDOM = "random"
"""The baseline, and the name in facts of the variants that it is made of."""

BASELINES = ("unfiltered", "kept_fraction", RANDOM)

NUMBERS = [
    *("value", "standard_error", "ci_low", "ci_high", "family_low", "family_high", "p_value")
]

TINY = np.finfo(float).tiny

SINGLE = ["lost", "gained", "accuracy_lost"]

SCORED = ("filter", "normalised", "kept", "changed_weights")
"""Columns of the variants of synaptic filters that scores of layers go by."""
SYNAPTIC = (*SCORED, "threshold")


def check_confidence(confidence: float) -> None:
    """UserError for what is no share between 0 and 1."""
    check_number(confidence, "confidence, a share such as 0.95", high=1.0, open=True)


def _check_facts(facts: Facts, columns: Iterable[str], what: str, made_by: str) -> None:
    """UserError where facts are of other variants than these columns are of, or not of clean
    images."""
    if missing := [column for column in columns if column not in facts.variants]:
        raise UserError(
            f"{what}: these facts have no column {missing[0]!r}, but {some(facts.variants)}; sweep "
            f"the variants of {made_by}"
        )
    if "clean" not in facts.base:
        raise UserError(
            f'{what}: these facts are of {some(facts.base)}; sweep the image set "clean", too, '
            "which others are compared with"
        )


def integrate(values, grid, *, rule: str) -> np.ndarray:
    """Integral of `values` [T, ...] along axis 0 over the ascending `grid` [T].

    rule: "trapezoid" or "simpson" (any spacing, odd or even T).
    """
    return RULES[rule](np.asarray(values, float), x=np.asarray(grid, float), axis=0)


def base_accuracy(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """What the unablated network has to lose, one row per image set: images, correct, n, accuracy,
    ci_low, ci_high (Wilson), chance, above_chance: whether the interval lies above chance."""
    check_confidence(confidence)
    return pd.DataFrame(_base_accuracy(facts, confidence))


def _base_accuracy(facts: Facts, confidence: float) -> dict:
    """The columns of `base_accuracy`."""
    count = np.array([base.sum() for base in facts.base.values()])
    n = np.array([len(base) for base in facts.base.values()])
    intervals = [facts.design.share_interval(b, confidence=confidence) for b in facts.base.values()]
    accuracy, low, high = np.array(intervals).T
    columns = {"images": list(facts.base), "correct": count, "n": n, "accuracy": accuracy}
    columns |= {"ci_low": low, "ci_high": high, "chance": facts.chance}
    return columns | {"above_chance": low > facts.chance} | facts.stands_for


def layer_scores(
    facts: Facts, *, baseline: str, integration: str, confidence: float, compared: int = 1
) -> pd.DataFrame:
    """Scores of one layer: one row per synaptic filter x attack x score.

    The synaptic filters are those in the facts, and "combined", their mean. baseline: of BASELINES;
    integration: of RULES. compared: the number of layers that are scored side by side. UserError
    for other names, and for facts of something else than synaptic filters.
    """
    one_of(integration, RULES, "layer_scores: integration")
    check_count(compared, "layer_scores: compared")
    _check_facts(facts, SCORED, "layer_scores", "synaptic_variants")
    sweeps = _sweeps(facts)
    grid = facts.variants["normalised"]

    def integrated(values):
        """values [V, ...] over the threshold, [F, ...]: each synaptic filter's, and their mean."""
        parts = [integrate(values[v], grid[v], rule=integration) for v in sweeps.values()]
        return np.stack([*parts, np.mean(parts, axis=0)])

    def any_of(values):
        parts = [values[v].any() for v in sweeps.values()]
        return np.array([*parts, any(parts)])

    table = _score_table(
        [*sweeps, "combined"],
        facts,
        integrated,
        baseline=baseline,
        touched=any_of(facts.variants["changed_weights"]),
        changed={images: any_of(count) for images, count in facts.changed.items()},
        confidence=confidence,
        compared=compared,
    )
    return table.reset_index(drop=True)


def curves(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """Accuracy over the threshold, ascending, per synaptic filter and image set, with Wilson's
    interval. Columns: filter, images, threshold, normalised, kept, correct (count), n, accuracy,
    ci_low, ci_high, base_accuracy."""
    check_confidence(confidence)
    _check_facts(facts, SYNAPTIC, "curves", "synaptic_variants")
    tables = []
    for name, v in _sweeps(facts).items():
        for images, base in facts.base.items():
            correct = facts.correct[images][v]
            accuracy, low, high = facts.design.share_interval(correct, confidence=confidence)
            tables.append(
                pd.DataFrame(
                    {
                        "filter": name,
                        "images": images,
                        **{k: facts.variants[k][v] for k in ("threshold", "normalised", "kept")},
                        "correct": correct.sum(1),
                        "n": len(base),
                        "accuracy": accuracy,
                        "ci_low": low,
                        "ci_high": high,
                        "base_accuracy": facts.design.mean(base),
                        **facts.stands_for,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def band_scores(facts: Facts, *, baseline: str, confidence: float) -> pd.DataFrame:
    """Scores of the bands of one layer's weights: one row per `pulse` variant x attack x score.

    Further columns: band (0.. in ascending threshold), threshold, low and high (a weight w is in
    the band where low <= w < high), weights (non-zero weights in it), and lost and gained as in
    `filter_scores`. The intervals of S_clean and S_adv are exact but for the baseline `random`, as
    are their p-values: McNemar's for the baseline 1. Ours.
    """
    _check_facts(facts, SYNAPTIC, "band_scores", "synaptic_variants")
    v = _sweeps(facts).get("pulse", np.array([], int))
    threshold, weights = (facts.variants[k][v] for k in ("threshold", "changed_weights"))
    half = np.ptp(threshold) / (2 * len(v)) if len(v) else 0.0
    bands = {
        "band": np.arange(len(v)),
        "threshold": threshold,
        "low": threshold - half,
        "high": threshold + half,
        "weights": weights,
    }
    table = _score_table(
        ["pulse"] * len(v),
        facts,
        lambda values: values[v],
        baseline=baseline,
        touched=weights != 0,
        changed={images: count[v] for images, count in facts.changed.items()},
        confidence=confidence,
        single=True,
    )
    return table.drop(columns="accuracy_lost").join(pd.DataFrame(bands)).reset_index(drop=True)


def filter_scores(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """Scores of the filters of one layer, from nodal dropout: one row per filter x attack x score.

    The baseline is 1. Further columns, missing for S_diff: lost and gained (images correct only
    before, only after), accuracy_lost (d_i of Pravin et al. 2021 in the rows of S_clean, the
    adversarial accuracy lost in those of S_adv). Up to 512 filters x 10,000 images.
    """
    _check_facts(facts, ("filter", "changed_weights"), "filter_scores", "nodal_variants")
    variants = facts.variants
    table = _score_table(
        variants["filter"],
        facts,
        lambda values: values,
        baseline="unfiltered",
        touched=(variants["changed_weights"] != 0) & (variants.get("changed_activations", 1) != 0),
        changed=facts.changed,
        confidence=confidence,
        single=True,
    )
    return table.reset_index(drop=True)


def _sweeps(facts: Facts) -> dict[str, np.ndarray]:
    """Synaptic filter -> its variants in ascending threshold, however they are stored."""
    names, grid = np.asarray(facts.variants["filter"]), facts.variants["normalised"]
    indices = {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names)}
    return {
        name: v[np.argsort(grid[v], kind="stable")] for name, v in indices.items() if name != RANDOM
    }


class _AtRandom(NamedTuple):
    """What is left where as many weights as each of V variants removes are removed at random:
    weights [V, J] of the J shares that were tried (between them it is linear), and the correctness
    of each image in each draw [J, draws, n]."""

    weights: np.ndarray
    correct: np.ndarray


def _at_random(facts: Facts, images: str) -> _AtRandom:
    variants = facts.variants
    removed, drawn = (
        1 - np.asarray(variants["kept"], float),
        np.asarray(variants["filter"]) == RANDOM,
    )
    share = np.unique(variants["normalised"][drawn])
    tried = [np.flatnonzero(drawn & (variants["normalised"] == s)) for s in share]
    correct = np.stack([facts.correct[images][v] for v in tried]).astype(float)
    grid = np.concatenate([[0.0], [removed[v].mean() for v in tried]])
    weights = np.stack([np.interp(removed, grid, unit) for unit in np.eye(len(grid))], axis=1)
    whole = np.broadcast_to(facts.base[images], correct[:1].shape)
    return _AtRandom(weights, np.concatenate([whole, correct]))


class _Drawn(NamedTuple):
    """Random draws that effects of F units are measured against.

    weights [F, J], of J shares; moved [J, draws, n], what each image adds in each draw; part [n],
    of the images that have draws in common.
    """

    weights: np.ndarray
    moved: np.ndarray
    part: np.ndarray

    def variances(self) -> tuple[np.ndarray, np.ndarray, int]:
        """(what each share adds over draws [F, J]; what of it images vary over draws each by
        itself [F]; the degrees of freedom of the former)."""
        squares, (_, draws, _) = self.weights**2, self.moved.shape
        inside = np.eye(self.part.max() + 1)[self.part]  # [n, parts]
        over_draws = (self.moved @ inside).var(1, ddof=1).sum(1) / draws
        by_itself = self.moved.var(1, ddof=1).sum(1) / draws
        return squares * over_draws, squares @ by_itself, (draws - 1) * inside.shape[1]


class _Effect(NamedTuple):
    """A relative change of accuracy of F units, and how it may deviate.

    value [F]; influence [F, n], of each image; moved [F, n], what the change of each image adds;
    unit: what one image that changes wholly adds, and its square; base [n], of the images over
    their mean; drawn: the random draws, where there are several.
    """

    value: np.ndarray
    influence: np.ndarray
    moved: np.ndarray
    unit: tuple[float, float]
    base: np.ndarray
    drawn: _Drawn | None
    design: Alike | Strata

    def less(self, other: "_Effect") -> "_Effect":
        """This less another one of the same images and draws, which is taken to deviate less."""
        drawn = self.drawn
        if drawn and other.drawn:
            drawn = drawn._replace(moved=drawn.moved - other.drawn.moved)
        return _Effect(
            self.value - other.value,
            self.influence - other.influence,
            self.moved - other.moved,
            max(self.unit, other.unit),
            self.base,
            drawn,
            self.design,
        )


def _effect(
    change: np.ndarray, base: np.ndarray, design: Alike | Strata, drawn: _Drawn | None = None
) -> _Effect:
    """change [F, n]: of each image's correctness; drawn: with the correctness of images for what
    they add. Working with changes, not with accuracies, makes the effect of what changes nothing
    exactly zero."""
    p0 = design.mean(base)
    value = design.mean(change) / p0
    influence = design.parts(change - value[:, None] * base, p0)
    moved, unit = design.parts(change, p0), design.unit(len(base), float(p0))
    if drawn:
        drawn = drawn._replace(moved=design.parts(drawn.moved, p0))
    return _Effect(value, influence, moved, unit, base / p0, drawn, design)


class _Spread:
    """The standard error of effects, where their true value lies a distance away (ours).

    As in a score test, the variance is the one that holds if that value is true:

        v(d) = v + max(|d| * lump * one_sided, d s) + 2 d c + d^2 w

    v: over images, by the delta method, never zero as one image is taken to change beside those
    that did. lump: the effect of one changed image (the more others it stands for, the more it
    counts); where all changes go one way, another value means other numbers of such changes, which
    vary by themselves (as Wilson's interval has it of a proportion). s: beside random draws changes
    go both ways, and this is blind; there it is the third over the second moment of the influences,
    by which the variance changes with the mean where the distribution is tilted to another one
    (Efron 1981), as that of a binomial does. c, w: the denominator of the ratio varies as well
    (Fieller). Random draws are few, so a margin over them, by Student's t with degrees of freedom
    as Satterthwaite's, is added as squares. Degrees for both together would promise too much: where
    the draws happen to agree, they would be many. Draws differ alike in each part of the images, as
    these are dealt at random, so their variances are pooled. What an image varies over draws by
    itself is in both variances, and is taken from that over images, as errors clustered both ways
    have it (Cameron, Gelbach & Miller 2011).
    """

    def __init__(self, effect: _Effect):
        design, (unit, unit_square) = effect.design, effect.unit
        size, squares = np.abs(effect.moved).sum(1), (effect.moved**2).sum(1)
        total = np.abs(effect.moved.sum(1))
        lump = (unit_square + squares) / (unit + size)
        self.variance = design.variance(effect.influence)
        self.drawn, spread, self.skew = np.zeros((3, len(lump)))
        if effect.drawn:
            self.skew = (effect.influence**3).sum(1)
            self.skew = self.skew / np.maximum((effect.influence**2).sum(1), TINY)
            drawn, by_itself, degrees = effect.drawn.variances()
            self.variance = np.maximum(self.variance - by_itself, 0)
            self.drawn, spread = drawn.sum(1), (drawn**2).sum(1) / degrees
        self.variance = self.variance + lump**2
        self.degrees = self.drawn**2 / np.where(spread > 0, spread, np.nan)  # NaN: no draws
        self.linear = lump * (unit + total) / (unit + size)
        self.tilt = -2 * design.covariance(effect.influence, effect.base)
        self.square = design.base_variance(effect.base)

    def p_value(self, distance: np.ndarray) -> np.ndarray:
        """Two-sided, of the true value that lies `distance` [F] above."""
        variance = self.variance + np.maximum(np.abs(distance) * self.linear, distance * self.skew)
        variance = variance + distance * self.tilt + distance**2 * self.square
        low, high = 0 * variance, np.abs(distance) / np.sqrt(variance)
        for _ in range(60 * self.drawn.any()):  # bisection: the z whose margin is the distance
            z = (low + high) / 2
            within = z**2 * variance + self._over_draws(ndtr(-z)) < distance**2
            low, high = np.where(within, z, low), np.where(within, high, z)
        return 2 * ndtr(-high)

    def _over_draws(self, tail) -> np.ndarray:
        """The square of the margin over draws that is missed on a side with this probability."""
        return np.where(self.drawn > 0, stdtrit(self.degrees, tail) ** 2 * self.drawn, 0.0)

    def margin(self, confidence: float, side: int) -> np.ndarray:
        """How far the interval reaches above (side 1) or below (-1); infinite where it has no end
        there."""
        z2 = normal_quantile(confidence) ** 2
        a = 1 - z2 * self.square
        b = z2 * (np.maximum(self.linear, side * self.skew) + side * self.tilt)
        c = z2 * self.variance + self._over_draws((1 - confidence) / 2)
        root = np.sqrt(b**2 + 4 * np.maximum(a, 0) * c)
        return np.where(a > 0, (b + root) / (2 * np.where(a > 0, a, 1)), np.inf)


def _score_table(
    filters,
    facts: Facts,
    summed: Callable[[np.ndarray], np.ndarray],
    *,
    baseline: str,
    touched: np.ndarray,
    changed: dict[str, np.ndarray],
    confidence: float,
    compared: int | None = None,
    single: bool = False,
) -> pd.DataFrame:
    """Rows for each of F `filters` x attack x score; the index is the position in `filters`.

    summed:   from values of all variants [V, ...] to those of the F units.
    touched:  [F], whether a weight or an activation changed; changed: image set -> [F], whether an
              output did.
    compared: the size of the family; by default the number of units that are not untouched.
    single:   each unit is one ablation, so its changes can be counted.
    """
    one_of(baseline, BASELINES, "scores: baseline")
    check_confidence(confidence)
    if baseline == RANDOM and RANDOM not in facts.variants["filter"]:
        raise UserError(
            f"scores: baseline {RANDOM!r} needs variants of random_variants beside the others; "
            f"sweep them, too, or choose one of {', '.join(BASELINES[:-1])}"
        )
    base, rows = facts.base, []
    accuracy = _base_accuracy(facts, confidence)
    above = dict(zip(base, accuracy["above_chance"], strict=True))
    offset = np.zeros(len(filters))
    if baseline == "kept_fraction":
        offset = summed(1 - np.asarray(facts.variants["kept"], float))

    def effect(images):
        correct = facts.correct[images].astype(float)
        if baseline != RANDOM:
            return _effect(summed(correct - base[images]), base[images], facts.design)
        weights, at_random = _at_random(facts, images)
        change = summed(correct - weights @ at_random.mean(1))
        part = np.zeros(len(base[images]), int) if facts.part is None else facts.part
        drawn = _Drawn(summed(weights), at_random, part) if at_random.shape[1] > 1 else None
        return _effect(change, base[images], facts.design, drawn)

    def add(effect, images, attack, score):
        untouched = ~touched.astype(bool) | ~np.any([changed[i] for i in images], axis=0)
        n, shift = len(base[images[0]]), 0 * offset if score == "S_diff" else offset
        family = max((~untouched).sum() if compared is None else compared, 1)
        columns = {"filter": filters, "attack": attack, "score": score}
        columns |= dict.fromkeys([*NUMBERS, *SINGLE] if single else NUMBERS, np.nan)
        simultaneous = 1 - (1 - confidence) / family
        if effect is not None:
            columns |= estimated(effect, shift, simultaneous)
            if single and score != "S_diff" and baseline != RANDOM:
                columns |= counted(images[0], shift, simultaneous)
        end = {"n": n, "compared": family, "untouched": untouched}
        rows.append(columns | end | facts.stands_for)

    def estimated(effect, shift, simultaneous):
        spread, value = _Spread(effect), effect.value + shift
        columns = {"value": value, "standard_error": np.sqrt(spread.variance + spread.drawn)}
        for name, level in (("ci", confidence), ("family", simultaneous)):
            columns[f"{name}_low"] = value - spread.margin(level, -1)
            columns[f"{name}_high"] = value + spread.margin(level, 1)
        return columns | {"p_value": spread.p_value(-value)}

    def counted(images, shift, simultaneous):
        correct, before = summed(facts.correct[images]), base[images]
        which = before & ~correct, ~before & correct
        lost, gained = (images.sum(1) for images in which)
        if facts.strata:
            columns = {"lost": lost, "gained": gained}
            columns["accuracy_lost"] = facts.design.mean(before.astype(int) - correct)
            for name, level in (("ci", confidence), ("family", simultaneous)):
                _, low, high, p = facts.strata.change(*which, confidence=level, base=before)
                columns |= {f"{name}_low": low + shift, f"{name}_high": high + shift}
            return columns if shift.any() else columns | {"p_value": p}
        counts = (lost, gained, before.sum() + gained)
        levels = np.array([[confidence], [simultaneous]])
        _, low, high = paired_ratio_interval(*counts, confidence=levels)
        columns = {
            f"{name}_{end}": limits - 1 + shift
            for end, of_both in (("low", low), ("high", high))
            for name, limits in zip(("ci", "family"), of_both, strict=True)
        }
        if shift.any():
            below, above = paired_ratio_tails(*counts, np.maximum(1 - shift, 1e-9))
            columns["p_value"] = np.minimum(1, 2 * np.minimum(below, above))
        else:
            columns["p_value"] = mcnemar(gained, lost)
        accuracy_lost = (lost - gained) / len(before)
        return columns | {"lost": lost, "gained": gained, "accuracy_lost": accuracy_lost}

    effects = {images: effect(images) if above[images] else None for images in base}
    clean = effects["clean"]
    add(clean, ["clean"], "none", "S_clean")
    for attack, adversarial in effects.items():
        if attack != "clean":
            add(adversarial, [attack], attack, "S_adv")
            less = adversarial.less(clean) if adversarial and clean else None
            add(less, ["clean", attack], attack, "S_diff")
    shape = len(filters), len(rows)
    columns = {
        name: np.stack([np.broadcast_to(row[name], shape[:1]) for row in rows], axis=1).ravel()
        for name in rows[0]
    }
    table = pd.DataFrame(columns, index=np.repeat(np.arange(shape[0]), shape[1]))
    return table.astype({"lost": "Int64", "gained": "Int64"}) if single else table
