"""Config files that Snakemake would take, or stop at with more than a line."""

import json

import pytest
import yaml
from support import ROOT, error_of

from faultline.config.reading import MOST, check_file, check_size

LONG = "9" * 5000


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("seeds: [0]\ndevice: cpu\nseeds: [1]\n", 3, "the key seeds stands here a second time"),
        ("attacks:\n  a: {eps: 1, eps: 2}\n", 2, "the key eps stands here a second time"),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2, x: 3}\n", 2, "the key x stands here a second time"),
        ('{"seeds": [0],\n "seeds": [1]}', 2, "the key seeds stands here a second time"),
        ("__use_yte__: true\nseeds: [?range(3)]\n", 1, "__use_yte__ runs code"),
        ("a:\n  __use_yte__: true\n", 2, "__use_yte__ runs code"),
        ("seeds: [0\ndevice: {", 2, "expected ',' or ']'"),
        ("seeds:\n\t- 0\n", 2, "found character '\\t'"),
        ("a: 1\nb: c: d\n", 2, "mapping values are not allowed here"),
        ("a: 'x\n", 2, "found unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("b: 1\na: &a {x: *a}\n", 2, "recursive"),
        ("a: &a [*a]\n", 1, "recursive"),
        ("b: 1\na: !!python/name:os.system x\n", 2, "could not determine a constructor"),
        ("? [a]\n: 1\n", 1, "unhashable key"),
        ("b: 1\na: 2020-13-45\n", 2, "month must be in 1..12"),
        (f"b: 1\na: {LONG}\n", 2, "integer string"),
        ("a: !!timestamp x\n", 1, ""),
        ("b: 1\n\n<<: 3\n", 3, "expected a mapping"),
    ],
)
def test_mistake_with_its_line(text, line, said, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    message = error_of(check_file, path)
    assert message.startswith(f"{path}:{line}: ") and said in message and len(message) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds nothing"),
        (b"# seeds: [0]\n", "holds nothing"),
        (b"- small_conv\n", "holds a list"),
        (b"small_conv", "holds a str"),
        (b"a: \x01", "cannot be read"),
        (b"a: \xff", "cannot be read"),
        (b"\x00", "cannot be read"),
        (b"[" * 5000, "cannot be read"),
        (None, "no such file; name one with --configfile"),
        ("folder", "cannot be read"),
    ],
)
def test_file_that_is_no_config(content, said, tmp_path):
    path = tmp_path / "config.yaml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    message = error_of(check_file, path)
    assert message.startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n",
        "a: {x: 1}\nb: {x: 1}\n1: 2\n'1': 3\n",
        json.dumps({"a": [1, {"x": None}]}, indent="\t"),
        yaml.safe_dump({"a": {"b": [1.5, True]}}),
    ],
)
def test_configs_are_taken(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    check_file(tmp_path / "config.yaml")


NEXT = {
    "lists": "{0}: &{0} [{1}]\n",
    "dicts": "{0}: &{0} {{p: [{1}]}}\n",
    "merges": "{0}: &{0} {{<<: [{1}]}}\n",
}


def bomb(levels: int, how: str = "lists") -> str:
    """10^levels values in that many lines, each with ten aliases of the one before."""
    lines = ["k0: &k0 {x: 1}\n"]
    for n in range(1, levels + 1):
        lines.append(NEXT[how].format(f"k{n}", ", ".join([f"*k{n - 1}"] * 10)))
    return "".join(lines)


@pytest.mark.parametrize("how", NEXT)
def test_aliases_are_counted_and_not_written_out(how, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(bomb(30, how), encoding="utf-8")
    message = error_of(check_file, path)
    assert message.startswith(f"{path}:6: more than {MOST:,} values")
    path.write_text(bomb(3, how), encoding="utf-8")
    check_file(path)


def test_aliases_on_the_command_line_are_counted():
    value = yaml.load(bomb(30), yaml.BaseLoader)  # as Snakemake reads it
    assert error_of(check_size, {"seeds": [0], "sedes": value}).startswith(
        f"config key sedes: more than {MOST:,} values"
    )
    check_size({"seeds": yaml.load(bomb(3), yaml.BaseLoader)})


def test_ours_are_taken():
    for file in [ROOT / "config.yaml", *(ROOT / "configs").glob("*.yaml")]:
        check_file(file)
