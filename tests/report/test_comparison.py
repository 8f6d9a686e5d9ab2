import numpy as np
import pandas as pd

from faultline.report.comparison import (
    compared,
    helped,
    in_short,
    policies_over_epochs,
    policy_comparison,
    summary,
)
from faultline.report.page import cell


def test_policies_are_told_apart_by_their_intervals_alone():
    rows = pd.DataFrame(
        [
            ["selective", "all seeds", None, 2, 0.02, 0.01, 0.03, 0.015, 0.025],
            ["selective", "seed", 0, 1, 0.01, 0.005, 0.015, None, None],
            ["selective", "seed", 1, 1, 0.03, 0.025, 0.035, None, None],
        ],
        columns=[
            *("policy", "level", "seed", "seeds", "difference", "ci_low", "ci_high"),
            *("image_ci_low", "image_ci_high"),
        ],
    ).assign(
        accuracy=0.52, reference_accuracy=0.5, reference="regular", detectable=0.0125, q_value=0.03
    )

    def say(rows):
        names = {"policy": "selective", "reference": "regular", "control": "random freezing"}
        return compared(rows, level=0.05, **names)

    assert "+2.0 points [+1.0, +3.0] over 2 seeds, better than regular." in say(rows)
    worse = rows.assign(difference=-rows["difference"], ci_low=-0.03, ci_high=-0.01)
    worse = worse.assign(image_ci_low=-0.025, image_ci_high=-0.015)
    assert "worse than regular" in say(worse)
    assert "not distinguishable from regular, as q = 0.120 once" in say(rows.assign(q_value=0.12))
    unsure = rows.assign(image_ci_low=-0.001)  # certain over seeds, not over images
    assert "not distinguishable from regular (80 % power from 1.2 points on)." in say(unsure)
    flat = rows.assign(ci_low=np.nan, ci_high=np.nan)  # seeds agree by chance: no t interval
    assert "[+1.5, +2.5] over images (the same in 2 seeds)" in say(flat)

    against = rows.assign(reference="random", difference=0.015, ci_low=-0.01, ci_high=0.04)
    for low, high, words in (
        (
            *(-0.01, 0.04),
            "+1.5 points [\u22121.0, +4.0], not distinguishable from it (80 % power from 1.2 "
            "points on).",
        ),
        (0.01, 0.02, "+1.5 points [+1.0, +2.0], better than it."),
        (np.nan, np.nan, "+1.5 points in every seed."),
    ):
        both = pd.concat([rows, against.assign(ci_low=low, ci_high=high)])
        assert say(both) == say(rows)[:-1] + f"; minus random freezing, {words}"
    assert say(pd.concat([rows, against.assign(seeds=1)])) == say(rows)

    floor = rows.assign(accuracy=0.0, reference_accuracy=0.0)
    assert say(floor) == "0.0 %, regular 0.0 %: both at 0, a floor that says nothing of either."

    beyond = unsure.assign(detectable=np.inf)
    assert say(beyond) == "52.0 %, regular 50.0 %: two seeds cannot tell this."
    names = {"policy": "selective", "reference": "regular"}
    short = in_short(beyond.assign(images="clean"), level=0.05, **names)
    assert short == "Against regular, 2 seeds: clean, two seeds cannot tell this."
    assert summary(beyond, level=0.05)[2] == "two seeds cannot tell this"
    one = say(beyond.assign(seeds=1, ci_low=-0.01))
    assert one == "52.0 %, regular 50.0 %: one seed cannot tell this."

    row, ends, words = summary(rows, level=0.05)
    assert row["level"] == "all seeds" and ends == (0.01, 0.03) and words == "better"
    assert summary(rows.assign(q_value=0.12), level=0.05)[2] == "not told apart"
    _, ends, words = summary(flat.assign(q_value=np.nan), level=0.05)
    assert ends == (0.015, 0.025) and words == "better on these images alone"
    row, ends, _ = summary(rows.assign(seeds=1).iloc[[0, 2]], level=0.05)
    assert row["seed"] == 1 and ends == (0.025, 0.035)


