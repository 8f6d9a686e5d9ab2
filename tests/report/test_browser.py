"""The page in a real browser: on a screen, on a phone, in the dark, in print."""

import pandas as pd
import pytest
import torch
from browser import CHROMIUM, Browser
from map_tables import graph_rows
from matplotlib.figure import Figure
from run_tables import make_config, make_tables
from support import ROOT

from faultline.ablation.graph import graph
from faultline.networks.registry import build
from faultline.report import page
from faultline.report.render import filled, load_look, packed
from faultline.studies.report import report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

LOOK = load_look(ROOT / "workflow/faultline/report/report.html.j2")

BARE = {"title": "", "what": "", "config": "", "seeds": "", "tables": [], "versions": {}}

PRINTED = 1032  # A4 across less its margins, in CSS pixels

TABLE = "[...document.querySelectorAll('#classes table')].at(-1)"

ROWS = (
    f"[...{TABLE}.tBodies[0].rows].filter((row) => !row.hidden)"
    ".map((row) => [...row.cells].map((cell) => cell.textContent))"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    html = report(make_tables(), config=make_config(), versions={"python": "3"}, **LOOK)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def open_all(browser):
    browser.run("document.querySelectorAll('details').forEach(d => (d.open = true))")


@pytest.mark.parametrize("width", [1400, 400])
def test_the_first_screen_answers_and_nothing_sticks_out(browser, path, width):
    browser.open(path, width=width)
    open_all(browser)
    assert browser.run("document.documentElement.scrollWidth") <= width
    answers = browser.run(
        "[...document.querySelectorAll('.verdict td')].map(cell => {"
        "  const box = cell.getBoundingClientRect();"
        "  return [cell.dataset.label, cell.innerText, box.bottom, box.right];"
        "})"
    )
    shown = {
        label: text for label, text, bottom, right in answers if bottom < 900 and right <= width
    }
    assert shown["clean"].startswith("90.0 %")
    assert shown["under the worst attack"].startswith("40.0 %")
    helped = shown["did retraining help?"]
    assert helped.startswith("cannot tell") and "two seeds cannot tell this" in helped
    assert {"fragile layers", "robust", "antifragile", "did the remedy help?", "warnings"} < {
        *shown
    }
    smallest = browser.run(
        "Math.min(...[...document.querySelectorAll('figure svg')].map(svg => "
        "svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"
    )
    assert smallest > 1.3  # points as large as points: nothing shrinks, what is wide scrolls
    assert browser.run("getComputedStyle(document.querySelector('nav')).position") == "sticky"


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """The report of two small networks."""
    network = build("small_conv", shape=(1, 8, 8), classes=10, mean=0.5, std=0.3, seed=0)
    nodes, _ = graph(network, torch.rand(1, 1, 8, 8))
    tables = make_tables() | {"graph": graph_rows(network, nodes).assign(network="small_conv")}
    tables = {
        name: pd.concat([table, table.assign(network="other")]) if "network" in table else table
        for name, table in tables.items()
    }
    path = tmp_path_factory.mktemp("maps") / "report.html"
    html = report(tables, config=make_config(), versions={"python": "3"}, **LOOK)
    path.write_text(html, encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "columns"), [(1400, 2), (400, 1)])
