from pathlib import Path

import pytest

from faultline.studies.criteria.tables import tables

PARTS = {
    "criteria": "**/criteria.tsv",
    "removals": "**/removal.npz",
    "result": "**/criteria/*/*/result.tsv",
    "correct": "**/criteria/*/*/correct.npz",
}
MADE_OF = {
    "criteria": {"criteria"},
    "removals": {"removals"},
    "predictions": {"criteria", "removals"},
    "criteria_agreement": {"criteria"},
    "criteria_use": {"result"},
    "criteria_gains": {"correct"},
    "referee": {"correct"},
}


@pytest.mark.parametrize(
    "lacking",
    [(), ("criteria",), ("removals",), ("criteria", "removals"), ("result", "correct"), (*PARTS,)],
    ids=str,
)
def test_of_a_run_that_failed_in_part_they_are_made_of_what_there_is(finished, lacking):
    results = Path(finished.folder, "results/digits")
    files = {
        name: [str(path) for path in sorted(results.glob(files)) if name not in lacking]
        for name, files in PARTS.items()
    }
    made = tables(**files, top_share=0.2, permutations=9, confidence=0.95)
    there = {name for name, table in made.items() if len(table)}
    assert there == {name for name, parts in MADE_OF.items() if not parts & {*lacking}}
