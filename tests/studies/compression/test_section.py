"""The report's section on fewer bits and weights, and what it advises."""

import pandas as pd
import pytest
from map_tables import RUN, make_config

from faultline.studies.compression.names import ALL, STAND
from faultline.studies.compression.section import advice, findings, section

NAMES = ("form", "compressed", "bits_per_weight", "difference", "verdict")


def tables(*, written=True) -> dict:
    place = [RUN | {"seed": seed, "epoch": 3} for seed in (0, 1)]
    ends = {"ci_low": -0.01, "ci_high": 0.01, "family_low": -0.02, "family_high": 0.015}
    alone = pd.DataFrame(
        [
            at | {"layer": layer, "form": form, "weights": 90, "difference": cost, "n": 300}
            for at in place
            for layer in ("conv1", "fc")
            for form, cost in (("int8", 0.0), ("prune 0.5", -0.03))
        ]
    ).assign(verdict="safe", **ends)
    alone.loc[alone["form"] != "int8", "verdict"] = ["costly", "safe", "costly", "undecided"]
    rows = [("int8", ALL, 8.0, 0.0, "safe"), ("prune 0.5", ALL, 16.0, -0.05, "costly")]
    rows += [("prune 0.5", STAND, 20.0, -0.002, "undecided")]
    together = pd.DataFrame(
        [
            at
            | dict(
                zip(
                    NAMES,
                    row,
                    strict=True,
                )
            )
            for at in place
            for row in rows
        ]
    ).assign(layers=2, of=2, accuracy=0.9, n=500, written=False, **ends)
    together.loc[0, "written"] = written
    return {"compression": alone, "compressed": together}


def test_the_section_shows_whole_networks_first():
    made = section(tables(), make_config())
    (block,) = made.blocks
    first, second = (str(figure.svg) for figure in block.figures)
    assert "prune 0.5, layers that stand it (20 bits)" in first and "conv1" in second
    assert "n = 500 test images, 2 seeds" in block.figures[0].caption
    assert "n = 300 validation images" in block.figures[1].caption
    assert [table.title for table in block.tables] == ["Together", "Each layer alone"]
    assert "2 points" in made.intro
    assert not section({"compression": pd.DataFrame()}, make_config()).blocks


def test_what_is_found_counts_what_every_seed_calls_safe():
    ((heading, said),) = findings(tables(), make_config())
    assert heading == "Fewer bits and weights, small_resnet"
    assert said == (
        "int8: 2 of 2 layers safe alone, all together safe (0.0); prune 0.5: 0 of 2 layers safe "
        "alone, all together costly (\u22125.0) points of clean accuracy, 2 seeds."
    )


@pytest.mark.parametrize("written", [True, False])
def test_only_what_is_judged_safe_is_advised(written):
    of = tables(written=written)
    found = [*advice(of, of["compression"], make_config())]
    assert len(found) == written
    for what, because, link in found:
        assert what == (
            "store 2 of 2 layers as results/digits/small_resnet/standard/seed-0/epoch-3/"
            "compression/precision.json says"
        )
        assert "8 bits a weight cost 0.0 [\u22122.0, +1.5] points" in because
        assert link == "compression"
