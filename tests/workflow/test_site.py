"""The site of the docs: built strictly, whole, and without anything from elsewhere."""

import os
import re
import subprocess
import sys

import pytest
from support import ROOT

import faultline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site is built by mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text(site, page: str) -> str:
    return (site / page / "index.html").read_text(encoding="utf-8")


def test_every_page_is_there_and_fetches_nothing(site):
    written = {path.stem for path in (ROOT / "docs").glob("*.md")}
    pages = {path.parent.name: path.read_text("utf-8") for path in site.glob("*/index.html")}
    assert written | {"gallery", "functions", "modules", "contributing", "changelog"} == {*pages}
    for name, page in {**pages, "": text(site, ".")}.items():
        fetched = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?(?:https?:)?//[^\s>]*", page)
        fetched += re.findall(r"<link\b[^>]*\bhref=\"?(?:https?:)?//[^\s>]*", page)
        assert not fetched, name


def test_functions_are_those_of_the_library(site):
    titles = re.findall(r'<h3 id="faultline\.[\w.]*?(\w+)"', text(site, "functions"))
    assert sorted(titles) == faultline.__all__


def test_the_gallery_has_every_figure_with_its_config(site):
    page = text(site, "gallery")
    shown = set(re.findall(r'src="\.\./([\w-]+\.png)"', page))
    assert shown == {path.name for path in (ROOT / "docs").glob("*.png")}
    for figure in page.split("<h2 ")[1:]:
        made = re.search(r"<summary>\S+\.yaml</summary>|python benchmarks/", figure)
        assert made, figure[:200]
