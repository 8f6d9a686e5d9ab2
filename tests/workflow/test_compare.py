"""faultline compare, as its users run it."""

import re
import shutil

import pytest

from faultline.base.files import load_table
from faultline.command.__main__ import main


@pytest.mark.slow
def test_two_runs_of_which_one_key_differs(rerun, faster):
    shutil.copytree(faster.folder / "results", rerun.folder / "results/faster")
    done = rerun.faultline("compare", "results", "results/faster")
    assert done.returncode == 0, done.stdout
    assert "1 key differs: trainings.standard.lr" in done.stdout
    assert "results/compare.html" in done.stdout
    results = rerun.folder / "results"
    tables = {path.stem: load_table(path) for path in (results / "compare").iterdir()}
    (row,) = tables["config"].to_dict("records")
    assert (row["first"], row["second"]) == (0.001, 0.003)
    assert tables["differences"]["paired"].all() and set(tables["differences"]["n"]) == {60}
    assert len(tables["differences"]) == 2 * 2 * 4  # epochs, levels, image sets
    for which, folder in (("first", results), ("second", results / "faster")):
        accuracy = load_table(folder / "tables/accuracy.tsv").query(
            "attack == 'pgd' and eps == 0.1"
        )
        side = tables["accuracy"].query("images == 'pgd, eps 0.1'")
        assert list(side[f"accuracy_{which}"]) == list(accuracy["accuracy"])
        layers = load_table(folder / "tables/layers.tsv")
        of = tables["classes"].query("unit == 'layers'")
        shown = layers.query("scope == 'local' and filter == 'combined'")
        assert of.groupby(which)["count"].sum().to_dict() == shown["class"].value_counts().to_dict()
    html = (results / "compare.html").read_text(encoding="utf-8")
    assert html.rstrip().endswith("</html>") and html.count("<figure id=") == 4
    assert (tables["costs"]["jobs_first"] == tables["costs"]["jobs_second"]).all()

    done = rerun.faultline("compare", "results", "--out", "all.html")
    assert done.returncode == 0, done.stdout
    assert list(load_table(rerun.folder / "all/runs.tsv")["run"]) == ["results/faster", "results"]


def test_all_runs_need_neither_torch_nor_snakemake(finished, tmp_path):
    for module in ("torch", "snakemake"):
        (tmp_path / "stub" / module).mkdir(parents=True)
        (tmp_path / "stub" / module / "__init__.py").write_text("raise ImportError")
    page = tmp_path / "runs.html"
    stub = {"PYTHONPATH": str(tmp_path / "stub")}
    done = finished.faultline("compare", "results", "--out", str(page), **stub)
    assert done.returncode == 0 and page.exists(), done.stdout
    head, row, *_ = done.stdout.splitlines()
    assert head.split()[0] == "run" and row.split()[0] == "results" and "small_conv" in row


def test_a_run_with_a_table_cut_short_is_not_compared(rerun):
    table = rerun.folder / "results/tables/accuracy.tsv"
    table.write_bytes(table.read_bytes()[:-10])
    done = rerun.faultline("compare", "results")
    assert done.returncode == 1 and done.stdout.count("\n") == 1
    assert done.stdout.startswith("error: results/tables/accuracy.tsv: "), done.stdout
    assert done.stdout.endswith("; delete it and run again\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["results", "results/../results"], "results: is given twice"),
        (["results", "nowhere"], "nowhere: no such folder"),
        (["results", "workflow"], "workflow: no finished run, as it holds no config.resolved.yaml"),
        (["workflow"], "workflow: no finished run in it"),
        (["results"] * 3, "3 folders are given; name two runs, or one folder of runs"),
        (
            ["results", "--out", "page"],
            "--out page: expected the name of a page, such as page.html",
        ),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line(finished, given, said, monkeypatch):
    monkeypatch.chdir(finished.folder)
    with pytest.raises(SystemExit, match=f"^error: {re.escape(said)}.*$"):
        main(["compare", *given])
