"""The report: one self-contained HTML page from the tables of a run. No torch."""

import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from faultline.base.columns import RUN

PACKAGES = [
    *("torch", "torchvision", "snakemake", "numpy", "pandas", "scipy", "scikit-learn"),
    "matplotlib",
]

Tables = dict[str, pd.DataFrame]

Section = Callable[[Tables, dict], dict | None]
"""(tables, config) -> a section as `page.section` makes it; None where it has nothing to say."""

Findings = Callable[[Tables, dict], Iterable[tuple[str, str]]]
"""(tables, config) -> (heading, text) of what was found, for the top of the report."""


def load_look(template: Path | str) -> dict:
    """What `render` takes from files: the Jinja template, and beside it the style sheets and
    scripts of assets/, in the order of their names."""
    template = Path(template)
    files = sorted((template.parent / "assets").iterdir())
    return {
        "template": template.read_text(encoding="utf-8"),
        "assets": {file.name: file.read_text(encoding="utf-8") for file in files},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def resolved_config(config: dict, *, versions: dict[str, str]) -> str:
    """The whole config as YAML, with a comment line that names the versions."""
    line = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"# faultline, resolved config; {line}\n" + yaml.safe_dump(config, sort_keys=True)


def render(
    tables: Tables,
    *,
    what: Callable[[Tables, dict], str],
    findings: Sequence[Findings],
    sections: Sequence[Section],
    described: Mapping[str, str],
    config: dict,
    versions: dict[str, str],
    template: str,
    assets: Mapping[str, str],
    notes: Sequence[tuple[str, str]] = (),
) -> str:
    """The page, as HTML; the same input gives the same bytes.

    tables: those of `described`, each possibly empty, as made over a run. what: (tables, config) ->
    what was run, in a sentence. sections and findings are shown in their order. described: table ->
    what it holds. config: the resolved one. template: the text of the Jinja template.
    notes: (heading, text) of what comes before all findings.
    """
    tables = {name: _plain(tables[name]) for name in described}
    made = [section(tables, config) for section in sections]
    folder = f"{config['results'].rstrip('/')}/tables"
    return filled(
        template,
        title=f"faultline: {', '.join(config['datasets'])}",
        what=what(tables, config),
        findings=[*notes, *(found for find in findings for found in find(tables, config))],
        sections=[section for section in made if section],
        config=yaml.safe_dump(config, sort_keys=True),
        versions=versions,
        styles=[Markup(text) for name, text in assets.items() if name.endswith(".css")],
        scripts=[Markup(text) for name, text in assets.items() if name.endswith(".js")],
        seeds=", ".join(map(str, config["seeds"])),
        tables=[(f"{folder}/{name}.tsv", text) for name, text in described.items()],
        timeline="run.html",
    )


def filled(template: str, **parts) -> str:
    """The template with its parts put in: those of `render`, or of a page of another kind."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(**parts)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Names as text, whatever they look like."""
    names = [c for c in [*RUN, "layer", "attack", "policy", "images"] if c in table]
    return table.astype(dict.fromkeys(names, str)) if len(table) else table
