import re

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support import OWN_CODE, ROOT

from faultline.attacks.checks import attack_order, fgsm_near_apgd
from faultline.attacks.checks import row as check
from faultline.report import canvas, page
from faultline.report.render import load_look
from faultline.studies.config import resolve
from faultline.studies.order import described
from faultline.studies.report import report
from faultline.studies.robustness import figures as draw
from faultline.studies.robustness.scores import differences, over_seeds, rg_scores
from faultline.studies.robustness.section import findings, section

PLACE = {"dataset": "moons", "network": "lsa_moons", "epoch": 25}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "configs/moons.yaml").read_text(encoding="utf-8")
    return resolve(yaml.safe_load(text))


def accuracy_table(trainings, *, seeds=5, attacks=("apgd", "fgsm"), n=2000):
    """Accuracies that fall with eps; a training's number moves all of them."""
    rng, rows = np.random.default_rng(0), []
    for training, shift in trainings.items():
        for seed in range(seeds):
            for attack in attacks:
                for eps in (0.0, 0.1, 0.5):
                    base = 0.9 - eps + shift - 0.2 * eps * (attack == "apgd")
                    correct = round(n * (base + 0.01 * rng.normal()))
                    row = {"training": training, "seed": seed, "attack": attack, "eps": eps}
                    rows.append(PLACE | row | {"correct": correct, "n": n, "accuracy": correct / n})
    return pd.DataFrame(rows)


def test_rg_score_is_the_sum_of_the_accuracies_in_percent():
    rows = [
        PLACE | {"training": "a", "seed": 0, "attack": "fgsm", "eps": eps, "n": 200, "accuracy": a}
        for eps, a in ((0.0, 0.95), (0.1, 0.5), (0.5, 0.25))
    ]
    scores = rg_scores(pd.DataFrame(rows))
    assert dict(zip(scores["eps"], scores["value"], strict=True)) == pytest.approx(
        {"0": 95.0, "0.1": 50.0, "0.5": 25.0, "rg_score": 170.0}
    )
    assert not len(rg_scores(pd.DataFrame()))


def test_published_scores_are_the_sums_of_their_rows():
    for path in sorted((ROOT / "configs/published").glob("*.tsv")):
        table = pd.read_csv(path, sep="\t")
        total = table.filter(like="eps_").sum(axis=1)
        assert total.to_numpy() == pytest.approx(table["rg_score"].to_numpy(), abs=0.011), path


def test_means_over_seeds_as_scipy_has_them():
    scores = rg_scores(accuracy_table({"a": 0.0}))
    table = over_seeds(scores, confidence=0.9)
    for row in table.itertuples():
        of = scores[(scores["attack"] == row.attack) & (scores["eps"] == row.eps)]["value"]
        low, high = stats.t.interval(0.9, 4, of.mean(), stats.sem(of))
        assert (row.value, row.ci_low, row.ci_high) == pytest.approx((of.mean(), low, high))
        assert (row.seeds, row.n) == (5, 2000) and np.isnan(row.published)


def test_published_numbers_stand_beside_their_training_network_and_attack():
    scores = rg_scores(accuracy_table({"a": 0.0, "b": 0.0}))
    row = {"training": "a", "dataset": "moons", "values": {"0": 97.0, "rg_score": 200.0}}
    for network, found in ((None, True), ("lsa_moons", True), ("vgg19", False)):
        table = over_seeds(scores, [row | {"network": network}], beside=["fgsm"], confidence=0.95)
        known = table[table["published"].notna()]
        assert len(known) == 2 * found
        if found:
            assert set(known["training"]) == {"a"} and set(known["attack"]) == {"fgsm"}
            assert dict(zip(known["eps"], known["published"], strict=True)) == row["values"]


