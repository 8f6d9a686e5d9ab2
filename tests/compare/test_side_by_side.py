"""Finished runs compared: two side by side, and all below a folder."""

import html.parser
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from run_tables import make_config, make_tables
from support import ROOT, error_of

from faultline.ablation.facts import pack
from faultline.base.columns import PLACE
from faultline.base.files import save_arrays, save_table, save_tensors, save_text
from faultline.base.statistics import paired_difference_interval
from faultline.command.__main__ import main
from faultline.compare import differences, listing, side_by_side
from faultline.compare.finished import COSTS, finished, runs_below
from faultline.report.render import load_look
from faultline.studies.synaptic.section import verdict

LOOK = load_look(ROOT / "workflow/faultline/report/report.html.j2")
PAIR = {
    "attacks": {name: {"method": name, "eps": 0.1} for name in ("fgsm", "pgd")},
    "ablation": {"attacks": ["pgd"]},
}
N = 40
# what a job took, as it was written before work was kept, and since
USED = "rule\thost\tdevice\tthreads\tstart\tend\tseconds\tcpu_seconds\tpeak_mb\tgpu_mb\n"


def write_run(folder, *, hits, images=0, together=False, tables=None, **changes):
    """A finished run of small_conv on digits at epoch 3.

    hits: seed -> attack -> eps -> bool [n]; images: what tells its test images from others.
    """
    config = make_config(**PAIR | changes).dump()
    versions = "# faultline, resolved config; python 3.11.7, torch 2.13.0\n"
    save_text(versions + yaml.safe_dump(config), folder / "config.resolved.yaml")
    rows = []
    for seed, attacks in hits.items():
        place = {"dataset": "digits", "network": "small_conv", "training": "standard"}
        place |= {"seed": seed, "epoch": 3}
        below = folder / f"digits/small_conv/standard/seed-{seed}/epoch-3"
        whole = dict(attacks)
        if len(attacks) > 1:
            whole["worst case"] = {
                eps: np.min([of[eps] for of in attacks.values()], axis=0) for eps in (0.0, 0.1)
            }
        for attack, of in whole.items():
            over = ", ".join(attacks) if attack == "worst case" else ""
            rows += [
                place
                | {"attack": attack, "eps": eps, "over": over}
                | {"correct": vector.sum(), "n": len(vector), "accuracy": vector.mean()}
                for eps, vector in of.items()
            ]
            if not over and not together:
                packed = pack({f"{eps:g}": vector for eps, vector in of.items()})
                save_arrays(packed, below / f"attacks/{attack}/correct.npz")
        if together:
            packed = {f"{a}/{eps:g}": v for a, of in attacks.items() for eps, v in of.items()}
            save_arrays(pack(packed), below / "robustness/correct.npz")
        log = folder / f"logs/digits/small_conv/standard/seed-{seed}/epoch-3/train.used.tsv"
        end = f"2026-01-0{seed + 1}T10:20:30.123+00:00"
        text = f"{USED}train\tvm\tcpu\t1\t{end}\t{end}\t4.00\t2.50\t{100 + seed}\t\n"
        if seed and not together:
            text = text.replace("gpu_mb\n", "gpu_mb\tfound\n").replace("\t\n", "\t\tTrue\n")
        save_text(text, log)
    data = {"test_images": torch.full((N, 1, 2, 2), images), "test_labels": torch.arange(N)}
    save_tensors(data, folder / "digits/data.pt")
    made = {"accuracy": pd.DataFrame(rows)} | (tables or {})
    for name, table in made.items():
        save_table(table, folder / f"tables/{name}.tsv")
    return finished(folder)


