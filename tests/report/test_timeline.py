from pathlib import Path

import pandas as pd
import pytest
from support import ROOT

from faultline.report.render import load_look
from faultline.report.timeline import about, costs, lanes, taken, timeline

ROW = {"host": "here", "device": "cpu", "threads": 1, "peak_mb": 300, "gpu_mb": ""}


def at(second: float) -> str:
    return f"2026-01-02T03:04:{second:06.3f}+00:00"


@pytest.fixture
def results(tmp_path) -> Path:
    """Results of four jobs, (rule, folder below logs/, start, end, CPU seconds, device)."""
    for rule, of, start, end, cpu, device in [
        ("train", "digits/net", 0.0, 10.0, 9.0, "cuda"),
        ("attack", "digits/net", 2.0, 4.0, 2.0, "cpu"),
        ("attack", "digits/<b>net", 4.0, 6.0, 1.0, "cpu"),
        ("report", "", 12.0, 13.0, 1.0, "cpu"),
    ]:
        row = ROW | {"rule": rule, "start": at(start), "end": at(end), "seconds": end - start}
        row |= {"cpu_seconds": cpu, "device": device}
        path = tmp_path / "logs" / of / f"{rule}.used.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row]).to_csv(path, sep="\t", index=False)
    return tmp_path


def test_what_jobs_took_is_found_in_the_order_of_their_starts(results):
    jobs = taken(results)
    assert jobs["rule"].tolist() == ["train", "attack", "attack", "report"]
    assert jobs["of"].tolist() == ["digits net", "digits net", "digits <b>net", ""]
    assert not len(taken(results / "nowhere"))


def test_a_job_takes_the_first_lane_that_is_free(results):
    assert lanes(taken(results)) == [0, 1, 1, 0]


def test_costs_by_rule(results):
    found = costs(taken(results)).set_index("rule")
    assert found.index.tolist() == ["train", "attack", "report"]
    assert found["cpu_seconds"].tolist() == [9.0, 3.0, 1.0]
    assert found["jobs"].tolist() == [1, 2, 1]
    assert found["gpu_seconds"].tolist() == [10.0, 0.0, 0.0]
    assert found["share"].sum() == pytest.approx(1)


@pytest.mark.parametrize("since", [at(3), "2027-01-01"])
def test_the_page_tells_of_this_run_and_of_all(results, since):
    page = timeline(
        taken(results),
        since=pd.Timestamp(since).timestamp(),
        facts=about(ROOT, command=["/bin/snakemake", "--cores", "2 <i>"], began=0.0),
        config={"seeds": [0]},
        versions={"python": "3"},
        **load_look(ROOT / "workflow/faultline/report/report.html.j2"),
    )
    assert "4 jobs took 13 CPU seconds" in page and "1970-01-01 00:00:00 UTC" in page
    assert "snakemake --cores" in page and "<i>" not in page and "<b>net" not in page
    assert ("from its first job to its last" in page) == (since == at(3))
