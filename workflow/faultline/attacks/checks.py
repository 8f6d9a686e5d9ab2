"""What the self-checks of the attacks mean, and those that need only the correctness of the images.

A check is a row {check, status, detail}: status "ok" or "warning", detail one sentence with its
numbers. No torch.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

from faultline.attacks.methods import method_of, weakest_first
from faultline.attacks.worst import by_unit, unit, worst_case

Hits = Mapping[str, np.ndarray]
"""What images were attacked with -> bool [n], whether each was classified correctly."""

SHARE_LIMIT = 0.01
"""Share of images that an attack has no gradient for, or that one made to judge has overlooked,
above which a check warns."""

FEW = 2
"""Images that one made to judge may overlook whatever their share: of an honest network, too,
another search finds one now and then."""

NOISE_P = 0.00135
"""A rise in accuracy counts where its one-sided p-value is below this: three sigma."""

CHECK_MEANINGS = {
    "eps_zero_identity": (
        "An attack of size zero changed the images, so images lie outside the pixel bounds or the "
        "network returns NaN. Check the bounds of the data set; until then no adversarial "
        "accuracy of this run can be trusted."
    ),
    "finite_outputs": (
        "Outputs that are NaN or infinite count as misclassified, so these images are not evidence "
        "of what the network has learned, nor do attacks have a direction there. Look for NaN or "
        "infinite weights, and for numbers that overflow; a class that is switched off at minus "
        "infinity is no fault."
    ),
    "accuracy_monotone": (
        "A larger eps allows every smaller attack as well, so accuracy should not rise with eps. "
        "Where it does, the attack fails to find what is there (FGSM oversteps at large eps, or "
        "gradients are masked): trust a stronger attack, such as PGD with more steps."
    ),
    "false_gradients": (
        "Moved along its gradient, the network does not change as that says, however small the "
        "move: the gradient is that of another function, so attacks that follow it are misled and "
        "the adversarial accuracy is too high. Look for values that are cut to steps, for detach() "
        "and for custom gradients; attack a smooth stand-in for them (Athalye et al. 2018)."
    ),
    "zero_gradients": (
        "Where the gradient is exactly zero the attack has no direction and leaves the image as it "
        "is, so the adversarial accuracy is too high. Look for rounding, thresholds or saturated "
        "units in the network, and for saturated logits."
    ),
    "saturated_logits": (
        "These images are classified with such confidence that every other class has a probability "
        "of exactly zero in float32: no gradient of the cross-entropy is left to follow, and the "
        "adversarial accuracy is too high. Scale the logits down, or look at an earlier checkpoint."
    ),
    "softmax_outputs": (
        "The network seems to return probabilities where logits are expected, so cross-entropy "
        "applies softmax a second time and gradients shrink. Remove the final softmax."
    ),
    "randomised_outputs": (
        "The same images gave different outputs, so the network is random in eval mode (a dropout "
        "that ignores it, for example). Results are not repeatable and the attack follows a noisy "
        "gradient: make the network deterministic in eval mode."
    ),
    "black_box_not_stronger": (
        "Square, which sees outputs alone, fooled images on which the attacks that follow the "
        "gradient had failed, so the gradient hides what is there, and more of it may be left. "
        "Look for what hides it; until it is found, trust the fooled images and not the others."
    ),
    "others_not_stronger": (
        "Other attacks of the run, of the same norm and eps, fooled images that stood the judge, "
        "so it had not found all that is there. Read the worst case over all attacks, and look for "
        "what hides the gradient."
    ),
    "more_steps": (
        "More steps from another start, or more queries, fooled images that stood the judge, so it "
        "had not found all that is there. Raise its steps and queries until this no longer is so."
    ),
    "inside_ball": (
        "Adversarial images are further from their originals than eps, outside the pixel bounds, "
        "or NaN. The attack is not the one that the table names: discard its numbers and look for "
        "NaN in the network's gradients."
    ),
    "fgsm_not_stronger_than_pgd": (
        "PGD takes many steps where FGSM takes one, at the same norm and eps, so it should leave "
        "the lower accuracy. Where it does not, PGD has too few or wrongly sized steps, or "
        "gradients are masked: raise the steps and compare again."
    ),
    "fgsm_not_stronger_than_apgd": (
        "APGD takes many steps where FGSM takes one, at the same norm and eps, so it should leave "
        "the lower accuracy. Where it does not, APGD has too few steps, or gradients are masked: "
        "raise the steps and compare again."
    ),
    "pgd_not_stronger_than_apgd": (
        "APGD adapts the step size of PGD, at the same norm and eps, so it should leave the lower "
        "accuracy. Where it does not, APGD has too few steps, or gradients are masked: raise the "
        "steps and compare again."
    ),
    "fgsm_not_stronger_than_standard": (
        "The standard judge runs several attacks one after the other where FGSM takes one step, at "
        "the same norm and eps, so it should leave the lower accuracy. Where it does not, the "
        "network's outputs or gradients are not what they seem: read the checks beside this one."
    ),
    "pgd_not_stronger_than_standard": (
        "The standard judge runs several attacks one after the other, at the same norm and eps, so "
        "it should leave no more accuracy than PGD. Where it does, raise its steps."
    ),
    "apgd_not_stronger_than_standard": (
        "The standard judge begins with APGD, at the same norm and eps, so it should leave no more "
        "accuracy. Where it does, raise its steps to those of APGD."
    ),
    "fgsm_near_apgd": (
        "One step of FGSM leaves far more accuracy than APGD, at the same norm and eps: its "
        "direction misses adversarial images that are there. Of a training against FGSM this is "
        "the sign of gradient masking (catastrophic overfitting); of any network it means that "
        "FGSM numbers flatter it. Judge it by APGD, and compare published FGSM numbers with FGSM "
        "numbers only."
    ),
    "near_worst_case": (
        "Other attacks of the same norm and eps fool images that this attack alone leaves correct, "
        "so it overstates robustness by that much, and so does every score that rests on it. Raise "
        "its steps, let a stronger attack judge (ablation.attacks), and read the worst case "
        "instead, in which an image is correct only where it is so under every attack."
    ),
}
"""check -> what a warning means and what to do."""


SIGNS = {
    "zero_gradients": (
        "its gradient is exactly zero",
        "look for rounding, thresholds or saturated units, and attack a smooth stand-in for them",
    ),
    "false_gradients": (
        "its outputs do not follow its gradient",
        "look for values cut to steps and for detach(), and attack a smooth stand-in for them",
    ),
    "saturated_logits": ("its logits are saturated", "divide them by a constant"),
    "randomised_outputs": (
        "its outputs differ from pass to pass",
        "make it deterministic in eval mode",
    ),
    "black_box_not_stronger": (
        "a black-box attack fools what those that follow the gradient do not",
        "look for what hides the gradient",
    ),
    "others_not_stronger": (
        "other attacks fool what the judge did not",
        "look for what hides the gradient",
    ),
    "more_steps": (
        "more steps or queries fool what the judge did not",
        "raise its steps and queries",
    ),
}
"""Checks whose warning is a sign of gradient masking -> (what it is a sign by, what to do)."""


def masked(rows: Iterable[Mapping[str, Any]]) -> str:
    """Why the accuracy under attack of a network is not to be believed, in a sentence that says
    what to do; "" where nothing is known against it.

    rows: of checks of that network, under its judge. Whoever calls a network robust, or says that
    its robustness has risen, asks this first. Which checks are signs: ours.
    """
    warned = {row["check"] for row in rows if row["status"] == "warning"}
    found = [pair for check, pair in SIGNS.items() if check in warned]
    if not found:
        return ""
    signs, remedies = (list(dict.fromkeys(texts)) for texts in zip(*found, strict=True))
    return (
        f"Accuracy under attack is not to be believed, as {', and '.join(signs)}: "
        f"{'; '.join(remedies)}."
    )


def overlooks(images: int, n: int) -> bool:
    """Whether so many of n images are more than a judge may overlook."""
    return images > max(FEW, SHARE_LIMIT * n)


def row(check: str, ok: bool, detail: str) -> dict[str, str]:
    """One row of the table of checks."""
    return {"check": check, "status": "ok" if ok else "warning", "detail": detail}


def rise_p_value(before: np.ndarray, after: np.ndarray) -> float:
    """How likely chance alone gives such a rise in accuracy on the same images.

    before, after: bool [n], correctness. Exact one-sided McNemar test: of the images that changed,
    the number that became correct is binomial with one half. 1.0 where the accuracy did not rise.
    """
    gained = int((after & ~before).sum())
    changed = int((after != before).sum())
    if 2 * gained <= changed:
        return 1.0
    ways = total = 1  # ways to choose the changed images that were lost, from none on
    for lost in range(1, changed - gained + 1):
        ways = ways * (changed - lost + 1) // lost
        total += ways
    return float(total / 2**changed)


def accuracy_monotone(correct: Mapping[float, np.ndarray]) -> dict[str, str]:
    """Whether accuracy never rises with eps beyond noise, each eps against the lowest before it.

    correct: eps -> bool [n], the same images for every eps. Ours.
    """
    grid = sorted(correct)
    lowest, rises = grid[0], list[tuple[float, float, float, float]]()
    for eps in grid[1:]:
        before, after = correct[lowest], correct[eps]
        rise = float(after.mean() - before.mean())
        if rise > 0:
            rises.append((rise_p_value(before, after), rise, lowest, eps))
        else:
            lowest = eps
    over = f"over {len(grid)} values of eps from {grid[0]:g} to {grid[-1]:g}"
    if not rises:
        return row("accuracy_monotone", True, f"Accuracy never rises {over}.")
    p, rise, low, eps = min(rises)
    ok = p >= NOISE_P
    detail = (
        f"The clearest rise {over} is {100 * rise:.2f} points from eps {low:g} to {eps:g} "
        f"(p = {p:.2g}), {'within' if ok else 'beyond'} noise."
    )
    return row("accuracy_monotone", ok, detail)


def compare_attacks(correct: Hits) -> list[dict[str, str]]:
    """Whether each attack is at least as strong as the next weaker one, within noise.

    correct: method -> bool [n] under attacks of one norm and one eps on the same images. Returns
    one row per neighbouring pair of the methods of known strength. Ours.
    """
    rows = []
    ordered, _ = weakest_first({method: {"method": method} for method in correct})
    for weaker, stronger in pairwise(ordered):
        p = rise_p_value(correct[weaker], correct[stronger])
        detail = (
            f"Accuracy is {100 * correct[weaker].mean():.2f} % under {weaker.upper()} and "
            f"{100 * correct[stronger].mean():.2f} % under {stronger.upper()} "
            f"(p = {p:.2g} that {stronger.upper()} is weaker by chance alone)."
        )
        rows.append(row(f"{weaker}_not_stronger_than_{stronger}", p >= NOISE_P, detail))
    return rows


def fgsm_near_apgd(correct: Mapping[str, Hits], *, points: float) -> dict[str, str] | None:
    """Whether FGSM flatters a network by no more than some points of accuracy; None where not both
    attacks are given.

    correct: what they share (norm and eps, in words) -> method -> bool [n]. Ours.
    """
    gaps = {
        where: float(100 * (hits["fgsm"].mean() - hits["apgd"].mean()))
        for where, hits in correct.items()
        if "fgsm" in hits and "apgd" in hits
    }
    if not gaps:
        return None
    where = max(gaps, key=gaps.__getitem__)
    hits = correct[where]
    detail = (
        f"At most, accuracy is {100 * hits['fgsm'].mean():.2f} % under FGSM and "
        f"{100 * hits['apgd'].mean():.2f} % under APGD, at {where}; told from {points:g} points on."
    )
    return row("fgsm_near_apgd", gaps[where] < points, detail)


def near_worst_case(
    correct: Mapping[str, Hits],
    *,
    attacks: Mapping[str, Mapping[str, Any]],
    judges: Collection[str],
    masking: float,
) -> list[dict[str, str]]:
    """How much more accuracy an attack leaves than the worst case over all of its unit: a row each.

    correct: attack -> eps (as text) -> bool [n]. attacks: their settings. It is told from `masking`
    points of accuracy on, and of judges, which scores rest on, from half of them: with 5 points,
    above the sampling error of some 500 images and below what an ill-set PGD misses; of a method
    made to judge from above `SHARE_LIMIT` on, as a sign of masking. Of the others, FGSM and attacks
    of unknown strength are not asked, as nothing is claimed of them, and none where one made to
    judge is among the attacks. Ours.
    """
    rows = []
    for where, names in by_unit({name: attacks[name] for name in correct}).items():
        worst = worst_case({name: correct[name] for name in names})
        for name in names:
            method = method_of(attacks[name]["method"])
            if name not in judges and (method.one_step or method.strength is None):
                continue
            if not method.judges and where in _judged_units(attacks):
                continue  # no claim of robustness goes by it
            gaps = {
                eps: 100 * int(np.count_nonzero(correct[name][eps] & ~hits)) / len(hits)
                for eps, (over, hits) in worst.items()
                if name in over and eps != "0"
            }
            if not gaps:
                continue
            eps = max(gaps, key=gaps.__getitem__)
            over, hits = worst[eps]
            detail = (
                f"At most, accuracy is {100 * correct[name][eps].mean():.2f} % under {name} and "
                f"{100 * hits.mean():.2f} % in the worst case over {', '.join(over)}, at {where} "
                f"eps {eps}; told "
            )
            limit, why = masking, ""
            if name in judges:
                limit, why = masking / 2, ", as scores rest on it"
            check, ok, told = "near_worst_case", gaps[eps] < limit, f"from {limit:g} points on{why}"
            if method.judges:
                missed = int(np.count_nonzero(correct[name][eps] & ~hits))
                check, ok = "others_not_stronger", not overlooks(missed, len(hits))
                told = f"from above {SHARE_LIMIT:.0%}, and {FEW} images, on"
            rows.append(row(check, ok, f"{detail}{told}.") | {"attack": name})
    return rows


def split_attacks(correct: Hits) -> dict[str, dict[str, np.ndarray]]:
    """attack -> eps (as text) -> bool [n], from "<attack>/<eps>" -> bool [n]."""
    by_attack: dict[str, dict[str, np.ndarray]] = {}
    for key, hits in correct.items():
        attack, _, eps = key.partition("/")
        by_attack.setdefault(attack, {})[eps] = hits
    return by_attack


def attack_order(
    correct: Sequence[Hits],
    places: Sequence[Mapping[str, Any]],
    *,
    attacks: Mapping[str, Mapping[str, Any]],
    masking: float | None = None,
    judges: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Self-check rows: no attack is weaker than a simpler one of its norm and eps, FGSM not by
    `masking` points of accuracy or more weaker than APGD, and none far from the worst case.

    correct: eps (as text) -> bool [n] of one attack on one checkpoint; places: the checkpoint and
    the attack of each. attacks: the settings of each attack; judges: see `near_worst_case`.
    """
    by_checkpoint: dict[tuple[tuple[str, Any], ...], dict[str, Hits]] = {}
    for hits, place in zip(correct, places, strict=True):
        checkpoint = tuple((k, v) for k, v in place.items() if k != "attack")
        by_checkpoint.setdefault(checkpoint, {})[place["attack"]] = hits
    rows: list[dict[str, Any]] = []
    for checkpoint, by_attack in by_checkpoint.items():
        of_checkpoint = _order(_alike(by_attack, attacks))
        if masking is not None:
            asked = {
                name: hits
                for name, hits in by_attack.items()
                if unit(attacks[name]) not in _judged_units(attacks)
            }
            strongest = {
                where: {method: np.min(hits, axis=0) for method, hits in by_method.items()}
                for where, by_method in _alike(asked, attacks).items()
            }
            near = near_worst_case(by_attack, attacks=attacks, judges=judges, masking=masking)
            if flattered := fgsm_near_apgd(strongest, points=masking):
                of_checkpoint.append(flattered)
                if flattered["status"] == "warning":  # which says the same
                    one = {n for n in by_attack if method_of(attacks[n]["method"]).one_step}
                    near = [row for row in near if row["attack"] not in one]
            of_checkpoint += near
        for row in of_checkpoint:
            rows.append(dict(checkpoint) | row | {"attack": row.get("attack", "all")})
    return rows


