"""The pages with code, run from top to bottom as their readers would; and links."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from support import ROOT, SCHEMA, copy_workflow, fenced, ran

import faultline
from faultline.base.files import load_table
from faultline.config.schema import check_schema
from faultline.studies.config import Config


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, text) of every fenced block of a page of docs/."""
    return fenced(page(name))


def run(copy, *command: str, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}:{copy.environment()['PATH']}"
    done = ran(command, copy.folder, copy.environment(PATH=path, MPLBACKEND="agg", **environment))
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """A copy in which the tutorial has been followed, and what each command said."""
    copy, said = copy_workflow(tmp_path_factory.mktemp("tutorial") / "run", config=""), []
    for language, text in blocks("tutorial.md"):
        if name := re.match(r"# (\S+\.\w+)\n", text):
            (copy.folder / name[1]).write_text(text, encoding="utf-8")
        else:
            assert language == "bash"
            said.append(run(copy, "bash", "-e", "-c", text))
    return copy, said


@pytest.mark.slow
def test_tutorial(tutorial):
    copy, said = tutorial
    tables = copy.folder / "results/tutorial/tables"
    accuracy = pd.read_csv(tables / "accuracy.tsv", sep="\t").set_index(["attack", "eps"])
    # the network as torch runs it, on the same test images
    data = torch.load(copy.folder / "results/tutorial/my_digits/data.pt", weights_only=True)
    images, labels = data["test_images"], data["test_labels"]
    network = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 12, 3, padding=1), torch.nn.ReLU()),
        *(torch.nn.Conv2d(12, 24, 3, padding=1), torch.nn.ReLU()),
        *(torch.nn.MaxPool2d(4), torch.nn.Flatten(), torch.nn.Linear(24 * 4, 10)),
    )
    state = torch.load(copy.folder / "my_network.pt", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))

    def right() -> np.ndarray:
        with torch.inference_mode():
            return (network(images).argmax(1) == labels).numpy()

    base = right()
    assert base.mean() > 0.9
    assert accuracy.loc[("margin", 0.0), "accuracy"] == pytest.approx(base.mean())
    assert accuracy.loc[("margin", 0.1), "accuracy"] < base.mean() - 0.1
    checks = pd.read_csv(tables / "checks.tsv", sep="\t")
    assert set(checks.loc[checks["attack"] == "margin", "status"]) == {"ok"}

    # one rounded layer, by hand
    weight = network[2].weight.data
    largest = weight.abs().max()
    network[2].weight.data = torch.round(weight / largest) * largest
    found = load_table(tables / "ablations.tsv")
    (row,) = found.query("layer == 'second' and bits == 2 and images == 'clean'").to_dict("records")
    assert row["difference"] == pytest.approx(right().mean() - base.mean())
    assert row["ci_low"] < row["difference"] < row["ci_high"] < 0
    assert "bits 2 in second" in (copy.folder / "results/tutorial/report.html").read_text("utf-8")

    rules = set(re.findall(r"^(\w+) +\d+$", said[-1], flags=re.MULTILINE))
    assert {"attack", "ablate_own", "report"} < rules and "train" not in rules


@pytest.mark.slow
def test_notebook(rerun):
    cells = [text for language, text in blocks("notebook.md") if language == "python"]
    path = {"PYTHONPATH": str(rerun.folder / "workflow")}  # as pip install -e
    said = run(rerun, sys.executable, "-c", "\n".join(cells), **path)
    assert "S_adv" in said and "filter 5" in said


@pytest.mark.slow
def test_the_notebook_finds_where_a_network_breaks_and_mends_it(tmp_path, monkeypatch, capsys):
    book = json.loads((ROOT / "docs/mend.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    names = {}
    monkeypatch.chdir(tmp_path)
    for cell in cells:
        exec(cell, names)
    before, after = (names[name].layers for name in ("given", "after"))
    assert set(before.query("score == 'S_adv' and decided")["class"]) >= {"fragile"}
    assert [*before["layer"].unique()] == ["first", "second", "third", "head"]
    assert "faultmap" in names["given"]._repr_html_() and len(after) == len(before) == len(
        names["both"]
    )
    given, mended = names["mended"].result["worst"]
    assert mended > given + 0.05
    state = torch.load(tmp_path / "mended.pt", weights_only=True)
    assert all(
        torch.equal(value, state[key]) for key, value in names["better"].state_dict().items()
    )
    assert not any(cell.get("outputs") for cell in book["cells"])


def test_the_examples_of_the_library_print_what_they_show(capsys):
    """But for what a training on another processor gives: an image or two of hundreds."""
    number = r"-?\d+\.\d+"
    cells, names = blocks("api.md"), {}
    for (language, text), (kind, shown) in zip(cells, [*cells[1:], ("", "")], strict=True):
        if language == "python":
            exec(text, names)
            made, shown = capsys.readouterr().out, shown * (kind == "text")
            assert re.sub(number, "", made) == re.sub(number, "", shown)
            found, expected = (list(map(float, re.findall(number, t))) for t in (made, shown))
            assert found == pytest.approx(expected, abs=0.02)
    (table,) = re.findall(r"^\| to \| call \|\n(.*?)\n\n", page("api.md"), flags=re.M | re.S)
    told = set(re.findall(r"`(\w+)`", table))
    assert {*faultline.__all__} <= told


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub names them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    text = file.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"<!--.*?-->", "", text)):
        path, _, anchor = link.partition("#")
        if link.startswith(("http:", "https:")):
            continue
        target = (file.parent / path) if path else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_page_is_linked_from_the_first():
    first = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in (ROOT / "docs").glob("*.md") if f"(docs/{p.name}" not in first] == []


def test_the_config_of_the_readme_is_one():
    ((_, text),) = fenced((ROOT / "README.md").read_text(encoding="utf-8"))
    check_schema(yaml.safe_load(text), Config)


def test_the_papers_are_cited_alike():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    methods, first = (
        " ".join((ROOT / name).read_text(encoding="utf-8").split())
        for name in ("docs/methods.md", "README.md")
    )
    assert len(citation["references"]) == 4
    for paper in citation["references"]:
        numbers = [i["value"] for i in paper["identifiers"]]
        numbers += [f"doi:{paper['doi']}"] if "doi" in paper else []
        names = ", ".join(
            " ".join([f"{n[0]}." for n in a["given-names"].split()] + [a["family-names"]])
            for a in paper["authors"]
        )
        for said in (f"{names} ({paper['year']})", paper["title"], *numbers):
            assert said in methods, said
        assert any(number.removeprefix("arXiv:") in first for number in numbers), numbers


@pytest.mark.slow
def test_what_the_workflow_catalogue_reads(fresh):
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text("utf-8"))["usage"]
    assert usage["software-stack-deployment"] == {"conda": True} and usage["report"] is True
    told = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)`", told.split("| section |")[1])) >= set(SCHEMA["properties"])
    found = fresh.announced("-s", "workflow/Snakefile")
    outputs = [
        sorted(p for job in jobs for p in job.get("output", ()))
        for jobs in (found, fresh.announced())
    ]
    assert outputs[0] == outputs[1]


def test_the_oldest_snakemake_is_the_same_everywhere():
    texts = [
        (ROOT / f).read_text("utf-8") for f in ("Snakefile", "pyproject.toml", "docs/limits.md")
    ]
    patterns = (r'min_version\("([\d.]+)"\)', r"snakemake>=([\d.]+)", r"([\d.]+) is the oldest")
    found = {re.search(of, text)[1] for of, text in zip(patterns, texts, strict=True)}
    assert len(found) == 1
