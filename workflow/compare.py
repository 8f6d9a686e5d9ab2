"""Two finished runs side by side, or all finished runs below a folder in one table.

python workflow/compare.py results/a results/b
python workflow/compare.py results
"""

import argparse
import sys
from pathlib import Path

from faultline.base.errors import UserError
from faultline.base.files import for_spreadsheets, save_table, save_text, with_texts
from faultline.compare.finished import CONFIG, runs_below
from faultline.compare.listing import headlines, in_text, listed, listed_page
from faultline.compare.side_by_side import compared_page, compared_tables, in_words, two_runs
from faultline.report.render import load_look, versions

TEMPLATE = Path(__file__).parent / "faultline/report/report.html.j2"


def main(folders: list[str], out: Path | None) -> None:
    """Compare two runs, or list all below a folder, as the command line says."""
    if len(folders) > 2:
        raise UserError(f"{len(folders)} folders are given; name two runs, or one folder of runs")
    page = out or Path("results", "compare.html" if len(folders) == 2 else "runs.html")
    if page.suffix != ".html":
        raise UserError(f"--out {page}: expected the name of a page, such as {page}.html")
    beside = page.with_suffix("")  # a folder of the page's name, for the tables
    if (beside / CONFIG).exists():
        raise UserError(f"{page}: its tables would go to {beside}, which is a run; name another")
    look = {
        "folder": beside,
        "versions": versions(),
        **load_look(TEMPLATE),
    }
    if len(folders) == 2:
        runs = two_runs(folders)
        tables = compared_tables(*runs)
        html, said = compared_page(*runs, tables, **look), in_words(*runs, tables)
    else:
        runs = runs_below(folders[0])
        tables = {"runs": headlines(runs)}
        html, said = listed_page(runs, tables["runs"], **look), in_text(listed(tables["runs"]))
    for name, table in tables.items():
        save_table(with_texts(table, for_spreadsheets), beside / f"{name}.tsv")
    save_text(html, page)
    print(f"{said}\n\n{page}, and its tables in {beside}/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="+", help="two runs' results, or one folder of runs")
    parser.add_argument(
        "--out", type=Path, help="the page (default: results/compare.html or results/runs.html)"
    )
    arguments = parser.parse_args()
    try:
        main(arguments.folder, arguments.out)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
