"""A run whose jobs fail in part."""

import os

import pytest

from faultline.base.files import load_arrays

CHECKPOINT = "results/digits/small_conv/standard/seed-0/epoch-2/checkpoint.pt"


@pytest.mark.slow
def test_it_reports_what_there_is_and_what_is_missing_and_why(rerun):
    checkpoint, page = (rerun.folder / path for path in (CHECKPOINT, "results/report.partial.html"))
    whole, made = checkpoint.read_bytes(), checkpoint.stat()

    def put(content):
        """Behind Snakemake's back."""
        checkpoint.write_bytes(content)
        os.utime(checkpoint, ns=(made.st_atime_ns, made.st_mtime_ns))

    put(whole[:3000])
    before = (rerun.folder / "results/report.html").read_bytes()
    rerun.edit("config.yaml", "thresholds: 3", "thresholds: 4")
    done = rerun.snakemake("--cores", "2")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "3 of 24 jobs failed:" in done.stdout and "report: results/report.partial" in done.stdout
    said = page.read_text(encoding="utf-8")
    assert "This run failed in part" in said and f"{CHECKPOINT}: 3000 bytes" in said
    assert "1 ablate_global, 2 ablate_layer" in said and "1 score" in said
    assert "Missing:" not in said  # each study has something to show
    assert (rerun.folder / "results/report.html").read_bytes() == before

    # What was made of the old sweeps is still there; it must not pass for that of the new ones.
    put(whole)
    rerun.run("--cores", "2")
    assert not page.exists()
    (facts,) = (checkpoint.parent / "layers/conv1").glob("synaptic-filtering.npz")
    arrays = load_arrays(facts)
    assert (arrays["variant:filter"] == "pulse").sum() == 4
    assert (rerun.folder / "results/report.html").read_bytes() != before