def test_differences_are_paired_by_seed_and_corrected_for_their_number():
    trainings = {"base": 0.0, "lr-a": 0.02, "lr-b": -0.001, "lr-c": 0.004}
    scores = rg_scores(accuracy_table(trainings))
    names = ["lr-a", "lr-b", "lr-c"]
    table = differences(scores, dict.fromkeys(names, "base"), confidence=0.95)
    wide = scores.pivot_table(index=["attack", "eps"], columns=["training", "seed"], values="value")
    for (attack, eps), part in table.groupby(["attack", "eps"]):
        assert list(part["training"]) == names
        found = wide.loc[(attack, eps)]
        tests = [stats.ttest_rel(found[name], found["base"]) for name in names]
        np.testing.assert_allclose(part["p_value"], [t.pvalue for t in tests])
        adjusted = multipletests([t.pvalue for t in tests], method="fdr_bh")[1]
        np.testing.assert_allclose(part["q_value"], adjusted)
        for test, row in zip(tests, part.itertuples(), strict=True):
            interval = test.confidence_interval(0.95)
            assert (row.ci_low, row.ci_high) == pytest.approx((interval.low, interval.high))
    assert not len(differences(scores, {}, confidence=0.95))


def test_one_seed_says_nothing_of_others():
    scores = rg_scores(accuracy_table({"base": 0.0, "lr": 0.1}, seeds=1))
    table = differences(scores, {"lr": "base"}, confidence=0.95)
    assert table[["ci_low", "ci_high", "p_value", "q_value"]].isna().all(axis=None)
    assert (table["seeds"] == 1).all() and (table["value"] > 0).all()


def fixed_table(accuracies):
    """accuracies: training -> eps -> of each seed."""
    rows = [
        PLACE | {"training": t, "seed": seed, "attack": "apgd", "eps": eps, "n": 100, "accuracy": a}
        for t, by_eps in accuracies.items()
        for eps, values in by_eps.items()
        for seed, a in enumerate(values)
    ]
    return rg_scores(pd.DataFrame(rows))


def test_intervals_stay_within_what_is_possible():
    scores = fixed_table(
        {"base": {0.0: [0.99, 0.9], 0.1: [0.02, 0.1]}, "lr": {0.0: [1, 0.91], 0.1: [0.9, 0.1]}}
    )
    table = over_seeds(scores, confidence=0.95).set_index(["training", "eps"])
    ends = table[["ci_low", "ci_high"]]
    assert ends.loc[("base", "0"), "ci_high"] == 100 and ends.loc[("base", "0"), "ci_low"] > 0
    assert ends.loc[("base", "0.1"), "ci_low"] == 0
    assert list(ends.loc[("lr", "rg_score")]) == [0, 200]
    changes = differences(scores, {"lr": "base"}, confidence=0.95).set_index("eps")
    assert list(changes.loc["0.1", ["ci_low", "ci_high"]]) == [-100, 100]
    assert list(changes.loc["rg_score", ["ci_low", "ci_high"]]) == [-200, 200]


def test_both_at_0_is_a_floor_and_equal_differences_have_no_interval():
    scores = fixed_table(
        {
            "base": {0.0: [0.9, 0.8, 0.9], 0.1: [0, 0, 0], 0.2: [0, 0, 0]},
            "lr": {0.0: [0.8, 0.7, 0.8], 0.1: [0, 0, 0], 0.2: [0, 0, 0.01]},
        }
    )
    table = differences(scores, {"lr": "base"}, confidence=0.95).set_index("eps")
    assert table["floor"].to_dict() == {"0": False, "0.1": True, "0.2": False, "rg_score": False}
    unknown = ["ci_low", "ci_high", "p_value", "q_value", "detectable"]
    assert table.loc[["0", "0.1"], unknown].isna().all(axis=None)  # -10 in every seed, too
    assert table.loc[["0.2", "rg_score"], unknown].notna().all(axis=None)


def test_detectable_is_at_the_level_of_a_lone_difference_after_correction():
    trainings = {"base": 0.0, "lr-a": 0.02, "lr-b": -0.001, "lr-c": 0.004}
    scores = rg_scores(accuracy_table(trainings, attacks=["apgd"]))
    table = differences(scores, dict.fromkeys(["lr-a", "lr-b", "lr-c"], "base"), confidence=0.95)
    wide = scores.pivot_table(index="eps", columns=["training", "seed"], values="value")
    for row in table.itertuples():
        change = wide.loc[row.eps, row.training] - wide.loc[row.eps, "base"]
        critical = stats.t.ppf(1 - 0.05 / 3 / 2, 4)
        power = stats.nct.sf(critical, 4, row.detectable / stats.sem(change))
        assert power == pytest.approx(0.8, abs=1e-5)


