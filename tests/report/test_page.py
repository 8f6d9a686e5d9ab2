"""The page as a whole."""

import html.parser
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from run_tables import make_config, make_tables
from support import ROOT, SCHEMA

from faultline.report import canvas
from faultline.report.comparison import policy_comparison
from faultline.report.page import (
    Section,
    block,
    cell,
    images,
    said,
    said_of_seeds,
    shortened,
    table,
)
from faultline.report.page import figure as drawn_figure
from faultline.report.pool import side_by_side
from faultline.report.render import filled, load_look, versions, with_versions
from faultline.studies import order
from faultline.studies.accuracy.figures import robustness_curves, training_curves
from faultline.studies.report import report
from faultline.studies.synaptic.figures import (
    band_split,
    class_map,
    filter_ranking,
    score_map,
    threshold_curves,
)

LOOK = load_look(ROOT / "workflow/faultline/report/report.html.j2")
VERSIONS = {"python": "3.11", "torch": "2.13"}


def render(tables, config):
    return report(tables, config=config, versions=VERSIONS, **LOOK)


@pytest.fixture(scope="module")
def tables():
    return make_tables()


@pytest.fixture(scope="module")
def page(tables):
    return render(tables, make_config())


class Page(html.parser.HTMLParser):
    """Sections, figures and what the page refers to; every element must be closed in order."""

    VOID = ("meta", "use", "path", "rect", "br")

    def __init__(self, text):
        super().__init__()
        self.sections, self.figures, self.open, self.links, self.ids = [], 0, [], [], []
        self.words, self.scripts = "", []
        self.feed(text)
        assert not self.open
        assets = LOOK["assets"].items()
        assert self.scripts == [f"\n{of}\n" for name, of in assets if name.endswith(".js")]

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.sections.append(attributes["id"])
        self.figures += tag == "figure"
        assert tag not in ("link", "img", "iframe")
        assert not any(name.startswith("on") for name in attributes)
        if tag == "script":
            assert not attributes
            self.scripts.append("")
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
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.open[-1:] != ["style"]:
            self.words += data


SECTIONS = [
    *("glance", "classes", "filters", "remedy", "robustness", "retraining", "advice"),
    *("targeting", "thresholds", "scores", "baselines", "bands", "overlap", "invariance"),
    *("training", "checks", "absent", "run"),
]
FOLDED = SECTIONS[SECTIONS.index("targeting") : SECTIONS.index("absent")]


def test_the_page_has_every_section_and_needs_nothing_else(page):
    page = Page(page)
    assert page.sections == SECTIONS
    assert page.figures == 17
    within = {link for link in page.links if not link.startswith("data:")} - {"run.html"}
    assert all(link.startswith("#") for link in within)
    assert {link[1:] for link in within} <= set(page.ids)
    assert "3 seeds" not in page.words and "40 test images, 2 seeds" in page.words
    assert "All 4 checks" in page.words and "nan" not in page.words.lower().split()


def test_the_appendix_is_there_to_be_opened(page):
    """Targeting, of which nothing is told here, too."""
    chapters = re.findall(r'<div class="chapter" id="([^"]*)">\n<h2>([^<]*)</h2>', page)
    assert chapters == [
        ("what-is-fragile", "What is fragile"),
        ("robustness-and-mending", "Robustness and mending"),
        ("appendix", "Appendix"),
    ]
    folded = re.findall(r'<section id="([^"]*)">\s*<details class="folded">', page)
    assert folded == FOLDED
    assert '<a href="#what-is-fragile">' in page and '<a href="#checks">' in page


def test_words_are_explained_where_they_are_first_seen(page):
    main = page.partition("<main>")[2]
    for word in ("S_adv", "S_clean", "tau", "decided"):
        (said,) = re.findall(rf'<abbr title="([^"]*)">{word}</abbr>', main)
        assert said