def test_the_fault_maps_of_small_networks_lie_side_by_side_below_the_answers(
    browser, maps, width, columns
):
    browser.open(maps, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    boxes = browser.run(
        "[...document.querySelectorAll('.faultmap')].map(map => {"
        "  const box = map.querySelector('svg').getBoundingClientRect();"
        "  return [map.getBoundingClientRect().x, box.bottom, map.clientWidth];"
        "})"
    )
    assert len(boxes) == 2 and len({x for x, *_ in boxes}) == columns
    assert min(wide for *_, wide in boxes) > 350
    assert columns == 1 or all(bottom < 900 for _, bottom, _ in boxes)


def test_tables_sort_filter_and_copy(browser, path):
    browser.open(path, width=1400)
    open_all(browser)
    headings = browser.run(f"[...{TABLE}.tHead.rows[0].cells].map(c => c.textContent)")
    column = headings.index("value")

    def values():
        return [float(row[column].replace("\u2212", "-")) for row in browser.run(ROWS)]

    before = values()
    for expected in (sorted(before), sorted(before, reverse=True)):
        browser.run(f"{TABLE}.tHead.rows[0].cells[{column}].querySelector('button').click()")
        assert values() == expected != before
    browser.run(
        "const field = [...document.querySelectorAll('#classes .tools input')].at(-1);"
        "field.value = 'conv2 clean'; field.dispatchEvent(new Event('input'))"
    )
    rows = browser.run(ROWS)
    assert len(rows) == 2 and all(row[0] == "conv2" and "S_clean" in row[1] for row in rows)
    copied = browser.run(
        "new Promise(resolve => {"
        "  navigator.clipboard.writeText = async (words) => resolve(words);"
        "  const buttons = [...document.querySelectorAll('#classes .tools button')];"
        "  buttons.findLast((button) => button.textContent === 'Copy').click();"
        "})"
    )
    assert copied.splitlines() == [
        "\t".join(row).replace("\u00a0", " ") for row in [headings, *rows]
    ]


def test_marks_tell_their_values_and_figures_zoom(browser, path):
    browser.open(path, width=1400)
    mark = "document.querySelector('#classes figure svg path > title').parentElement"
    title = browser.run(f"{mark}.textContent")
    assert "n = 40" in title and "[" in title and "seed" in title
    browser.run(f"{mark}.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))")
    assert browser.run("document.querySelector('#tip').innerText") == title
    hidden = browser.run(
        "[...document.querySelectorAll('.tips use')].filter((mark) => {"
        "  mark.closest('details')?.setAttribute('open', '');"
        "  mark.scrollIntoView({ block: 'center', inline: 'center' });"
        "  const { x, y, width, height } = mark.getBoundingClientRect();"
        "  const found = document.elementFromPoint(x + 0.6 * width, y + height / 2);"
        "  return !found?.querySelector(':scope > title');"
        "}).map((mark) => mark.textContent)"
    )
    # a mark is found, or another that lies on it; the left half of marks at 0 is cut off
    assert hidden == []
    svg = "document.querySelector('#thresholds svg')"
    whole = browser.run(f"{svg}.getAttribute('viewBox')")
    browser.run(
        f"for (const [kind, at] of [['pointerdown', 50], ['pointerup', 150]]) {{"
        f"  const {{ x, y }} = {svg}.getBoundingClientRect();"
        f"  const where = {{ clientX: x + at, clientY: y + at, pointerType: 'mouse', button: 0 }};"
        f"  {svg}.dispatchEvent(new PointerEvent(kind, where));"
        f"}}"
    )
    zoomed = browser.run(f"{svg}.viewBox.baseVal.width")
    assert zoomed == pytest.approx(75, abs=1)  # 100 pixels are 75 points
    browser.run(f"{svg}.dispatchEvent(new MouseEvent('dblclick'))")
    assert browser.run(f"{svg}.getAttribute('viewBox')") == whole


def test_keys_reach_what_a_mouse_does(browser, path):
    browser.open(path, width=1400)
    skip = browser.run("document.body.firstElementChild.outerHTML")
    assert skip == '<a class="skip" href="#glance">Skip the contents</a>'
    browser.run("document.body.firstElementChild.focus()")
    assert browser.run("document.activeElement.getBoundingClientRect().left") > 0
    captions = browser.run(
        "[...document.querySelectorAll('table')].map((t) => t.caption.textContent)"
    )
    assert len(captions) > 9 and all(captions)

    def press(key):
        event = f"new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }})"
        browser.run(f"document.activeElement.dispatchEvent({event})")
        tip = browser.run("document.querySelector('#tip')?.hidden")
        return None if tip else browser.run("document.querySelector('#tip').innerText")

    browser.run("document.querySelector('#classes figure svg').focus()")
    marks = "document.querySelectorAll('#classes figure svg:focus :has(> title)')"
    titles = browser.run(f"[...{marks}].map((mark) => mark.querySelector('title').textContent)")
    assert len(titles) > 2 and len({*titles}) > 2
    keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowLeft", "End", "ArrowRight", "Home"]
    expected = [titles[at] for at in (0, 1, 0, 0, -1, -1, 0)]
    assert [press(key) for key in keys] == expected
    assert browser.run("document.querySelector('.told') !== null")
    assert press("Escape") is None and not browser.run("document.querySelector('.told')")
    assert [press(key) for key in ("ArrowLeft",)] == titles[-1:]
    browser.run("document.activeElement.blur()")
    assert browser.run("document.querySelector('#tip').hidden")
    again = browser.run("[...document.querySelectorAll('#classes figure svg')][0].innerHTML")
    assert again.count("<title>") == len(titles)


def test_figures_that_a_large_page_packs_are_unpacked(browser, tmp_path):
    figures = [
        page.figure(Figure(), name=name, alt=f"<{name}>", caption="", read="") for name in "ab"
    ]
    sections = [page.Section("one", "One", intro="", blocks=[page.block("", figures=figures)])]
    plain = len(figures[0].svg)
    html = filled(sections=packed(sections, plain=plain), **BARE, **LOOK)
    path = tmp_path / "packed.html"
    path.write_text(html, encoding="utf-8")
    assert html.count('<svg role="img"') == 1 and html.count("data-packed=") == 1
    browser.open(path, width=1400)
    left = "document.querySelector('[data-packed]')"
    browser.run(f"new Promise((done) => setInterval(() => {left} || done()))")
    drawn = "[...document.querySelectorAll('figure svg')].map((svg) => svg.ariaLabel)"
    assert browser.run(drawn) == ["<a>", "<b>"]
    assert browser.run("document.querySelectorAll('figure .tools').length") == 2


def test_figures_near_the_screen_are_unpacked_first(browser, tmp_path):
    drawn = Figure(figsize=(8, 8))
    figures = [page.figure(drawn, name=f"{i}", alt=f"{i}", caption="", read="") for i in range(200)]
    blocks = [page.block("", figures=[figure]) for figure in figures]
    sections = [page.Section("one", "One", blocks=blocks)]
    html = filled(sections=packed(sections, plain=0), **BARE, **LOOK)
    noted = "(window.order ??= []).push(box.parentElement.id); delete box.dataset.packed;"
    html = html.replace("delete box.dataset.packed;", noted).replace("\nequipFigures();", "")
    path = tmp_path / "near.html"
    path.write_text(html, encoding="utf-8")
    browser.open(path, width=1400)
    browser.run("location.hash = '#figure-190'; equipFigures()")
    order = browser.run("order")
    assert len(order) == 200 and order.index("figure-190") < 190


def test_the_dark_page_is_dark_and_its_figures_lie_on_light(browser, path):
    browser.open(path, width=1400, dark=True)
    colour = "getComputedStyle(document.querySelector('{}')).backgroundColor"
    assert browser.run(colour.format("body")) == "rgb(20, 23, 28)"
    assert browser.run(colour.format("figure > .wide")) == "rgb(253, 253, 252)"


def test_print_opens_everything_and_cuts_nothing(browser, path):
    browser.open(path, width=PRINTED, media="print", dark=True)
    assert browser.run("document.querySelectorAll('details:not([open])').length") > 5
    every = "[...document.querySelectorAll('table, pre')].filter((e) => !e.closest('.folded'))"
    assert browser.run(f"{every}.every((element) => element.checkVisibility())")
    wide = "[...document.querySelectorAll('.wide, pre, svg, body')]"
    cut = f"e.scrollWidth > Math.min({PRINTED}, e.clientWidth + 1)"
    assert browser.run(f"{wide}.filter((e) => {cut}).length") == 0
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    smallest = browser.run(
        "Math.min(...[...document.querySelectorAll('td, p, figcaption, pre')]"
        ".map((text) => parseFloat(getComputedStyle(text).fontSize)))"
    )
    assert smallest >= 8  # CSS pixels: 6 points
    folded = "[...document.querySelectorAll('.folded .blocks')]"
    assert not browser.run(f"{folded}.some((element) => element.checkVisibility())")
    assert browser.pdf().startswith(b"%PDF")


def test_what_is_folded_opens_where_a_link_leads_to_it(browser, path):
    browser.open(path, width=1400)
    opened = "document.querySelector('#checks > details').open"
    assert not browser.run(opened)
    browser.run("document.querySelector('nav a[href=\"#checks\"]').click()")
    assert browser.run(f"new Promise((done) => setTimeout(() => done({opened}), 100))")


def test_the_page_is_short_before_its_appendix(browser, path):
    browser.open(path, width=1400)
    top = "document.getElementById('appendix').getBoundingClientRect().top"
    assert browser.run(top) < 9000


def test_the_page_asks_for_nothing(browser, path):
    browser.requests.clear()
    browser.open(path, width=1400)
    asked = [url for url in browser.requests if not url.startswith("data:")]  # in the page itself
    assert asked == [path.as_uri()]


def test_what_a_spreadsheet_would_compute_is_saved_behind_an_apostrophe(browser, tmp_path):
    rows = pd.DataFrame({"name": ["=1+1", "@x", "-2+3", "a=b"], "number": ["-1.5", "+2", "", "0"]})
    section = page.Section("classes", "", blocks=[page.block("", tables=[page.table("x", rows)])])
    path = tmp_path / "page.html"
    path.write_text(filled(sections=[section], **BARE, **LOOK), encoding="utf-8")
    browser.open(path, width=1400)
    assert browser.run(f"tsv({TABLE})").splitlines() == [
        *("name\tnumber", "'=1+1\t-1.5", "'@x\t+2", "'-2+3\t", "a=b\t0")
    ]
