"""Two files of right and wrong, of whatever was evaluated."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control
from support import error_of

from faultline.ablation.facts import pack
from faultline.base.files import load_table, save_arrays, save_text
from faultline.base.statistics import mcnemar_power, paired_difference_interval
from faultline.command.__main__ import main
from faultline.compare.samples import compared_samples, load_samples, said_of

# of 220 samples, right in both, in the first alone, in the second alone, in neither
RIGHT = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [131, 9, 25, 55], axis=0).astype(bool)
CLOCK = "2026-01-02T03-04-05.678901"


def harness(folder, task, right, *, metrics=("exact_match",), filters=("none",), asked="h"):
    """A file as lm-evaluation-harness writes it."""
    lines = [
        {"doc_id": i, "doc": {"question": "?"}, "target": "1", "resps": [["1"]], "filter": name}
        | {"metrics": [*metrics], "doc_hash": f"{asked}{i}", **dict.fromkeys(metrics, float(hit))}
        for i, hit in enumerate(right)
        for name in filters
    ]
    path = folder / f"samples_{task}_{CLOCK}.jsonl"
    save_text("".join(f"{json.dumps(line)}\n" for line in lines), path)
    return path


def csv(path, right, ids=None, head="id,correct"):
    rows = zip(range(len(right)) if ids is None else ids, right, strict=True)
    save_text("\n".join([head, *(f"{one},{int(hit)}" for one, hit in rows)]), path)
    return path


def compared(first, second, **settings):
    return compared_samples(
        load_samples(first, **settings), load_samples(second, **settings), confidence=0.95
    )


def test_one_task_by_hand(tmp_path):
    paths = [harness(tmp_path / name, "gsm8k", RIGHT[:, k]) for k, name in enumerate("ab")]
    table = compared(*paths)
    (row,) = table.to_dict("records")
    assert (row["task"], row["metric"], row["n"], row["left_out"]) == (
        "gsm8k",
        "exact_match",
        220,
        0,
    )
    assert (row["only_first"], row["only_second"]) == (9, 25)
    assert (row["first"], row["second"]) == (140 / 220, pytest.approx(156 / 220))
    assert row["difference"] == pytest.approx(16 / 220)
    _, *ends = paired_difference_interval(25, 9, 220, confidence=0.95)
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([*map(float, ends)])
    assert row["p_value"] == row["q_value"] == pytest.approx(binomtest(9, 34).pvalue)
    # so many would have told it, and no fewer
    told = mcnemar_power(row["detectable"] + np.array([0, -0.001]), 34, 220, level=0.05)
    assert told[0] == pytest.approx(0.8, abs=0.001) and told[1] < 0.8
    assert said_of(row, ("a", "b"), level=0.05) == "b is better"
    assert "would have been told" in said_of(row | {"q_value": 0.06}, ("a", "b"), level=0.05)


def test_samples_are_paired_by_id_whatever_their_order_and_form(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for k, name in enumerate("ab"):
        order = rng.permutation(220)
        ids = [*order.tolist(), *(1000 * (k + 1) + i for i in range(k + 1))]
        right = [*RIGHT[order, k].tolist(), *[True] * (k + 1)]
        files.append(csv(tmp_path / f"{name}.csv", right, ids))
        save_arrays(pack({"0": RIGHT[:, k]}), tmp_path / f"{name}.npz")
        lines = [{"id": i, "passed": str(bool(hit))} for i, hit in enumerate(RIGHT[:, k])]
        save_text("\n".join(map(json.dumps, lines)), tmp_path / f"{name}.jsonl")
    numbers = ["n", "only_first", "only_second", "p_value", "detectable"]
    tables = [
        compared(*files),
        compared(tmp_path / "a.npz", tmp_path / "b.npz"),
        compared(tmp_path / "a.jsonl", tmp_path / "b.jsonl"),
    ]
    for table in tables:
        assert table[numbers].to_numpy().tolist() == tables[0][numbers].to_numpy().tolist()
    assert list(tables[0]["left_out"]) == [3]


def test_tasks_are_corrected_for_together(tmp_path):
    for k, name in enumerate("ab"):
        harness(tmp_path / name, "x", RIGHT[:, k], filters=("strict", "none"))
        harness(tmp_path / name, "y", RIGHT[120:160, k], metrics=("f1", "acc"))
    table = compared(tmp_path / "a", tmp_path / "b")
    assert list(table["task"]) == ["x, strict", "x", "y"]
    assert list(table["metric"]) == ["exact_match", "exact_match", "f1"]
    assert list(table["q_value"]) == pytest.approx([*false_discovery_control(table["p_value"])])
    assert (table["q_value"] > table["p_value"]).any()


def test_the_command_prints_and_saves_what_it_found(tmp_path, capsys):
    paths = [str(csv(tmp_path / f"{name}.csv", RIGHT[:, k])) for k, name in enumerate("ab")]
    main(["compare-samples", *paths, "--out", str(tmp_path / "t.tsv")])
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["task", "metric", "n", "a", "b"]
    assert "63.6 %" in row and "+7.3" in row and row.endswith("b is better")
    assert load_table(tmp_path / "t.tsv")["only_second"].tolist() == [25]


@pytest.mark.parametrize(
    ("first", "second", "settings", "said"),
    [
        ("id,correct\n1,0.5\n", None, {}, "nothing in it is right (1, true) or wrong (0, false)"),
        ("id,correct\n1,0.5\n", None, {"metric": "correct"}, "correct of id 1 is 0.5; expected 1"),
        ("id,correct\n1,1\n1,0\n", None, {}, "id 1 stands there twice"),
        ("name,correct\n1,1\n", None, {}, "no id, such as doc_id"),
        ("name,correct\n1,1\n", None, {"identity": "key"}, "no key in every sample"),
        ("id,correct\n1,1\n", "id,correct\n2,1\n", {}, "all: no sample is in both"),
        ("id,correct\n1,1\n", "id,passed\n1,1\n", {}, "all: no metric is in both"),
        ("id,task,correct\n1,x,1\n", "id,task,correct\n1,y,1\n", {}, "no task is in both: x and y"),
        ("id,doc_hash,correct\n1,u,1\n", "id,doc_hash,correct\n1,v,1\n", {}, "1 is another quest"),
    ],
)
def test_what_cannot_be_paired_is_told_in_one_line(tmp_path, first, second, settings, said):
    for name, text in (("a", first), ("b", second or first)):
        save_text(text, tmp_path / f"{name}.csv")
    assert said in error_of(compared, tmp_path / "a.csv", tmp_path / "b.csv", **settings)


def test_files_that_are_none(tmp_path):
    save_text("{\n", tmp_path / "a.jsonl")
    save_text("[1]\n", tmp_path / "b.jsonl")
    (tmp_path / "empty").mkdir()
    assert "cannot be read as .jsonl" in error_of(load_samples, tmp_path / "a.jsonl")
    assert "line 1 is no object" in error_of(load_samples, tmp_path / "b.jsonl")
    assert "no such file" in error_of(load_samples, tmp_path / "c.csv")
    assert "expected samples as" in error_of(load_samples, tmp_path / "a.txt")
    assert "no samples_TASK_DATE.jsonl" in error_of(load_samples, tmp_path / "empty")
    harness(tmp_path / "two/x", "t", [True])
    harness(tmp_path / "two/y", "t", [True])
    assert "has the task t twice" in error_of(load_samples, tmp_path / "two")