def test_marks_of_every_figure_tell_their_numbers(page):
    figures = re.findall(r'<figure id="([^"]*)".*?</figure>', page, re.DOTALL)
    assert len(figures) == 17
    for name, figure in zip(figures, page.split("<figure")[1:], strict=True):
        told = re.findall("<title>([^<]*)</title>", figure.partition("</figure>")[0])
        assert told, name
        if name not in ("figure-map-0", "figure-thresholds-0"):
            assert any(re.search(r"\d.*n = \d", text) for text in told), name


def bare(*sections) -> str:
    """A page of these and nothing else."""
    shown = {"title": "", "what": "", "config": "", "seeds": "", "tables": [], "versions": {}}
    return filled(sections=[*sections], **shown, **LOOK)


def test_how_figures_are_read_is_said_once_a_section():
    def drawn(name, read):
        return drawn_figure(Figure(), name=name, alt=name, caption="", read=read)

    figures = [drawn(name, read) for name, read in (("a", "One."), ("b", "Two."), ("c", "One."))]
    blocks = [block("", figures=[figure]) for figure in figures]
    other = block("", figures=[drawn("d", "One.")])
    sections = [Section("s", "S", blocks=blocks)]
    sections += [Section("t", "T", blocks=[other])]
    made = bare(*sections)
    assert [made.count(read) for read in ("One.", "Two.")] == [2, 1]
    assert made.count('<a href="#figure-a">as above</a>') == 1


def test_what_is_long_is_there_to_be_opened():
    found = [("Short", "Yes."), ("Long", "No.", "Because.")]
    one = Section("s", "S", intro="Asked.", method="In detail.", findings=found)
    made = bare(one)
    folded = re.findall(r"<details><summary>(.*?)</summary><p>(.*?)</p>", made)
    assert folded == [("In full", "Because."), ("How it is measured", "In detail.")]


def test_many_findings_are_there_to_be_opened():
    one = Section("s", "S", findings=[(f"Run {i}", "Yes.") for i in range(7)])
    few = Section("t", "T", findings=one.findings[:6])
    made = bare(one, few)
    assert made.count("<summary>What was found, in 7 parts</summary>") == 1
    assert made.count("What was found") == 1 and made.count("<strong>Run") == 13


def test_a_cell_links_to_a_section_or_to_another_page():
    links = [cell("1", link=link).link for link in ("", "checks", "../a/b.html")]
    assert links == ["", "#checks", "../a/b.html"]


def test_what_marks_tell():
    seeds = pd.DataFrame({"value": [-0.5, 0.25], "ci_low": -1.0, "ci_high": 1.0, "n": 1200})
    assert said(seeds.iloc[0]) == "\u22120.500 [\u22121.000, 1.000], n = 1,200"
    assert said({"value": 0.5}, "3 seeds", scale=100, places=1) == "50.0, n = 3 seeds"
    assert said({"value": np.nan, "n": 3}) == "n/a"
    one = "0.250 [\u22121.000, 1.000], n = 1,200, 1 seed"
    assert said_of_seeds(seeds.tail(1)) == said_of_seeds(seeds.assign(value=[np.nan, 0.25])) == one
    both = "mean \u22120.125, from \u22120.500 to 0.250, n = "
    assert said_of_seeds(seeds) == both + "1,200, 2 seeds"
    assert said_of_seeds(seeds[["value"]]) == both + "2 seeds"


def test_the_same_tables_give_the_same_bytes(page, tables):
    with side_by_side(2):
        again = render({name: table.copy() for name, table in tables.items()}, make_config())
    assert page == again


