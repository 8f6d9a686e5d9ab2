import html.parser

import numpy as np
import pandas as pd
import pytest
import yaml
from support import ROOT, SCHEMA

from faultline.ablation.facts import Facts
from faultline.attacks.checks import accuracy_monotone, row
from faultline.base.columns import RUN
from faultline.base.comparison import compare_policies
from faultline.report import canvas
from faultline.report.comparison import compared, policy_comparison
from faultline.report.render import resolved_config, versions
from faultline.studies import order
from faultline.studies.accuracy.figures import robustness_curves, training_curves
from faultline.studies.checks import resolve
from faultline.studies.fragile.fragility import association, join, overlaps
from faultline.studies.report import report
from faultline.studies.synaptic.classes import classify, invariances
from faultline.studies.synaptic.figures import (
    band_split,
    class_map,
    filter_ranking,
    score_map,
    threshold_curves,
)
from faultline.studies.synaptic.scores import band_scores, curves, filter_scores, layer_scores
from faultline.training.epochs import HISTORY

LAYERS = ["conv1", "conv2", "conv3", "fc"]
TEMPLATE = "workflow/faultline/report/report.html.j2"
VERSIONS = {"python": "3.11", "torch": "2.13"}
TAU = {"S_clean": 0.1, "S_adv": 0.1, "S_diff": 0.1}
FAMILY = ["layer", "attack", "score"]
N = 40


def make_config(**changes):
    config = {
        "datasets": {"digits": {"test": 700}},
        "networks": ["small_conv"],
        "trainings": {"standard": {"epochs": [1, 3]}},
        "seeds": [0, 1],
        "attacks": {"pgd": {"method": "pgd", "eps": 0.1, "eps_grid": [0, 0.1]}},
    }
    return resolve({**config, **changes}, SCHEMA)


def sweep(rng, kinds=("high_pass", "low_pass", "pulse"), thresholds=5, hopeless=False):
    v = len(kinds) * thresholds
    normalised = np.tile(np.linspace(0, 1, thresholds), len(kinds))
    base = {"clean": rng.uniform(size=N) < 0.9, "pgd": rng.uniform(size=N) < 0.5}
    if hopeless:
        base["pgd"][:] = False
    return Facts(
        variants={
            "filter": np.repeat(kinds, thresholds),
            "threshold": 2 * normalised - 1,
            "normalised": normalised,
            "kept": np.linspace(0, 1, v),
            "changed_weights": rng.integers(1, 99, size=v),
        },
        base=base,
        correct={k: b & (rng.uniform(size=(v, N)) < rng.uniform()) for k, b in base.items()},
        changed={k: np.full(v, 3) for k in base},
    )


def nodal(rng, count=6):
    base = {"clean": rng.uniform(size=N) < 0.9, "pgd": rng.uniform(size=N) < 0.5}
    return Facts(
        variants={
            "filter": np.arange(count),
            "changed_weights": np.array([0] + [9] * (count - 1)),
            "changed_activations": np.full(count, 9),
        },
        base=base,
        correct={k: b ^ (rng.uniform(size=(count, N)) < 0.1) for k, b in base.items()},
        changed={k: np.full(count, 9) for k in base},
    )