def make_hits(seed, shares, attacks=("fgsm", "pgd"), n=N):
    rng = np.random.default_rng(seed)
    clean = [rng.uniform(size=n) < 0.9 for _ in (0, 1)]
    return {
        s: {a: {0.0: clean[s], 0.1: rng.uniform(size=n) < shares[s]} for a in attacks}
        for s in (0, 1)
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs on the same images, with random tables of classes."""
    folder, whole = tmp_path_factory.mktemp("runs"), make_tables()
    tables = {name: whole[name] for name in ("layers", "filters", "comparison")}
    first = write_run(folder / "a", hits=make_hits(0, (0.4, 0.6)), tables=tables)
    second = write_run(
        folder / "b",
        hits=make_hits(1, (0.4, 0.6)),
        together=True,
        tables={k: table.replace({"fragile": "robust"}) for k, table in tables.items()},
        classes={"tau": {"layers": {"S_adv": 0.2}}},
    )
    return first, second


def test_config_differences_are_what_differs_and_nothing_else(pair):
    first, second = pair
    table = differences.config_differences(first, second)
    assert table.to_dict("records") == [
        {"key": "classes.tau.layers.S_adv", "first": "0.1", "second": "0.2"}
    ]
    changed = first.config | {"attacks": {"pgd": first.config["attacks"]["pgd"]}, "results": "x"}
    changed |= {"seeds": [0], "retraining": {**first.config["retraining"], "epochs": None}}
    other = type(first)(first.folder, changed, {"torch": "2.14.0"})
    rows = differences.config_differences(other, first).set_index("key")
    assert list(rows.index) == [
        *("attacks.fgsm", "retraining.epochs", "seeds"),
        *("version of python", "version of torch"),
    ]
    assert rows.loc["attacks.fgsm", "first"] == "not set"
    assert yaml.safe_load(rows.loc["attacks.fgsm", "second"]) == first.config["attacks"]["fgsm"]
    assert list(rows.loc["seeds"]) == ["[0]", "[0, 1]"]
    assert rows.loc["retraining.epochs", "first"] == "null"


def test_the_same_images_are_compared_one_by_one(pair):
    first, second = pair
    table = differences.accuracy_differences(first, second)
    assert table["paired"].all() and table["images"].iloc[0] == "clean"
    assert set(table["images"]) == {
        "clean",
        *(f"{name}, eps 0.1" for name in ("fgsm", "pgd", "worst case")),
    }
    hits = [make_hits(index, (0.4, 0.6)) for index in (0, 1)]
    for images, of in (("pgd, eps 0.1", ["pgd"]), ("worst case, eps 0.1", ["fgsm", "pgd"])):
        rows = table[(table["images"] == images) & (table["level"] == "seed")].set_index("seed")
        for seed in (0, 1):
            one, other = (np.min([h[seed][a][0.1] for a in of], axis=0) for h in hits)
            gained, lost = np.sum(other & ~one), np.sum(one & ~other)
            expected = paired_difference_interval(gained, lost, N, confidence=0.95)
            row = rows.loc[seed]
            assert (row["difference"], row["ci_low"], row["ci_high"]) == pytest.approx(expected)
            assert row["changed"] == gained + lost
        whole = table[(table["images"] == images) & (table["level"] == "all seeds")].iloc[0]
        assert whole["changed"] == rows["changed"].sum() and whole["seeds"] == 2
    side = differences.accuracies(first, second).set_index([*PLACE, "images"])
    row = side.loc[("digits", "small_conv", "standard", 0, 3, "pgd, eps 0.1")]
    assert row["correct_second"] == hits[1][0]["pgd"][0.1].sum() and row["n_first"] == N


@pytest.mark.parametrize("why", ["other images", "no data", "no correctness", "stale"])
def test_what_cannot_be_paired_is_not(pair, tmp_path, why):
    first, _ = pair
    hits = make_hits(5, (0.4, 0.6), n=30 if why == "other images" else N)
    second = write_run(tmp_path / "c", hits=hits, images=int(why == "other images"))
    files = [*second.folder.rglob("correct.npz")]
    if why == "no data":
        (second.folder / "digits/data.pt").unlink()
    elif why != "other images":
        for file in files:
            file.unlink()
            if why == "stale":  # it was computed anew, and the tables were not
                save_arrays(pack({"0": np.ones(N, bool), "0.1": np.ones(N, bool)}), file)
    table = differences.accuracy_differences(first, second)
    assert len(table) == 12 and not table["paired"].any() and "changed" in table
    row = table.query("images == 'pgd, eps 0.1' and seed == 1").iloc[0]
    one = make_hits(0, (0.4, 0.6))[1]["pgd"][0.1]
    assert row["difference"] == pytest.approx(hits[1]["pgd"][0.1].mean() - one.mean())
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    expected = {
        "other images": "different test images",
        "no data": "data.pt is not there",
    }.get(why, "(correct.npz): these are unpaired")
    assert expected in " ".join(page_of(first, second).said)


def test_seeds_and_attacks_of_one_run_alone_are_listed(pair, tmp_path):
    first, _ = pair
    hits = {1: make_hits(3, (0.4, 0.6), attacks=("pgd",))[1]}
    attacks = {"pgd": {"method": "pgd", "eps": 0.2, "eps_grid": [0, 0.1, 0.2]}}
    hits[1]["pgd"][0.2] = hits[1]["pgd"][0.1] & False
    second = write_run(tmp_path / "c", hits=hits, attacks=attacks, seeds=[1])
    table = differences.accuracy_differences(first, second)
    assert set(table["images"]) == {"clean", "pgd, eps 0.1"}  # at 0.2 one run has nothing
    assert set(table["seeds"]) == {1} and table["paired"].all()
    alone = differences.only_in_one(first, second)
    assert alone.to_numpy().tolist() == [
        ["seed", "0", "first"],
        ["attack", "fgsm", "first"],
        ["attack", "worst case", "first"],
    ]
    accuracy = second.table("accuracy")
    later = write_run(tmp_path / "d", hits=hits, attacks=attacks, seeds=[1])
    table = pd.concat([accuracy, accuracy.assign(seed=2), accuracy.assign(epoch=4)])
    save_table(table, later.folder / "tables/accuracy.tsv")
    more = pd.concat([table, accuracy.assign(seed=2, epoch=4)])
    save_table(more, second.folder / "tables/accuracy.tsv")
    assert differences.only_in_one(finished(second.folder), later).to_numpy().tolist() == [
        ["checkpoint", "digits/small_conv/standard/seed-2/epoch-4", "first"]
    ]
    said = " ".join(page_of(first, second).said)
    assert "Of the same name, but set differently: attacks.pgd.eps." in said
    assert "a alone has seed 0, attack fgsm, worst case" in said


def test_runs_without_common_parts_still_differ_in_their_configs(pair, tmp_path):
    first, _ = pair
    second = write_run(tmp_path / "c", hits={7: make_hits(3, (0.4, 0.6))[1]}, seeds=[7])
    assert not len(differences.accuracy_differences(first, second))
    said = " ".join(page_of(first, second).said)
    assert "1 key differs: seeds" in said and "There is nothing to compare" in said
    assert "No layer and no filter was classified in both runs" in said


def test_classes_that_changed(pair):
    first, second = pair
    for unit in ("layers", "filters"):
        found = differences.classes(first, second, unit)
        assert len(found) == len(first.table(unit)) > 0
        counts, changed = differences.class_counts(found), differences.changed(found)
        off = counts[counts["first"] != counts["second"]]
        assert set(off["first"]) == {"fragile"} and set(off["second"]) == {"robust"}
        assert counts["count"].sum() == len(found) and off["count"].sum() == len(changed)
        was = first.table(unit).query("`class` == 'fragile'")
        assert len(changed) == len(was) and off["decided"].sum() == was["decided"].sum()
        decided = changed["decided_first"].astype(int) + changed["decided_second"].astype(int)
        assert decided.is_monotonic_decreasing


def test_costs(pair, tmp_path):
    table = differences.costs(*pair).set_index("rule")
    assert list(table.index) == ["train", "all"]
    for which in ("first", "second"):
        row = [table.loc["all", f"{column}_{which}"] for column in COSTS]
        assert row == [2, int(which == "first"), 5.0, 8.0, 0.0, 101.0]
    assert pair[0].ended() == "2026-01-02 10:20"
    bare = finished(shutil.copytree(pair[0].folder, tmp_path / "a"))
    shutil.rmtree(bare.folder / "logs")
    assert differences.costs(bare, pair[1])["jobs_first"].isna().all()
    assert (
        "costs"
        not in page_of(bare, finished(shutil.copytree(bare.folder, tmp_path / "b"))).sections
    )


# Pages


class Page(html.parser.HTMLParser):
    """Sections and words of a page; every element must be closed in order."""

    VOID = ("meta", "use", "path", "rect", "br")

    def __init__(self, text):
        super().__init__()
        self.sections, self.figures, self.open, self.said = [], 0, [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.sections += [v for k, v in attributes if k == "id" and tag == "section"]
        self.figures += tag == "figure"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data.strip())


def page_of(first, second) -> Page:
    tables = side_by_side.compared_tables(first, second)
    text = side_by_side.compared_page(
        first, second, tables, folder="tables", versions={"python": "3.11"}, **LOOK
    )
    return Page(text)


def test_the_page_of_two_runs(pair):
    page = page_of(*pair)
    assert page.sections == ["glance", "accuracy", "classes", "config", "costs", "run"]
    assert page.figures == 4
    said = " ".join(page.said)
    assert "under the worst attack" in said and "worst case, eps 0.1" in said
    assert "faultline: a and b" in said and "Paired: the test images are the same" in said
    (words,) = [text for text in page.said if "paired image by image" in text]
    assert words.startswith("At epoch 3 (n = 40 test images, 2 seeds, paired image by image) ")
    assert "two seeds cannot tell this on clean images" in words  # n = 40
    for images in ("fgsm, eps 0.1", "pgd, eps 0.1", "worst case, eps 0.1"):
        assert f"two seeds cannot tell this under {images}" in words
    assert "5 and 5 CPU seconds (1.00 times). The work of 1 and 0 jobs was kept" in said
    assert "nan" not in said.lower().split()
    terminal = side_by_side.in_words(*pair, side_by_side.compared_tables(*pair))
    assert terminal.startswith("Config: 1 key differs: classes.tau.layers.S_adv (0.1 to 0.2).\n")


def test_a_run_and_itself(pair, tmp_path):
    hits = make_hits(0, (0.4, 0.6))
    second = write_run(tmp_path / "again", hits=hits)
    first = write_run(tmp_path / "once", hits=hits)
    page = page_of(first, second)
    said, sets = " ".join(page.said), "on clean images, under fgsm, eps 0.1, under pgd, eps 0.1"
    assert "both runs have the same accuracy, on clean images" in said
    assert f"Not drawn, as both runs have the same accuracy: {sets}" in said and not page.figures
    assert "The configs are the same" in said


def test_where_no_class_changed_a_line_says_so_and_counts_are_those_of_the_report(pair, tmp_path):
    first, changed = pair
    again = finished(shutil.copytree(first.folder, tmp_path / "again"))
    page = page_of(first, again)
    said, layers = " ".join(page.said), first.table("layers")
    assert "No class changed by S_" in said and not page.figures
    judged = layers[(layers["scope"] == "local") & (layers["filter"] == "combined")]
    assert f"None of {len(judged):,} (each score, seed and checkpoint) changed." in said
    config = make_config(**PAIR)
    cells = [verdict({"layers": run.table("layers")}, config) for run in (first, changed)]
    counts = [listing.fragile(run.table("layers"), run.config) for run in (first, changed)]
    for cell, of in zip(cells, counts, strict=True):
        assert cell["fragile layers"].text == str(of["fragile"])
        assert cell["fragile layers"].small.startswith(f"of {of['layers']} by {of['score']}")
    assert f"{counts[0]['fragile']} of {counts[0]['layers']} to 0 of" in " ".join(
        page_of(first, changed).said
    )


def test_all_runs_newest_first(pair, tmp_path):
    write_run(tmp_path / "old", hits={0: make_hits(0, (0.4, 0.6))[0]}, seeds=[0])
    tables = {k: pair[0].table(k) for k in ("layers", "comparison")}
    new = write_run(tmp_path / "new", hits=make_hits(1, (0.5, 0.7)), tables=tables)
    bare = tmp_path / "bare"
    save_text(yaml.safe_dump(new.config), bare / "config.resolved.yaml")
    os.utime(bare / "config.resolved.yaml", (0, 0))
    (tmp_path / "none").mkdir()
    runs = runs_below(tmp_path)
    assert [run.folder.name for run in runs] == ["new", "old", "bare"]
    assert [run.folder.name for run in runs_below(bare)] == ["bare"]
    found = listing.headlines(runs)
    assert list(found["run"]) == [str(tmp_path / name) for name in ("new", "old", "bare")]
    row, hits = found.iloc[0], make_hits(1, (0.5, 0.7))
    assert row["clean"] == pytest.approx(np.mean([hits[s]["pgd"][0.0].mean() for s in (0, 1)]))
    worst = [np.mean(hits[s]["pgd"][0.1] & hits[s]["fgsm"][0.1]) for s in (0, 1)]
    assert row["worst"] == pytest.approx(np.mean(worst))
    assert row["worst_attack"] == "worst case, eps 0.1" and row["seeds"] == 2
    layers = (
        pair[0]
        .table("layers")
        .query("epoch == 3 and scope == 'local' and filter == 'combined' and score == 'S_adv'")
    )
    fragile = layers.groupby("layer").apply(
        lambda rows: (rows["decided"] & (rows["class"] == "fragile")).all()
    )
    assert (row["fragile"], row["layers"]) == (fragile.sum(), 4)
    said = "clean: two seeds cannot tell this; pgd: two seeds cannot tell this"
    assert row["retraining"] == said
    text = listing.in_text(listing.listed(found)).splitlines()
    assert len(text) == 4 and text[1].startswith(str(tmp_path / "new"))
    made = listing.listed_page(runs, found, folder=tmp_path / "x", versions={}, **LOOK)
    page = Page(made)
    assert page.sections == ["glance", "trainings", "run"]
    assert "3 finished runs" in " ".join(page.said)
    assert 'href="new/report.html"' not in made  # it is gone
    save_text("", tmp_path / "new/report.html")
    made = listing.listed_page(runs, found, folder=tmp_path / "y z/x", versions={}, **LOOK)
    assert 'href="../new/report.html"' in made


def test_folders_that_are_no_runs(pair, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no such folder" in error_of(finished, tmp_path / "missing")
    assert "holds no config.resolved.yaml" in error_of(finished, tmp_path / "empty")
    assert "no finished run in it" in error_of(runs_below, tmp_path / "empty")
    assert "no such folder" in error_of(runs_below, tmp_path / "missing")
    folder = pair[0].folder
    twice = [folder, folder / ".." / folder.name]
    assert "is given twice" in error_of(side_by_side.two_runs, twice)
    for text in ("a: [", "just text", "a: 1"):
        save_text(text, tmp_path / "odd/config.resolved.yaml")
        assert "no resolved config" in error_of(finished, tmp_path / "odd")


def test_names_are_short(pair, tmp_path):
    made = {}
    for name in ("x/results", "y/results", "x/results/more"):
        save_text(yaml.safe_dump(pair[0].config), tmp_path / name / "config.resolved.yaml")
        made[name] = finished(tmp_path / name)
    names = side_by_side.names_of
    assert names(made["x/results"], made["y/results"]) == ("x", "y")
    assert names(made["x/results"], made["x/results/more"]) == ("results", "results/more")
    assert names(made["x/results/more"], made["y/results"]) == ("x/results/more", "y/results")


EVIL = "=HYPERLINK(1)\x1b[2J\nerror: x"


def test_names_in_copied_results_neither_move_a_terminal_nor_compute_in_a_spreadsheet(
    pair, tmp_path, capsys
):
    evil = write_run(tmp_path / "runs/e\x1b[2Jvil", hits=make_hits(3, (0.4, 0.6)))
    attacks = {EVIL if name == "pgd" else name: of for name, of in evil.config["attacks"].items()}
    config = evil.config | {"attacks": attacks, EVIL: EVIL}
    save_text(yaml.safe_dump(config), evil.folder / "config.resolved.yaml")
    save_table(evil.table("accuracy").replace("pgd", EVIL), evil.folder / "tables/accuracy.tsv")
    two = [str(pair[0].folder), str(evil.folder)]
    main(["compare", *two, "--out", str(tmp_path / "two.html")])
    main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "all.html")])
    said = capsys.readouterr().out
    assert r"\x1b[2J\nerror: x" in said and "\x1b" not in said and "\nerror" not in said
    tables = [*tmp_path.glob("two/*.tsv"), *tmp_path.glob("all/*.tsv")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in tables}
    assert r"'=HYPERLINK(1)\x1b[2J\nerror: x" in texts["config.tsv"] + texts["only_in_one.tsv"]
    for text in texts.values():
        assert "\x1b" not in text and not re.search(r'(^|\t)"?=', text, re.MULTILINE)


def test_a_copied_config_of_aliases_is_refused_at_once(tmp_path):
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '1'] * 10)}]\n" for n in range(30)]
    save_text("".join(lines), tmp_path / "config.resolved.yaml")
    assert "no resolved config" in error_of(finished, tmp_path)