def test_what_two_seeds_cannot_tell():
    found = {"base": {0.0: [0.9, 0.8], 0.1: [0.4, 0.3]}, "lr": {0.0: [0.9, 0.7], 0.1: [0.4, 0.2]}}
    table = differences(fixed_table(found), {"lr": "base"}, confidence=0.95)
    # 16.334 errors of 5 points are fewer than the 85 that can be lost, and more than 65 gained
    assert list(table["detectable"]) == pytest.approx([81.67, np.inf, np.inf], rel=1e-4)


# Gradient masking


def test_fgsm_that_flatters_is_told_from_the_given_points_on():
    right, half, none = np.ones(10, bool), np.arange(10) < 5, np.zeros(10, bool)
    hits = {"eps 0.1": {"fgsm": right, "apgd": right}, "eps 0.2": {"fgsm": right, "apgd": half}}
    for points, status in ((50, "warning"), (50.1, "ok")):
        row = fgsm_near_apgd(hits, points=points)
        assert row["status"] == status and "at eps 0.2" in row["detail"]
        assert "100.00 % under FGSM and 50.00 % under APGD" in row["detail"]
    assert fgsm_near_apgd({"eps 0.1": {"fgsm": right, "pgd": none}}, points=1) is None


def test_masking_compares_attacks_of_one_norm_and_eps_only():
    common = {"norm": "linf", "normalised_units": False}
    attacks = {
        "fgsm": common | {"method": "fgsm"},
        "apgd": common | {"method": "apgd"},
        "apgd-l2": common | {"method": "apgd", "norm": "l2"},
    }
    right, none = np.ones(10, bool), np.zeros(10, bool)
    correct = [{"0": right, "0.1": right}, {"0": none, "0.1": right}, {"0": right, "0.1": none}]
    places = [{"seed": 0, "attack": name} for name in attacks]
    for hits, status in ((right, "ok"), (none, "warning")):
        correct[1]["0.1"] = hits
        rows = attack_order(correct, places, attacks=attacks, masking=10)
        assert [r["status"] for r in rows if r["check"] == "fgsm_near_apgd"] == [status]


# The report


def make_tables(config, *, seeds=5):
    trainings = {"normal": 0.0, "at-fgsm": 0.02, "at-fgsm-lr-l0": 0.06, "at-fgsm-lr-l2": 0.021}
    accuracy = accuracy_table(trainings, seeds=seeds)
    scores = rg_scores(accuracy)
    values = {"0": 90.0, "0.1": 80.0, "0.5": 40.0, "rg_score": 210.0}
    row = {"network": None, "dataset": "moons", "values": values}
    published = [row | {"training": name} for name in trainings]
    bases = {name: "at-fgsm" for name in trainings if "-lr-" in name}
    check = {"check": "fgsm_near_apgd", "status": "warning", "detail": "", "training": "at-fgsm"}
    check |= {"seed": 0, "attack": "apgd", "value": 0.2, "limit": 0.1}
    candidates = [
        {
            **{"dataset": "moons", "network": "lsa_moons", "training": "at-fgsm"},
            **{"adversarial.eps": eps, "seed": 100, "error": np.nan},
            **{"eps_0": 90.0, "rg_score": 200 + eps, "loss": 1.0, "chosen": eps == 0.3},
        }
        for eps in (0.1, 0.3)
    ]
    return {
        "robustness": over_seeds(scores, published, beside=["fgsm"], confidence=0.95),
        "robustness_differences": differences(scores, bases, confidence=0.95),
        "tuning": pd.DataFrame(candidates),
        "checks": pd.DataFrame([PLACE | check]),
    }