def make_tables(*, seeds=(0, 1), epochs=(1, 3), layers=LAYERS, filters=6, **sweep_options):
    """The tables of a run, from random facts through the functions of the library."""
    rng = np.random.default_rng(0)
    parts = {name: [] for name in order.described()}
    hits, places = [], []
    for seed in seeds:
        for epoch in epochs:
            place = {"dataset": "digits", "network": "small_conv", "training": "standard"}
            place |= {"seed": seed, "epoch": epoch}
            for scope, layer in [("global", "all layers"), *(("local", name) for name in layers)]:
                facts = sweep(rng, **sweep_options)
                scores = layer_scores(
                    facts, baseline="unfiltered", integration="trapezoid", confidence=0.95
                )
                here = place | {"scope": scope, "layer": layer}
                parts["layers"].append(scores.assign(**here))
                parts["curves"].append(curves(facts, confidence=0.95).assign(**here))
                if scope == "local":
                    bands = band_scores(facts, baseline="unfiltered", confidence=0.95)
                    parts["bands"].append(bands.assign(**place, layer=layer))
            single = filter_scores(nodal(rng, filters), confidence=0.95)
            parts["filters"].append(single.assign(**place, layer=layers[0]))
            eps = np.array([0, 0.1])
            accuracy = pd.DataFrame({"eps": eps, "n": N, "accuracy": 0.9 - 5 * eps})
            parts["accuracy"].append(accuracy.assign(**place, attack="pgd"))
            found = accuracy_monotone({e: rng.uniform(size=N) < 0.9 - e for e in eps})
            parts["checks"].append(pd.DataFrame([found]).assign(**place, attack="pgd"))
        history = pd.DataFrame(rng.uniform(size=(3, len(HISTORY))), columns=HISTORY)
        history["epoch"] = [1, 2, 3]
        parts["history"].append(history.assign(**place))
        for policy in ("regular", "selective", "fragile_only", "random-0", "random-1"):
            correct = {k: rng.uniform(size=N) < 0.7 for k in ("clean", "pgd")}
            hits.append(correct)
            places.append(place | {"policy": policy})
            result = pd.DataFrame({"images": ["clean", "pgd"], "n": N, "accuracy": 0.7})
            counts = {"frozen": 0 if policy == "regular" else 30, "freezable": 100}
            parts["retraining"].append(result.assign(**places[-1], **counts))
    tables = {name: pd.concat(part) if part else pd.DataFrame() for name, part in parts.items()}
    for unit in ("layers", "filters", "bands"):
        tables[unit] = classify(tables[unit], tau=TAU, by=[*FAMILY, "seed", "epoch"])
    tables["comparison"] = compare_policies(hits, places, confidence=0.95)
    tables["invariance"] = invariances(tables["layers"], {})
    return tables | fragile_tables(rng, tables["filters"])


def fragile_tables(rng, filters):
    """What targeting and the remedy add, random too, for the same checkpoints and filters."""
    where = [*RUN, "seed", "epoch", "layer", "filter"]
    each = filters.loc[filters["score"] == "S_clean", where].reset_index(drop=True)
    share, size = rng.uniform(size=len(each)), len(each)
    columns = ["std", "clean_norm", "relative", "relative_error"]
    targeting = each.assign(attack="pgd", targeting=share, share=share / 6, share_error=0.01, n=N)
    targeting = join(targeting.assign(**dict.fromkeys(columns, 0.1)), filters, confidence=0.95)
    pixels = pd.DataFrame({"channel": 0, "row": [0, 0, 1, 1], "column": [0, 1, 0, 1]})
    kernels = each.merge(pixels, how="cross")
    places = each[each.columns[:5]].drop_duplicates().to_dict("records")
    hits, remedied, tried = [], [], []
    for place in places:
        for policy in ("none", "fragile", "random-0", "random-1"):
            hits.append({k: rng.uniform(size=N) < 0.7 for k in ("clean", "pgd")})
            remedied.append(place | {"policy": policy})
        for strength in (0, 0.5, 1):
            row = {"strength": strength, "n": 30, "chosen": strength == 1}
            for images in ("clean", "pgd"):
                tried.append(place | row | {"images": images, "accuracy": rng.uniform()})
    gains = each.assign(fragility=0.1, energy=2.0, gain=rng.uniform(size=size), strength=1.0, n=30)
    return {
        "targeting": targeting,
        "kernels": kernels.assign(weight=rng.normal(size=len(kernels))),
        "association": association(targeting, permutations=99, confidence=0.95),
        "fragile_overlap": overlaps(filters, confidence=0.95),
        "gains": gains,
        "strengths": pd.DataFrame(tried),
        "remedy": compare_policies(hits, remedied, confidence=0.95, reference="none"),
    }


@pytest.fixture(scope="module")
def tables():
    return make_tables()


@pytest.fixture
def config():
    return make_config()


@pytest.fixture
def render(config):
    template = (ROOT / TEMPLATE).read_text(encoding="utf-8")

    def page(tables, config=config):
        return report(tables, config=config, versions=VERSIONS, template=template)

    return page


