"""set two finished runs side by side, or list all below a folder; second minus first"""

import argparse
from pathlib import Path

from faultline.base.errors import UserError


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("folder", nargs="+", help="two runs' results, or one folder of runs")
    parser.add_argument(
        "--out", type=Path, help="the page (default: results/compare.html or results/runs.html)"
    )


def main(given: argparse.Namespace) -> None:
    """Make the page and its tables."""
    from faultline.base.files import for_spreadsheets, save_table, save_text, with_texts
    from faultline.compare.finished import CONFIG, runs_below
    from faultline.compare.listing import headlines, in_text, listed, listed_page
    from faultline.compare.side_by_side import compared_page, compared_tables, in_words, two_runs
    from faultline.report.render import load_look, versions

    folders = given.folder
    if len(folders) > 2:
        raise UserError(f"{len(folders)} folders are given; name two runs, or one folder of runs")
    page = given.out or Path("results", "compare.html" if len(folders) == 2 else "runs.html")
    if page.suffix != ".html":
        raise UserError(f"--out {page}: expected the name of a page, such as {page}.html")
    beside = page.with_suffix("")  # a folder of the page's name, for the tables
    if (beside / CONFIG).exists():
        raise UserError(f"{page}: its tables would go to {beside}, which is a run; name another")
    look = {
        "folder": beside,
        "versions": versions(),
        **load_look(Path(__file__).parents[1] / "report/report.html.j2"),
    }
    if len(folders) == 2:
        runs = two_runs(folders)
        tables = compared_tables(*runs)
        html, said = compared_page(*runs, tables, **look), in_words(*runs, tables)
    else:
        found = runs_below(folders[0])
        tables = {"runs": headlines(found)}
        html, said = listed_page(found, tables["runs"], **look), in_text(listed(tables["runs"]))
    for name, table in tables.items():
        save_table(with_texts(table, for_spreadsheets), beside / f"{name}.tsv")
    save_text(html, page)
    print(f"{said}\n\n{page}, and its tables in {beside}/")
