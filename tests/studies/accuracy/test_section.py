import numpy as np
import pandas as pd
import pytest
from run_tables import make_config, make_tables, said

from faultline.ablation.facts import pack
from faultline.attacks.checks import row
from faultline.base.columns import PLACE
from faultline.base.files import save_arrays, save_table
from faultline.studies.accuracy.section import (
    accuracy_findings,
    not_asked_findings,
    self_checks,
    under_attack,
)
from faultline.studies.accuracy.tables import tables


def test_a_warning_is_explained():
    checks = make_tables()["checks"]
    bad = pd.DataFrame([row("zero_gradients", False, "7 of 40 gradients are zero.")])
    bad = bad.assign(**checks.iloc[0][[*PLACE, "attack"]])
    tables, config = {"checks": pd.concat([checks, bad])}, make_config()
    words = said(self_checks(tables, config))
    assert "zero gradients (1 of 1 times)" in words and "7 of 40 gradients" in words
    assert "the attack has no direction" in words


SIZES = [0, 0.05, 0.1]
ATTACKS = {
    "fgsm": {"method": "fgsm", "eps": 0.1, "eps_grid": SIZES},
    "pgd": {"method": "pgd", "eps": 0.1, "eps_grid": SIZES},
    "apgd": {"method": "apgd", "eps": 0.1, "eps_grid": [0.1]},
    "pgd-l2": {"method": "pgd", "norm": "l2", "eps": 0.5},
}
N = 100


@pytest.fixture
def made(tmp_path):
    """(config, tables) of attacks some of which run alone and some together; two seeds."""
    config = make_config(
        attacks=ATTACKS, robustness={"attacks": ["apgd"]}, ablation={"attacks": ["pgd"]}
    )
    rng, files = np.random.default_rng(0), {"accuracy": [], "checks": [], "correct": []}
    for seed in (0, 1):
        place = tmp_path / f"digits/small_conv/standard/seed-{seed}/epoch-3"
        for name, settings in config.attack_settings.items():
            together = name in config.robustness.attacks
            folder = place / ("robustness" if together else f"attacks/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            hits = {eps: rng.uniform(size=N) < 0.95 - 4 * eps for eps in settings["eps_grid"]}
            hits[0] = np.arange(N) < 95
            rows = [
                {"eps": eps, "correct": of.sum(), "n": N, "accuracy": of.mean()}
                for eps, of in hits.items()
            ]
            key = f"{name}/" if together else ""
            named = [{"attack": name} | row for row in rows] if together else rows
            save_table(pd.DataFrame(named), folder / "accuracy.tsv")
            save_table(pd.DataFrame([row("inside_ball", True, "")]), folder / "checks.tsv")
            save_arrays(
                pack({f"{key}{eps:g}": of for eps, of in hits.items()}), folder / "correct.npz"
            )
            for kind, paths in files.items():
                end = "npz" if kind == "correct" else "tsv"
                paths.append(str(folder / f"{kind}.{end}"))
    found = tables(
        **files,
        history=[],
        attacks=config.attack_settings,
        judges=config.ablation.attacks,
        masking=10,
        confidence=0.95,
    )
    return config, found


def test_the_worst_case_is_a_row_beside_those_of_the_attacks(made):
    _, found = made
    accuracy = found["accuracy"]
    alone, worst = accuracy[accuracy["over"] == ""], accuracy[accuracy["over"] != ""]
    assert set(alone["attack"]) == {*ATTACKS} and set(worst["attack"]) == {"worst case linf"}
    by_eps = worst[worst["seed"] == 0].set_index("eps")
    assert by_eps["over"].to_dict() == {
        **{0: "fgsm, pgd, apgd", 0.1: "fgsm, pgd, apgd"},
        0.05: "fgsm, pgd",
    }
    assert by_eps.loc[0, "correct"] == 95
    for one in worst.itertuples():  # at most as many as under each, and all that no attack fools
        each = alone[(alone["seed"] == one.seed) & (alone["eps"] == one.eps)]
        each = each[[name in one.over.split(", ") for name in each["attack"]]]
        assert one.correct <= each["correct"].min()
        assert N - one.correct <= (N - each["correct"]).sum()
        assert one.ci_low < one.accuracy < one.ci_high


def test_the_report_shows_the_worst_case_once(made):
    config, found = made
    text = said(accuracy_findings(found, config))
    assert text.count("in the worst case over fgsm, pgd, apgd (eps 0.1, linf)") == 1
    words = said(under_attack(found, config))
    assert "(fgsm, pgd, apgd; fgsm, pgd)" in words
    svg = under_attack(found, config).blocks[0].figures[0].svg
    for title in ("worst case linf", "pgd-l2", "eps (linf)", "eps (l2)"):
        assert title in svg


def test_an_attack_that_scores_rest_on_is_held_against_the_worst_case(made):
    config, found = made
    near = found["checks"][found["checks"]["check"] == "near_worst_case"]
    assert near[["seed", "attack"]].to_numpy().tolist() == [
        [seed, attack] for seed in (0, 1) for attack in ("pgd", "apgd")
    ]
    assert set(near["status"]) == {"warning"}  # these attacks' hits are independent
    words = said(self_checks(found, config))
    assert "A warning came from" in words and "near worst case (4 of 4 times)" in words


def test_a_norm_without_apgd_says_so(made):
    config, found = made
    ((heading, text),) = not_asked_findings(found, config)
    assert heading == "APGD was not asked"
    assert text == "At l2, the strongest attack run is pgd-l2; what APGD would find is not known."
