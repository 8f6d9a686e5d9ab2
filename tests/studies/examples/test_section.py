"""The examples on the page, in a browser where there is one."""

from xml.etree import ElementTree

import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from run_tables import make_config, make_tables, said
from support import ROOT

from faultline.report.render import load_look
from faultline.studies.examples.pictures import differences, picture
from faultline.studies.examples.section import section
from faultline.studies.report import report

LOOK = load_look(ROOT / "workflow/faultline/report/report.html.j2")
PLACE = {"dataset": "digits", "network": "small_conv", "training": "standard"}
PLACE |= {"seed": 0, "epoch": 3}


def make_examples(classes: int = 10, *, side: int = 28) -> dict[str, pd.DataFrame]:
    """Examples under an attack that fools the network on odd classes, and two filters."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    images = torch.rand(classes, 1, side, side)
    changes = 0.1 * torch.randn(images.shape).sign()
    drawn, factor = differences(changes)
    rows = []
    for index, (image, change, shown) in enumerate(zip(images, changes, drawn, strict=True)):
        common = {"index": 7 * index, "label": index, "height": side, "width": side}
        clean = {"attack": "none", "eps": 0.0, "predicted": index, "confidence": 0.99}
        clean |= {"magnified": float("nan"), "picture": picture(image), "difference": ""}
        fooled = (index + index % 2) % classes
        attacked = {"attack": "pgd", "eps": 0.1, "predicted": fooled, "confidence": 0.6}
        attacked |= {"magnified": factor, "picture": picture(image + change), "difference": shown}
        rows += [common | clean, common | attacked]
    examples = pd.DataFrame(rows).assign(**PLACE).sort_values("attack", kind="stable")
    of = {"layer": "conv1", "label": 3, "predicted": 5, "gained": 2, "n": 40}
    of |= {"height": side, "width": side}
    lost = pd.DataFrame(
        [
            of | {"filter": number, "value": -0.2, "decided": not number, "index": index}
            for number, count in ((0, 12), (4, 1))
            for index in range(count)
        ]
    )
    lost["picture"] = [picture(images[0])] * 10 + [""] * 2 + [picture(images[1])]
    return {"examples": examples, "lost_images": lost.assign(**PLACE)}


def test_the_numbers_are_below_the_pictures():
    tables = make_examples()
    (block,) = section(tables, make_config()).blocks
    attacked, lost = (str(figure.svg) for figure in block.figures)
    assert attacked.count("<img") == 30 and attacked.count("\u2192") == 20
    assert attacked.count("<b>") == 5 and "1 \u2192 <b>2</b>" in attacked
    assert "eps 0.1" in attacked and "\u00d7 10" in attacked and "60\u202f%" in attacked
    assert lost.count("<img") == 11 and lost.count("3 \u2192 <b>5</b>") == 11
    assert "12 of 40 lost, 10 shown; 2 gained; S_clean \u22120.200<" in lost
    assert "1 of 40 lost; 2 gained; S_clean \u22120.200, not decided" in lost
    words = said(block)
    assert "n = 10" in words and "seed 0, epoch 3" in words and "averaged" not in words
    assert "averaged down" in said(section(make_examples(2, side=64), make_config()))


def test_a_page_of_many_networks_shows_fewer_pictures(monkeypatch):
    one = make_examples()
    tables = {
        name: pd.concat([table.assign(network=f"network {i}") for i in range(3)])
        for name, table in one.items()
    }
    whole = section(one, make_config()).blocks[0]
    monkeypatch.setattr("faultline.studies.examples.section.ROOM", 60_000)
    for block in section(tables, make_config()).blocks:
        for figure, before in zip(block.figures, whole.figures, strict=True):
            assert 1 <= figure.svg.count("<img") < before.svg.count("<img")
        assert "n = 10; " in block.figures[0].caption
        assert " Shown are " in block.figures[0].caption
        assert " shown; " in block.figures[1].svg
    assert " Shown are " not in whole.figures[0].caption


def test_there_is_no_section_without_examples():
    empty = {"examples": pd.DataFrame(), "lost_images": pd.DataFrame()}
    assert section(empty, make_config()) is None
    alone = make_examples() | {"lost_images": pd.DataFrame()}
    assert len(section(alone, make_config()).blocks[0].figures) == 1


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    tables = make_tables() | make_examples()
    html = report(tables, config=make_config(), versions={"python": "3"}, **LOOK)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


IMAGES = "[...document.querySelectorAll('#examples img')]"


@pytest.mark.parametrize(("width", "media"), [(1400, "screen"), (400, "screen"), (1032, "print")])
def test_pictures_are_drawn_pixel_by_pixel_and_nothing_sticks_out(browser, path, width, media):
    browser.open(path, width=width, media=media, dark=True)
    browser.run(f"Promise.all({IMAGES}.map((image) => image.decode()))")
    assert browser.run("document.documentElement.scrollWidth") <= width
    sizes = browser.run(f"{IMAGES}.map((i) => [i.naturalWidth, i.width, i.height])")
    assert len(sizes) == 41 and all(size[0] == 28 and size[1] == size[2] for size in sizes)
    shown = {size[1] for size in sizes}
    assert len(shown) == 1 and min(shown) > 60
    assert media == "print" or shown == {84}  # a whole multiple
    styles = browser.run(f"{IMAGES}.map((i) => getComputedStyle(i).imageRendering)")
    assert set(styles) == {"pixelated"}
    if media == "print":  # all of it, on a page
        assert browser.run(f"{IMAGES}.every((i) => i.getBoundingClientRect().right <= {width})")
    else:  # beside what scrolls, its heading stays
        browser.run("document.querySelector('#examples .wide').scrollLeft = 200")
        left = "document.querySelector('#examples .pictures th').getBoundingClientRect().x"
        box = "document.querySelector('#examples .wide').getBoundingClientRect().x"
        assert browser.run(f"{left} - {box}") == 0
    if media == "screen":
        saved = browser.run("picturesAsText(document.querySelector('#examples .pictures'))")
        drawn = ElementTree.fromstring(saved)
        there = browser.run(
            "document.querySelector('#examples .pictures').querySelectorAll('img').length"
        )
        assert len(drawn.findall("{*}image")) == there > 20
        words = [text.text for text in drawn.findall("{*}text")]
        assert words[:2] == ["test image", "0 \u2192 0"]


def test_pictures_need_no_light_ground_in_the_dark(browser, path):
    browser.open(path, width=1400, dark=True)
    colour = "getComputedStyle(document.querySelector('#examples {}')).backgroundColor"
    assert browser.run(colour.format(".wide")) == "rgba(0, 0, 0, 0)"
    assert browser.run(colour.format("th")) == "rgb(20, 23, 28)"