def test_sections_that_the_run_has_nothing_of_are_named_with_what_switches_them_on():
    config = make_config(
        seeds=[0],
        trainings={"standard": {"epochs": [0]}},
        synaptic_filtering={"layers": "none", "global": False},
        nodal_dropout={"layers": "none"},
        targeting={"layers": "none"},
        retraining={"from_epochs": []},
    )
    page = Page(render({}, config))
    assert page.sections == ["glance", "absent", "run"] and page.figures == 0
    assert "tab-separated" not in page.words  # no table is offered
    line = " ".join(page.words.split())
    for title, keys in (
        ("Fault map", "synaptic_filtering.layers"),
        ("Filters ranked", "nodal_dropout.layers"),
        ("Retraining compared", "retraining.from_epochs"),
        ("Invariance", "synaptic_filtering.layers, seeds, trainings.*.epochs"),
        ("Training curves", "trainings.*.epochs"),
        ("Self-checks of the attacks", "attacks"),
        ("Parameters by pulse band", "synaptic_filtering.filters"),
        ("Fragile filters and what attacks target", "targeting.layers, targeting.epochs"),
        ("The remedy", "remedy.layers, remedy.from_epochs"),
        ("Random internal perturbations", "perturbations.layers, perturbations.epochs"),
        ("Layer sustainability", "sustainability.epochs"),
        ("Ablations of your own", "ablations"),
    ):
        assert f"{title} ({keys})" in line
    assert "Examples" not in line  # no key would show any


def test_what_switches_a_section_on_is_a_key_of_the_config():
    def there(path: str, schema: dict) -> bool:
        key, _, rest = path.partition(".")
        part = schema["additionalProperties"] if key == "*" else schema["properties"].get(key)
        return part is not None and (not rest or there(rest, part))

    empty = dict.fromkeys(order.described(), pd.DataFrame())
    made = [make(empty, make_config()) for make in order.functions(order.SECTIONS)]
    needs = {section.id: section.needs for section in filter(None, made)}
    assert len(needs) == len(order.SECTIONS) - 1  # without the examples
    assert all(there(key, SCHEMA) for keys in needs.values() for key in keys.split(", "))


def test_names_are_escaped(tables):
    evil = '<script>alert("x")</script>&$a_b$'
    changed = {
        name: table.replace(dict.fromkeys(("conv1", "standard", "small_conv"), evil))
        for name, table in tables.items()
    }
    page = Page(render(changed, make_config()))
    assert "<script>" in page.words  # as text: Page refuses the element itself


def test_every_figure_is_drawn_from_tables_alone(tables):
    comparison = tables["comparison"]
    one = tables["filters"][tables["filters"]["layer"] == "conv1"]
    figures = [
        class_map(tables["layers"]),
        class_map(tables["layers"], synaptic_filter="pulse"),
        robustness_curves(tables["accuracy"], norms={"pgd": "linf"}, worst=[]),
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


def test_resolved_config_reads_back():
    config = make_config()
    text = with_versions(config.text, versions())
    values = {key: part for key, part in config.dump().items() if key not in ("keep", "hours")}
    assert yaml.safe_load(text) == values
    assert text.startswith("# faultline") and "matplotlib 3" in text.splitlines()[0]


def test_images_are_told_with_those_that_they_stand_for():
    table = pd.DataFrame({"n": [500, 500], "stands_for": [10_000, 9_800]})
    said = images(table, "validation")
    assert said == "500 validation images, drawn by margin to stand for 9,800 to 10,000"
    assert images(table[["n"]]) == "500 test images"


def test_the_longest_tables_are_cut_alike_where_a_page_would_hold_too_many_rows():
    tables = [
        table(str(size), pd.DataFrame({"row": range(size)}), source="all.tsv")
        for size in (10, 300, 500, 30)
    ]
    one = Section("one", "One", blocks=[block("", tables=tables)])
    (short,) = shortened([one], most=200)
    tables = short.blocks[0].tables
    assert [len(table.rows) for table in tables] == [10, 80, 80, 30]
    assert [table.note for table in tables[1:3]] == [
        f"The first 80 of {size} rows; all are in all.tsv." for size in (300, 500)
    ]
    assert not tables[0].note and not tables[3].note
