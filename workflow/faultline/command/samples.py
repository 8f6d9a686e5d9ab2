"""compare two files of right and wrong, sample by sample; of lm-evaluation-harness
(samples_TASK_DATE.jsonl, or the folders of several), .jsonl, .csv or .tsv with an id and a column
of 0 and 1, or .npz of a run. Samples are paired by id; tasks are corrected for together"""

import argparse
from pathlib import Path

from faultline.base.errors import UserError, printable

LONG = 16


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--metric", default="", help="the key or column that says right or wrong")
    parser.add_argument(
        "--id", default="", help="that which a sample goes by (default: doc_id, id)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--out", type=Path, help="a .tsv to write the numbers to")


def main(given: argparse.Namespace) -> None:
    """Print the table, and save it if that is asked."""
    from faultline.base.files import for_spreadsheets, save_table, with_texts
    from faultline.compare.listing import in_text
    from faultline.compare.samples import compared_samples, load_samples, written

    if not 0.5 <= given.confidence < 1:
        raise UserError(f"--confidence {given.confidence}: expected 0.5 to below 1, such as 0.95")
    if given.out and given.out.suffix != ".tsv":
        raise UserError(f"--out {given.out}: expected the name of a table, such as {given.out}.tsv")
    paths = given.first, given.second
    settings = {"metric": given.metric, "identity": given.id}
    tasks = [load_samples(path, **settings) for path in paths]
    table = compared_samples(*tasks, confidence=given.confidence)
    first, second = _names(*paths)
    print(in_text(written(table, (first, second), confidence=given.confidence)))
    print(f"\n{first}: {printable(paths[0])}\n{second}: {printable(paths[1])}")
    print(
        f"Differences are {second} minus {first}, in points, paired by id; p is McNemar's, exact,"
    )
    print("corrected over the tasks; what would have been told, with 80 % power.")
    if left_out := table["left_out"].sum():
        print(f"Left out, as one file lacks them: {left_out} samples.")
    alone = sorted({*tasks[0]} ^ {*tasks[1]})
    if alone:
        print(f"Tasks of one alone: {', '.join(map(printable, alone))}.")
    if given.out:
        save_table(with_texts(table, for_spreadsheets), given.out)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What to call two files: where their paths first differ, if that is short."""
    for parts in zip(
        *(path.absolute().with_suffix("").parts for path in (first, second)), strict=False
    ):
        names = printable(parts[0]), printable(parts[1])
        if names[0] != names[1] and max(map(len, names)) <= LONG:
            return names
    return "first", "second"