class Page(html.parser.HTMLParser):
    """Sections, figures and what the page refers to; every element must be closed in order."""

    VOID = ("meta", "use", "path", "rect", "br")

    def __init__(self, text):
        super().__init__()
        self.sections, self.figures, self.open, self.links, self.ids = [], 0, [], [], []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.sections.append(attributes["id"])
        self.figures += tag == "figure"
        assert tag not in ("script", "link", "img", "iframe")
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [v for k, v in attributes.items() if k in ("href", "src", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


SECTIONS = [
    *("glance", "classes", "robustness", "thresholds", "scores", "filters"),
    *("targeting", "overlap", "remedy", "bands", "perturbations"),
    *("retraining", "invariance", "training", "checks", "run"),
]


def test_the_page_has_every_section_and_needs_nothing_else(render, tables):
    page = Page(render(tables))
    assert page.sections == SECTIONS
    assert page.figures == 16
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "3 seeds" not in page.words and "40 test images, 2 seeds" in page.words
    assert "All 4 checks" in page.words and "nan" not in page.words.lower().split()


def test_the_same_tables_give_the_same_bytes(render, tables):
    assert render(tables) == render({k: t.copy() for k, t in tables.items()})


def test_every_section_without_data_says_why(render):
    config = make_config(
        seeds=[0],
        trainings={"standard": {"epochs": [0]}},
        synaptic_filtering={"layers": "none", "global": False},
        nodal_dropout={"layers": "none"},
        targeting={"layers": "none"},
        retraining={"from_epochs": []},
    )
    page = Page(render({name: pd.DataFrame() for name in order.described()}, config))
    assert page.sections == SECTIONS and page.figures == 0
    for reason in (
        "synaptic_filtering.layers is none",
        "nodal_dropout.layers is none",
        "retraining.from_epochs is empty",
        "one seed, one epoch",
        "No epoch was trained",
        "No self-check was made",
        "pulse filter",
        "No attack was run",
        "targeting.layers is none",
        "There is nothing to compare: no nodal dropout",
        "remedy.layers is none",
    ):
        assert reason in page.words


def test_one_seed_one_epoch_and_no_global_sweep(render):
    tables = make_tables(seeds=[4], epochs=[0])
    for name in ("layers", "curves"):
        tables[name] = tables[name][tables[name]["scope"] == "local"]
    config = make_config(seeds=[4], trainings={"standard": {"epochs": [0]}})
    words = Page(render(tables, config)).words
    assert "no global sweep" in words and "one checkpoint epoch only" in words
    assert "which says nothing of others" in words and "nothing to compare" in words


def test_undefined_scores_are_shown_as_such(render):
    page = Page(render(make_tables(hopeless=True)))
    assert "S_adv is undefined here" in page.words
    assert "S_adv (pgd) is undefined" in page.words
    assert "66.7 % of the scores are undefined" in page.words


def test_retraining_says_no_more_than_its_intervals():
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
    ).assign(accuracy=0.52, reference_accuracy=0.5)

    def say(rows, confidence):
        words = {"reference": "regular", "control": "random freezing"}
        return compared(rows, policy="selective", confidence=confidence, **words)

    assert "+2.00 points [+1.00, +3.00] over 2 seeds, better than regular." in say(rows, 0.95)
    worse = rows.assign(difference=-rows["difference"], ci_low=-0.03, ci_high=-0.01)
    worse = worse.assign(image_ci_low=-0.025, image_ci_high=-0.015)
    assert "worse than regular" in say(worse, 0.95)
    unsure = rows.assign(image_ci_low=-0.001)  # certain over seeds, not over images
    assert "not distinguishable from regular" in say(unsure, 0.95)
    flat = rows.assign(ci_low=0.02, ci_high=0.02)  # seeds agree by chance: their t has no width
    assert "[+1.50, +2.50] over images (the same in 2 seeds)" in say(flat, 0.95)


@pytest.mark.parametrize(
    ("counts", "words"), [([0, 0], "froze nothing, as"), ([9, 9], "froze everything"), ([3, 3], "")]
)
def test_what_selective_froze_is_said_plainly(tables, render, counts, words):
    table = tables["retraining"]
    frozen = table["policy"].eq("selective") * counts[0] + table["policy"].ne("selective") * 3
    changed = tables | {"retraining": table.assign(frozen=frozen, freezable=9)}
    page = Page(render(changed)).words
    assert (words in page) if words else ("froze nothing" not in page)


def test_a_warning_is_explained(render, tables):
    bad = pd.DataFrame([row("zero_gradients", False, "7 of 40 gradients are zero.")])
    bad = bad.assign(**tables["checks"].iloc[0][[*RUN, "seed", "epoch", "attack"]])
    checks = pd.concat([tables["checks"], bad])
    words = Page(render(tables | {"checks": checks})).words
    assert "1 of 5 checks" in words and "7 of 40 gradients" in words
    assert "the attack has no direction" in words


def test_names_are_escaped(render, tables):
    evil = '<script>alert("x")</script>&$a_b$'
    changed = {
        name: table.replace({"conv1": evil, "standard": evil}) for name, table in tables.items()
    }
    page = Page(render(changed))
    assert "<script>" in page.words  # as text: Page refuses the element itself


def test_long_tables_and_many_layers_are_cut_and_say_so(render):
    layers = [f"layer{i}" for i in range(70)]
    tables = make_tables(layers=layers, seeds=[0], epochs=[1], filters=140)
    tables["invariance"] = pd.DataFrame()
    page = Page(render(tables))
    assert "The first 60 of 71 panels" in page.words
    assert "layer0 has 140 filters: the 64 lowest and the 64 highest" in page.words
    assert "layer69 (" in page.words or "layer69" in page.words


def test_every_figure_is_drawn_from_tables_alone(tables):
    comparison = tables["comparison"]
    one = tables["filters"][tables["filters"]["layer"] == "conv1"]
    figures = [
        class_map(tables["layers"]),
        class_map(tables["layers"], synaptic_filter="pulse"),
        robustness_curves(tables["accuracy"], norms={"pgd": "linf"}),
        threshold_curves(tables["curves"]),
        score_map(tables["layers"]),
        filter_ranking(one),
        filter_ranking(one, most=4),
        band_split(tables["bands"], score="S_adv", attack="pgd"),
        policy_comparison(comparison, notes={"selective": "30 % frozen"}),
        training_curves(tables["history"]),
    ]
    for index, figure in enumerate(figures):
        assert figure.get_figwidth() <= canvas.MAX_WIDTH + 0.01
        svg = canvas.to_svg(figure, name=f"figure-{index}", alt='a "b" <c>')
        assert svg.startswith('<svg role="img" aria-label="a &quot;b&quot; &lt;c>"')
        assert svg.endswith("</svg>")


def test_threshold_curves_show_mean_and_range_over_seeds(tables):
    figure = threshold_curves(tables["curves"])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["all layers, global sweep", "conv1"]
    part = canvas.last_epoch(tables["curves"])
    part = part[(part["layer"] == "conv1") & (part["filter"] == "pulse")]
    expected = part[part["images"] == "pgd"].groupby("normalised")["accuracy"].mean()
    drawn = [line.get_ydata() for line in figure.axes[1].lines if line.get_linestyle() == "--"]
    assert any(len(y) == 5 and np.allclose(y, expected) for y in drawn)


def test_class_map_marks_what_is_not_decided(tables):
    layers = canvas.last_epoch(tables["layers"])
    layers = layers[layers["filter"] == "combined"]
    figure = class_map(tables["layers"])
    marks = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert len(marks) == len(layers)
    open_ = ~layers["decided"] & layers["class"].isin(["fragile", "robust", "antifragile"])
    assert sum(mark.endswith("?") for mark in marks) == open_.sum() > 0


def test_filters_are_ranked_by_clean_score_and_cut_in_the_middle(tables):
    one = canvas.last_epoch(tables["filters"])
    clean = one[(one["score"] == "S_clean") & (one["seed"] == 0)].sort_values(["value", "filter"])
    figure = filter_ranking(tables["filters"], most=4)
    order = [int(label.get_text()) for label in figure.axes[0].get_xticklabels()]
    ranked = list(clean["filter"])
    assert order == ranked[:2] + ranked[-2:]


def test_resolved_config_reads_back(config):
    text = resolved_config(config, versions=versions())
    assert yaml.safe_load(text) == config
    assert text.startswith("# faultline") and "matplotlib 3" in text.splitlines()[0]
