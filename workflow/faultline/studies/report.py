"""The page of a run: what the studies say of it."""

from collections.abc import Mapping, Sequence

from faultline.report.render import Tables, render
from faultline.studies.order import FINDINGS, SECTIONS, described, functions
from faultline.studies.overview import what_was_run


def report(
    found: Tables,
    *,
    config: dict,
    versions: dict[str, str],
    template: str,
    assets: Mapping[str, str],
    notes: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as HTML; found: the tables of all studies. See `report.render.render`."""
    return render(
        found,
        what=what_was_run,
        findings=functions(FINDINGS),
        sections=functions(SECTIONS),
        described=described(),
        config=config,
        versions=versions,
        template=template,
        assets=assets,
        notes=notes,
    )