def test_the_section_sets_ours_beside_the_published(config):
    shown = section(make_tables(config), config)
    (block,) = shown.blocks
    assert len(block.figures) == 4
    for figure in block.figures:
        assert "n = 2,000 test images, 5 seeds" in figure.caption
        assert figure.svg.startswith("<svg") and figure.read
        assert re.search(r"<title>[^<]*\d.*(n = \d| of 2 seeds)", figure.svg)
    assert block.notes == [
        "FGSM flatters 1 of 1 checkpoints by far (at-fgsm): judge these by APGD. See the "
        "self-checks."
    ]
    scores, accuracies, changes, chosen, search = block.tables
    assert scores.columns[:4] == ["training", "fgsm", "published (fgsm)", "ours minus published"]
    assert scores.rows[0][0] == "normal"  # standard trainings first
    assert {row[2] for row in scores.rows} == {"210.0"}
    assert len(accuracies.rows) == 4 * 3  # ours under two attacks, the published of one
    assert [row[3] for row in changes.rows[:4]] == ["R&G"] * 4
    assert {row[0]: row[-1] for row in changes.rows if row[3] == "R&G"} == {
        "at-fgsm-lr-l0": "helps",
        "at-fgsm-lr-l2": "no",
    }
    (row,) = [row for row in chosen.rows if row[0] == "at-fgsm"]
    assert "adversarial.eps 0.3" in row and 2 in row
    (row,) = [row for row in chosen.rows if row[0] == "at-fgsm-lr-l0"]
    assert "as at-fgsm" in row
    assert [row[-1] for row in search.rows] == ["", "yes"]
    cells = [c for table in block.tables for r in table.rows for c in r]
    assert not any("nan" in str(cell) for cell in cells)


def test_a_page_of_trainings_has_every_section_once(config):
    """Also where nothing was ablated; and many trainings are counted, not named."""
    accuracy = accuracy_table(dict.fromkeys(config.trainings, 0.0), attacks=config.attacks)
    tables = (
        dict.fromkeys(described(), pd.DataFrame()) | make_tables(config) | {"accuracy": accuracy}
    )
    look = load_look(ROOT / "workflow/faultline/report/report.html.j2")
    made = report(tables, config=config, versions={}, **look)
    assert made.count('<section id="trainings"') == 1
    assert made.count("Of 2 regularised trainings") == 2  # under two attacks
    assert "trained in 17 ways (checkpoint at epoch 25)" in made


def test_trainings_of_which_none_is_regularised(config):
    """Then there is no table of differences, and of it not even columns."""
    tables = make_tables(config) | {"robustness_differences": pd.DataFrame()}
    (block,) = section(tables, config).blocks
    assert len(block.figures) == 2
    headings = [heading for heading, _ in findings(tables, config)]
    assert headings and not any("Regularising" in heading for heading in headings)


def test_findings_name_who_is_better_beyond_chance(config):
    strong, weak, repeated = [text for _, text in findings(make_tables(config), config)]
    for text in (strong, weak):
        assert text.startswith("Of 2 regularised trainings 1 has (at-fgsm-lr-l0 +")
        assert "none has a lower one, 1 cannot be told from it (q < 0.05, 5 seeds)" in text
    assert repeated.startswith("Under fgsm, 12 accuracies of 4 trainings are")
    config.datasets["moons"].source = "digits"
    *_, (_, text) = findings(make_tables(config), config)
    assert text.endswith("The published numbers are for moons, not digits.")


def test_a_training_with_a_sign_of_masking_is_not_called_more_robust(config):
    tables = make_tables(config)
    bad = PLACE | {"training": "at-fgsm-lr-l0", "seed": 3, "attack": "apgd"}
    bad |= check("zero_gradients", False, "")
    tables["checks"] = pd.concat([tables["checks"], pd.DataFrame([bad])], ignore_index=True)
    strong, *_ = [text for _, text in findings(tables, config)]
    start = "at-fgsm-lr-l0: Accuracy under attack is not to be believed, as its gradient is"
    assert strong.startswith(start) and "Of 1 regularised training none has a higher" in strong
    (block,) = section(tables, config).blocks
    assert block.notes[0].startswith(start)


