"""What the self-checks of the attacks mean, and those that need only the correctness of the images.

A check is a row {check, status, detail}: status "ok" or "warning", detail one sentence with its
numbers. No torch.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise, product

import numpy as np

from faultline.attacks.methods import method_of, weakest_first
from faultline.attacks.worst import by_unit, worst_case

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
    return total / 2**changed


def accuracy_monotone(correct: Mapping[float, np.ndarray]) -> dict[str, str]:
    """Whether accuracy never rises with eps beyond noise, each eps against the lowest before it.

    correct: eps -> bool [n], the same images for every eps. Ours.
    """
    grid = sorted(correct)
    lowest, rises = grid[0], []
    for eps in grid[1:]:
        before, after = correct[lowest], correct[eps]
        rise = after.mean() - before.mean()
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


def compare_attacks(correct: Mapping[str, np.ndarray]) -> list[dict[str, str]]:
    """Whether each attack is at least as strong as the next weaker one, within noise.

    correct: method -> bool [n] under attacks of one norm and one eps on the same images. Returns
    one row per neighbouring pair of the methods of known strength. Ours.
    """
    rows = []
    known, _ = weakest_first({method: {"method": method} for method in correct})
    for weaker, stronger in pairwise(known):
        p = rise_p_value(correct[weaker], correct[stronger])
        detail = (
            f"Accuracy is {100 * correct[weaker].mean():.2f} % under {weaker.upper()} and "
            f"{100 * correct[stronger].mean():.2f} % under {stronger.upper()} "
            f"(p = {p:.2g} that {stronger.upper()} is weaker by chance alone)."
        )
        rows.append(row(f"{weaker}_not_stronger_than_{stronger}", p >= NOISE_P, detail))
    return rows


def fgsm_near_apgd(
    correct: Mapping[str, Mapping[str, np.ndarray]], *, points: float
) -> dict[str, str] | None:
    """Whether FGSM flatters a network by no more than some points of accuracy; None where not both
    attacks are given.

    correct: what they share (norm and eps, in words) -> method -> bool [n]. Ours.
    """
    gaps = {
        where: 100 * (hits["fgsm"].mean() - hits["apgd"].mean())
        for where, hits in correct.items()
        if "fgsm" in hits and "apgd" in hits
    }
    if not gaps:
        return None
    where = max(gaps, key=gaps.get)
    hits = correct[where]
    detail = (
        f"At most, accuracy is {100 * hits['fgsm'].mean():.2f} % under FGSM and "
        f"{100 * hits['apgd'].mean():.2f} % under APGD, at {where}; told from {points:g} points on."
    )
    return row("fgsm_near_apgd", gaps[where] < points, detail)


def near_worst_case(
    correct: Mapping[str, Mapping[str, np.ndarray]],
    *,
    attacks: Mapping[str, Mapping],
    judges: Collection[str],
    masking: float,
) -> list[dict[str, str]]:
    """How much more accuracy an attack leaves than the worst case over all of its unit: a row each.

    correct: attack -> eps (as text) -> bool [n]. attacks: their settings. It is told from `masking`
    points of accuracy on, and of judges, which scores rest on, from half of them: with 5 points,
    above the sampling error of some 500 images and below what an ill-set PGD misses. Of the others,
    FGSM and attacks of unknown strength are not asked, as nothing is claimed of them. Ours.
    """
    rows = []
    for unit, names in by_unit({name: attacks[name] for name in correct}).items():
        worst = worst_case({name: correct[name] for name in names})
        for name in names:
            method = method_of(attacks[name]["method"])
            if name not in judges and (method.one_step or method.strength is None):
                continue
            gaps = {
                eps: 100 * np.count_nonzero(correct[name][eps] & ~hits) / len(hits)
                for eps, (over, hits) in worst.items()
                if name in over and eps != "0"
            }
            if not gaps:
                continue
            eps = max(gaps, key=gaps.get)
            over, hits = worst[eps]
            limit, why = masking, ""
            if name in judges:
                limit, why = masking / 2, ", as scores rest on it"
            detail = (
                f"At most, accuracy is {100 * correct[name][eps].mean():.2f} % under {name} and "
                f"{100 * hits.mean():.2f} % in the worst case over {', '.join(over)}, at {unit} "
                f"eps {eps}; told from {limit:g} points on{why}."
            )
            found = row("near_worst_case", gaps[eps] < limit, detail)
            rows.append(found | {"attack": name})
    return rows


def split_attacks(correct: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """attack -> eps (as text) -> bool [n], from "<attack>/<eps>" -> bool [n]."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, hits in correct.items():
        attack, _, eps = key.partition("/")
        found.setdefault(attack, {})[eps] = hits
    return found


def attack_order(
    correct: list[dict],
    places: list[dict],
    *,
    attacks: dict[str, dict],
    masking: float | None = None,
    judges: Collection[str] = (),
) -> list[dict]:
    """Self-check rows: no attack is weaker than a simpler one of its norm and eps, FGSM not by
    `masking` points of accuracy or more weaker than APGD, and none far from the worst case.

    correct: eps (as text) -> bool [n] of one attack on one checkpoint; places: the checkpoint and
    the attack of each. attacks: the settings of each attack; judges: see `near_worst_case`.
    """
    rows = []
    by_checkpoint = {}
    for hits, place in zip(correct, places, strict=True):
        checkpoint = tuple((k, v) for k, v in place.items() if k != "attack")
        by_checkpoint.setdefault(checkpoint, {})[place["attack"]] = hits
    for checkpoint, by_attack in by_checkpoint.items():
        groups = {}
        for name, hits in by_attack.items():
            attack = attacks[name]
            for eps in hits:
                unit = " in normalised units" if attack["normalised_units"] else ""
                by_method = groups.setdefault((f"{attack['norm']} eps {eps}{unit}", eps), {})
                by_method.setdefault(attack["method"], []).append(hits[eps])
        found = {}
        for (where, eps), by_method in groups.items():
            chosen = [
                dict(zip(by_method, one, strict=True)) for one in product(*by_method.values())
            ]
            for row in [row for one in chosen if eps != "0" for row in compare_attacks(one)]:
                detail = f"At {where}: {row['detail']}"
                if row["check"] not in found or row["status"] == "warning":
                    found[row["check"]] = (
                        dict(checkpoint) | row | {"attack": "all", "detail": detail}
                    )
        rows += found.values()
        together = {
            where: {method: np.min(hits, axis=0) for method, hits in by_method.items()}
            for (where, eps), by_method in groups.items()
            if eps != "0"
        }
        if masking is None:
            continue
        if flattered := fgsm_near_apgd(together, points=masking):
            rows.append(dict(checkpoint) | flattered | {"attack": "all"})
        near = near_worst_case(by_attack, attacks=attacks, judges=judges, masking=masking)
        rows += [dict(checkpoint) | row for row in near]
    return rows
