"""write what of a finished run goes into a paper: figures of a width, the verdict for LaTeX and in
Markdown, and summary.json with its numbers"""

import argparse
import re
from pathlib import Path

from faultline.base.errors import UserError

WHAT = ("map", "robustness", "mending", "curves", "verdict")
FORMATS = ("pdf", "svg", "png")
UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}
NARROW, WIDE = 2.0, 20.0


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("folder", help="a run's results")
    parser.add_argument(
        "--what", default=",".join(WHAT), help=f"some of {','.join(WHAT)} (default: all)"
    )
    parser.add_argument("--format", default="pdf", choices=FORMATS)
    parser.add_argument("--width", default="3.25in", help="of figures, in in, cm, mm or pt")
    parser.add_argument("--out", type=Path, help="the folder to write to (default: RESULTS/export)")


def main(given: argparse.Namespace) -> None:
    """Write the files, and name each."""
    asked, width = _checked(given.what), _inches(given.width)
    from faultline.base.files import save_text
    from faultline.compare.exports import FIGURES, opened, texts
    from faultline.compare.finished import finished
    from faultline.report.narrow import save

    run = finished(given.folder)
    tables, config = opened(run)
    out = given.out or run.folder / "export"
    for name in asked:
        files = []
        for stem, figure in FIGURES[name](tables, config, width) if name in FIGURES else ():
            files.append(out / f"{stem}.{given.format}")
            save(figure, files[-1])
        for stem, text in texts(run, tables, config).items() if name == "verdict" else ():
            files.append(out / stem)
            save_text(text, files[-1])
        print(*files or [f"{name}: this run has nothing of it"], sep="\n")


def _checked(what: str) -> list[str]:
    from faultline.base.inputs import one_of

    asked = [name.strip() for name in what.split(",")]
    for name in asked:
        one_of(name, WHAT, "--what")
    return asked


def _inches(width: str) -> float:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)({'|'.join(UNITS)})", width.strip())
    inches = float(found[1]) * UNITS[found[2]] if found else 0
    if not NARROW <= inches <= WIDE:
        raise UserError(f"--width {width}: expected {NARROW:g}in to {WIDE:g}in, such as 3.25in")
    return inches