def test_what_a_run_could_not_tell_is_said(config):
    strong, *_ = [text for _, text in findings(make_tables(config), config)]
    rows = make_tables(config)["robustness_differences"]
    unsure = rows[(rows["training"] == "at-fgsm-lr-l2") & (rows["eps"] == "rg_score")]
    size = unsure.loc[unsure["attack"] == "apgd", "detectable"].iloc[0]
    assert strong.endswith(
        f" With 80 % power, this run tells differences from {size:.1f} points on."
    )


def test_what_no_seeds_can_tell_is_all_that_is_said(config):
    tables = make_tables(config)
    rows = tables["robustness_differences"].assign(q_value=0.5, detectable=np.inf, seeds=2)
    (_, text), *_ = findings(tables | {"robustness_differences": rows}, config)
    assert text == "Two seeds cannot tell this."
    rows.loc[rows["training"] == rows["training"].iloc[0], "q_value"] = 0.01
    (_, text), *_ = findings(tables | {"robustness_differences": rows}, config)
    assert text.endswith("Of these, two seeds cannot tell this.")


def test_a_floor_is_no_evidence(config):
    found = {0.0: [0.9, 0.8, 0.9], 0.1: [0, 0, 0]}
    scores = fixed_table({"at-fgsm": found, "at-fgsm-lr-l0": found, "at-fgsm-lr-l2": found})
    names = ["at-fgsm-lr-l0", "at-fgsm-lr-l2"]
    tables = make_tables(config) | {
        "robustness": over_seeds(scores, confidence=0.95),
        "robustness_differences": differences(
            scores, dict.fromkeys(names, "at-fgsm"), confidence=0.95
        ),
    }
    ((_, text),) = findings(tables, config)
    assert (
        "In 2 of 4 comparisons at one eps both are at 0, a floor that says nothing of either (eps "
        "0.1)." in text
    )
    (block,) = section(tables, config).blocks
    (changes,) = [t for t in block.tables if t.title.startswith("Regularised minus")]
    at = {name: index for index, name in enumerate(changes.columns)}
    for row in changes.rows:
        floor, interval = row[at["eps"]] == "0.1", row[at["95% interval"]]
        assert interval == ("both at 0" if floor else "equal in all seeds")
        assert row[at["beyond chance"]] == ("both at 0" if floor else "no")
        assert row[at["detectable"]] == "\u2013"
    accuracies = block.tables[1]
    assert {row[accuracies.columns.index("0.1")] for row in accuracies.rows} == {"0.0 [\u2013]"}
    assert "both at 0" in block.figures[-1].svg


def test_the_worst_case_judges_in_place_of_the_strongest_attack(config):
    trainings = {"at-fgsm": 0.02, "at-fgsm-lr-l0": 0.06}
    attacks = ("worst case", "apgd", "fgsm")
    scores = rg_scores(accuracy_table(trainings, attacks=attacks))
    tables = make_tables(config) | {
        "robustness": over_seeds(scores, beside=["fgsm"], confidence=0.95),
        "robustness_differences": differences(
            scores, {"at-fgsm-lr-l0": "at-fgsm"}, confidence=0.95
        ),
    }
    (block,) = section(tables, config).blocks
    assert block.tables[0].columns == ["training", "fgsm", "apgd", "worst case"]
    judged = [heading.rsplit(" under ", 1)[1] for heading, _ in findings(tables, config)]
    assert judged == ["worst case", "fgsm"]


def test_one_seed_is_shown_without_intervals(config):
    shown = section(make_tables(config, seeds=1), config)
    scores, accuracies, *_ = shown.blocks[0].tables
    assert not any("[" in str(c) for t in (scores, accuracies) for row in t.rows for c in row)
    (_, text), *_ = findings(make_tables(config, seeds=1), config)
    assert "says nothing of others" in text


@pytest.fixture
def own_attack(config):
    """The config with an attack of the user's own, named first."""
    mine = config.attacks["fgsm"].model_copy(update={"method": f"{OWN_CODE}:uphill"})
    config.attacks = {"mine": mine, **config.attacks}
    return config


