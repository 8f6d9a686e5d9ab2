"""faultline export: what of a finished run goes into a paper."""

import json
import re
import zlib

import pytest

from faultline.base.files import load_table
from faultline.command.__main__ import main
from faultline.compare.exports import latex, markdown

NETWORK = "digits-small_conv"
FIGURES = [f"map-{NETWORK}", f"robustness-{NETWORK}", f"mending-{NETWORK}", f"curves-{NETWORK}"]


def export(finished, out, *arguments: str) -> list[str]:
    """The names of the files that were written."""
    main(["export", str(finished.folder / "results"), "--out", str(out), *arguments])
    return sorted(path.name for path in out.iterdir())


def type_of_pdf(data: bytes) -> set[float]:
    """The sizes in which a PDF sets type, in points."""
    streams = re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    pages = b"".join(map(zlib.decompress, streams))
    return {float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", pages)}


def test_figures_of_a_column_have_type_that_can_be_read(finished, tmp_path, capsys):
    names = export(finished, tmp_path / "out", "--what", "map,robustness,mending,curves")
    assert {f"{name}.pdf" for name in FIGURES} <= {*names}
    assert f"{tmp_path}/out/map-{NETWORK}.pdf" in capsys.readouterr().out.splitlines()
    for file in (tmp_path / "out").iterdir():
        data = file.read_bytes()
        _, _, width, _ = map(float, re.search(rb"/MediaBox \[([^\]]*)\]", data)[1].split())
        assert width == pytest.approx(3.25 * 72)
        assert type_of_pdf(data) == {7.0}, file.name


def test_svg_keeps_type_as_type_and_the_same_run_gives_the_same_bytes(finished, tmp_path):
    arguments = ["--format", "svg", "--width", "16cm", "--what", "map,mending"]
    for out in (tmp_path / "one", tmp_path / "two"):
        assert export(finished, out, *arguments)
    for file in (tmp_path / "one").iterdir():
        text = file.read_text(encoding="utf-8")
        assert text == (tmp_path / "two" / file.name).read_text(encoding="utf-8")
        assert float(re.search(r'<svg.*? width="([\d.]+)pt"', text)[1]) == pytest.approx(
            16 / 2.54 * 72, abs=0.1
        )
        sizes = {float(size) for size in re.findall(r"font[^;}]*?([\d.]+)px", text)}
        assert sizes == {7.0}, file.name
    assert "conv1" in (tmp_path / "one" / f"map-{NETWORK}.svg").read_text(encoding="utf-8")


def test_the_verdict_in_numbers_is_what_the_tables_say(finished, tmp_path):
    names = export(finished, tmp_path / "out", "--what", "verdict")
    assert names == ["summary.json", "verdict.md", "verdict.tex"]
    found = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    (row,) = found["networks"]
    tables = finished.folder / "results/tables"
    accuracy = load_table(tables / "accuracy.tsv").query("epoch == 2")
    assert row["clean"] == accuracy.query("eps == 0")["accuracy"].iloc[0]
    assert row["worst"] == accuracy.query("eps == 0.1")["accuracy"].min()
    layers = load_table(tables / "layers.tsv").query(
        "epoch == 2 and scope == 'local' and filter == 'combined' and score == 'S_adv'"
    )
    assert row["layers"] == layers["layer"].nunique()
    mending = load_table(tables / "mending.tsv").query(
        "policy == 'chosen' and level == 'all seeds' and images == 'clean'"
    )
    if len(mending):
        assert row["mended"]["clean"]["difference"] == mending["difference"].iloc[0]
    clean = row["verdict"]["clean"]
    assert clean["numbers"][0] == pytest.approx(100 * row["clean"], abs=0.05)
    report = (finished.folder / "results/report.html").read_text(encoding="utf-8")
    table = (tmp_path / "out/verdict.md").read_text(encoding="utf-8")
    for heading, cell in row["verdict"].items():
        assert heading in table and cell["text"] in table and cell["text"] in report


def test_tables_for_latex_and_in_markdown():
    rows = [[("50 %", ""), ("\u22121.5 points", "x_1 & more | less")]]
    assert markdown(["net", "gain"], rows) == (
        "| net | gain |\n| --- | --- |\n| 50 % | \u22121.5 points, x_1 & more \\| less |\n"
    )
    _, begin, top, head, middle, line, *_ = latex(["net", "gain"], rows).splitlines()
    assert begin.count("X") == 2 and (top, middle) == (r"\toprule", r"\midrule")
    assert head == r"net & gain \\"
    assert line == r"50 \% & $-$1.5 points \newline {\scriptsize x\_1 \& more | less} \\"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--what", "maps"], "--what: 'maps' is unknown; did you mean 'map'?"),
        (["--width", "3"], "--width 3: expected 2in to 20in, such as 3.25in"),
        (["--width", "90in"], "--width 90in: expected 2in to 20in"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, said):
    with pytest.raises(SystemExit, match=re.escape(f"error: {said}")):
        main(["export", "nowhere", *arguments])
    with pytest.raises(SystemExit, match="error: nowhere: no such folder"):
        main(["export", "nowhere"])
