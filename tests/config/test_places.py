"""The files and folders that a config names."""

import pytest
import yaml
from support import OWN_CODE, ROOT, TINY, error_of

from faultline.config.places import check_results
from faultline.studies.config import resolve


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, which is the home folder, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def resolved(key: str, value):
    config = yaml.safe_load(TINY)
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return resolve(config).dump()


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("results", "~/runs", "runs"),
        ("keep", {"folder": "~/kept"}, "kept"),
        ("published", "~/table.tsv", "table.tsv"),
        ("trainings.standard.weights", {"small_conv": "~/w.pt"}, "w.pt"),
        ("trainings.standard.weights", {"small_conv": {"file": "~/w.pt", "key": "ema"}}, "w.pt"),
        ("attacks.mine", {"method": "~/own.py:halve", "eps": 0.1}, "own.py:halve"),
        ("ablations.mine", {"function": "~/own.py:halve"}, "own.py:halve"),
        ("datasets.digits", {"source": "image_folder", "size": 8, "folder": "~/images"}, "images"),
    ],
)
def test_the_home_folder_is_written_out(key, value, found, here):
    (here / "own.py").write_text(OWN_CODE.read_text(encoding="utf-8"), encoding="utf-8")
    (here / "w.pt").touch()
    (here / "table.tsv").write_text("training\teps_0\n", encoding="utf-8")
    for split in ("train", "test"):
        for name in "ab":
            (here / f"images/{split}/{name}").mkdir(parents=True)
    assert f"'{here / found}'" in repr(resolved(key, value)), found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("results", "~nobody-of-this-name/runs"),
        ("published", "~nobody-of-this-name/table.tsv"),
        ("trainings.standard.weights", {"small_conv": "~nobody-of-this-name/w.pt"}),
        ("trainings.standard.weights", {"small_conv": f"{'w' * 300}.pt"}),
        ("trainings.standard.weights", {"small_conv": {"file": f"{'w' * 300}.pt", "key": "a"}}),
        ("datasets.digits", {"source": "npz", "file": f"{'w' * 300}.npz"}),
        ("datasets.digits", {"source": "image_folder", "size": 8, "folder": "f" * 300}),
        ("ablations.mine", {"function": f"{'w' * 300}.py:halve"}),
        ("networks", [f"{'w' * 300}.py:halve"]),
        ("datasets.digits", {"source": "npz", "file": "a\nb.npz"}),
        ("datasets.digits", {"source": "npz", "file": "a\0b.npz"}),
        ("results", "a" * 300),
        ("results", "new/" + "a" * 300),
        ("results", "/".join(["a" * 90] * 60)),
        ("results", "results\n"),
        ("results", "results/\n"),
        ("results", "a:b"),
        ("keep.folder", "a/" + "a" * 300),
        ("keep.folder", "a\0b"),
    ],
)
def test_a_path_that_cannot_be(key, value, here):
    said = error_of(resolved, key, value)
    assert said.startswith(f"config key {key}") and len(said) < 250


WRITTEN = ["logs", "tables", "report.html", "run.html", "config.resolved.yaml", "compare.html"]


@pytest.mark.parametrize(
    "there",
    [
        *(
            [],
            [".gitkeep"],
            [".networks", ".kept"],
            ["runs.html", "runs"],
            ["other/logs"],
            ["digits/data.pt"],
        ),
        *(["fashion-mnist/report.html", "moons/tables"], ["logs", "digits", "notes.txt"]),
        *([name] for name in WRITTEN),
    ],
)
@pytest.mark.parametrize("results", ["results", "results/", "~/results", "below/../results"])
def test_results_of_ours_or_none(there, results, here):
    (here / "below").mkdir()
    for name in there:
        (here / "results" / name).mkdir(parents=True)
    resolved("results", results)


@pytest.mark.parametrize("there", [["thesis.tex"], ["data", "src"], ["train/a", "test/a"]])
@pytest.mark.parametrize("results", ["mine", "mine/", "below/../mine", "~/mine", "~"])
def test_a_folder_of_something_else_is_no_place_for_results(there, results, here):
    (here / "below").mkdir()
    for name in there:
        (here / "mine" / name).mkdir(parents=True)
    said = error_of(resolved, "results", results)
    assert said.startswith("config key results: ") and "name a new folder" in said
    assert ("holds" in said and there[0].split("/")[0] in said) or results == "~"


@pytest.mark.parametrize("key", ["results", "keep.folder"])
@pytest.mark.parametrize(
    "folder",
    [
        *("workflow", "rules", "configs/new", "workflow/faultline/new", ".snakemake", ".git/new"),
        *("docs", "results/../workflow", "results/.snakemake/new", str(ROOT), str(ROOT.parent)),
    ],
)
def test_the_workflow_is_no_place_for_results(key, folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = error_of(resolved, key, folder)
    assert said.startswith(f"config key {key}: ") and "name a new folder" in said


def test_another_workflow_may_keep_its_own_files_there(here):
    (here / "results/reads").mkdir(parents=True)
    assert resolve(yaml.safe_load(TINY), alone=False).results == "results"


@pytest.mark.parametrize("results", ["taken", "taken/below", "taken/below/it"])
def test_a_file_holds_no_results(results, here):
    (here / "taken").touch()
    assert "taken is no folder" in error_of(check_results, results)
    check_results("new/below")


def test_a_link_to_the_workflow_is_seen_through(here):
    (here / "link").symlink_to(ROOT / "rules")
    assert "part of the workflow" in error_of(resolved, "results", "link/new")