def test_an_attack_of_the_users_own_stands_behind_and_is_no_judge_of_others(own_attack):
    trainings = {"normal": 0.0, "at-fgsm": 0.02, "at-fgsm-lr-l0": 0.06}
    scores = rg_scores(accuracy_table(trainings, attacks=("mine", "apgd", "fgsm")))
    made = differences(scores, {"at-fgsm-lr-l0": "at-fgsm"}, confidence=0.95)
    tables = make_tables(own_attack) | {
        "robustness": over_seeds(scores, confidence=0.95),
        "robustness_differences": made,
    }
    (block,) = section(tables, own_attack).blocks
    assert block.tables[0].columns == ["training", "fgsm", "apgd", "mine"]
    judged = [heading.rsplit(" ", 1)[1] for heading, _ in findings(tables, own_attack)]
    assert judged == ["apgd", "fgsm", "mine"]


def test_a_page_of_an_attack_of_the_users_own_alone(own_attack):
    accuracy = accuracy_table({"at-fgsm": 0.0, "at-fgsm-lr-l0": 0.1}, attacks=["mine"])
    made = differences(rg_scores(accuracy), {"at-fgsm-lr-l0": "at-fgsm"}, confidence=0.95)
    tables = dict.fromkeys(described(), pd.DataFrame()) | {
        "accuracy": accuracy,
        "robustness": over_seeds(rg_scores(accuracy), confidence=0.95),
        "robustness_differences": made,
    }
    look = load_look(ROOT / "workflow/faultline/report/report.html.j2")
    made = report(tables, config=own_attack, versions={}, **look)
    assert "lsa_moons, under mine" in made and "Of 1 regularised training 1 has" in made


def test_one_training_has_nothing_to_be_compared_with(config):
    scores = rg_scores(accuracy_table({"normal": 0.0}))
    tables = make_tables(config) | {
        "robustness": over_seeds(scores, confidence=0.95),
        "robustness_differences": pd.DataFrame(),
    }
    assert not section(tables, config).blocks
    assert list(findings(tables, config)) == []


def test_figures_draw_means_published_and_differences(config):
    tables = make_tables(config)
    families = {"normal": ["normal"], "at-fgsm": ["at-fgsm", "at-fgsm-lr-l0", "at-fgsm-lr-l2"]}
    table, changes = tables["robustness"], tables["robustness_differences"]

    figure = draw.accuracy_curves(table, families, reference="normal")
    assert len(figure.axes) == 4
    part = table[(table["training"] == "at-fgsm") & (table["attack"] == "apgd")]
    expected = part[part["eps"] != "rg_score"]["value"].to_numpy()
    lines = [line.get_ydata() for line in figure.axes[2].lines]  # apgd comes first in the table
    assert any(np.allclose(y, expected) for y in lines) and len(lines) == 4

    figure = draw.rg_scores(table, families)
    crosses = [line for line in figure.axes[1].lines if line.get_marker() == "x"]
    assert list(crosses[0].get_xdata()) == [210.0] * 4

    figure = draw.difference_forest(changes, families, level=0.05)
    filled, hollow = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert list(filled.get_ydata()) == [0] and list(hollow.get_ydata()) == [1]
    draw.difference_map(changes, families, level=0.05)


def test_many_trainings_and_attacks_fit():
    trainings = {f"tuned-at-trades-lr-l{i}-of-a-long-name": 0.001 * i for i in range(18)}
    scores = rg_scores(accuracy_table(trainings, seeds=2, attacks=("a", "b", "c", "d")))
    first, *others = trainings
    families = {first: [first, *others[:5]], others[5]: others[5:]}
    table = over_seeds(scores, confidence=0.95)
    changes = differences(scores, dict.fromkeys(others, first), confidence=0.95)
    figures = [
        draw.accuracy_curves(table, families, reference=None),
        draw.rg_scores(table, families),
        draw.difference_forest(changes, families, level=0.05),
        draw.difference_map(changes, families, level=0.05),
    ]
    for figure in figures:
        assert figure.get_figwidth() <= canvas.MAX_WIDTH + 0.01
        page.figure(figure, name="figure", alt="", caption="", read="")