def row(images, policy, reference, difference, *, spread=0.01, q=0.01, least=0.5, **more):
    ends = {"ci_low": difference - spread, "ci_high": difference + spread}
    ends |= {"image_ci_low": difference - spread, "image_ci_high": difference + spread}
    rest = {
        "epoch": 3,
        "seeds": 3,
        "n": 400,
        "detectable": 0.02,
        "q_value": q,
        "level": "all seeds",
    }
    accuracy = {"accuracy": least + difference, "reference_accuracy": least}
    named = {"images": images, "policy": policy, "reference": reference, "difference": difference}
    return named | ends | rest | accuracy | more


def test_yes_is_said_only_of_what_beats_reference_and_control_under_the_worst_attack():
    def answer(*rows):
        names = {"policy": "selective", "reference": "regular", "control": "random freezing"}
        found = helped(pd.DataFrame(rows), level=0.05, link="here", **names)
        return found.text, found.small

    clean = row("clean", "selective", "regular", -0.02, least=0.9)
    weak = row("fgsm", "selective", "regular", 0.05, least=0.4)
    floor = row("apgd", "selective", "regular", 0.0, least=0.0)
    strong = row("pgd", "selective", "regular", 0.03, least=0.2)
    control = row("pgd", "selective", "random", 0.02, least=0.2)
    given = [clean, weak, floor, strong, control]
    assert answer(*given) == (
        "yes",
        "+3.0 points [+2.0, +4.0], q = 0.010, under pgd (clean −2.0)",
    )
    unsure = row("pgd", "selective", "random", 0.02, q=0.2, least=0.2)
    text, small = answer(clean, strong, unsure)
    assert text == "cannot tell" and small.endswith("not told from random freezing")
    for other in (row("pgd", "selective", "regular", 0.03, q=0.06, least=0.2), floor):
        assert answer(clean, other)[0] == "cannot tell"
    beyond = row("pgd", "selective", "regular", 0.03, q=0.06, least=0.2, detectable=np.inf)
    assert answer(clean, beyond) == ("cannot tell", "three seeds cannot tell this")
    worse = row("pgd", "selective", "regular", -0.03, least=0.2)
    text, small = answer(clean, worse, control)
    assert text == "no" and small.endswith("worse than regular")
    one = [strong | {"seeds": 1}, strong | {"seeds": 1, "level": "seed"}]
    assert answer(*one) == ("cannot tell", "+3.0 points [+2.0, +4.0] under pgd, one seed")
    assert helped(pd.DataFrame(), policy="", reference="", control="", level=0, link="") == cell(
        "not run"
    )


def test_with_one_seed_no_mean_repeats_it_and_each_panel_has_its_axis():
    def figure(seeds):
        rows = [
            row(images, "selective", "regular", size, spread=size, level="seed", seed=seed)
            for images, size in (("clean", 0.002), ("pgd", 0.05))
            for seed in range(seeds)
        ]
        whole = [r | {"level": "all seeds"} for r in rows if r["seed"] == 0]
        return policy_comparison(pd.DataFrame(rows + whole), notes={})

    for seeds in (1, 2):
        made = figure(seeds)
        clean, pgd = made.axes
        assert clean.get_xlim()[1] < 0.5 and pgd.get_xlim()[1] > 10
        diamonds = [line for line in clean.lines if line.get_marker() == "D"]
        labels = [text.get_text() for text in made.legends[0].get_texts()]
        assert len(diamonds) == ("mean over seeds" in labels) == seeds - 1


def test_over_epochs_each_policy_is_a_line_of_means_in_points():
    rows = [
        row("pgd", policy, "regular", size * epoch, seed=np.nan) | {"epoch": epoch, "seeds": 2}
        for policy, size in (("selective", 0.01), ("random", 0.002))
        for epoch in (5, 2)
    ]
    seed = [r | {"level": "seed", "seed": s} for r in rows for s in (0, 1)]
    (ax,) = policies_over_epochs(pd.DataFrame(rows + seed)).axes
    drawn = [line.get_ydata() for line in ax.lines if line.get_marker() == "o"]
    assert np.allclose(drawn, [[2, 5], [0.4, 1.0]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "5"]