def _judged_units(attacks: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Those in which an attack of a method made to judge measures eps."""
    return {unit(attack) for attack in attacks.values() if method_of(attack["method"]).judges}


def _alike(
    by_attack: Mapping[str, Hits], attacks: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Norm and eps above 0, in words -> method -> bool [n] under each attack of it."""
    alike: dict[str, dict[str, list[np.ndarray]]] = {}
    for name, hits in by_attack.items():
        attack = attacks[name]
        unit = " in normalised units" if attack["normalised_units"] else ""
        for eps in (eps for eps in hits if eps != "0"):
            by_method = alike.setdefault(f"{attack['norm']} eps {eps}{unit}", {})
            by_method.setdefault(attack["method"], []).append(hits[eps])
    return alike


def _order(alike: Mapping[str, Mapping[str, Sequence[np.ndarray]]]) -> list[dict[str, str]]:
    """Rows of `compare_attacks`, one a pair of methods: its last warning, or else its first row."""
    rows: dict[str, dict[str, str]] = {}
    for where, by_method in alike.items():
        for attacks in product(*by_method.values()):
            for row in compare_attacks(dict(zip(by_method, attacks, strict=True))):
                if row["check"] not in rows or row["status"] == "warning":
                    rows[row["check"]] = row | {"detail": f"At {where}: {row['detail']}"}
    return list(rows.values())
