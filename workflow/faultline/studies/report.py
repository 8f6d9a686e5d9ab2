"""The page of a run: what the studies say of it."""

from collections.abc import Mapping

from faultline.report.render import Tables, render
from faultline.studies.config import Config
from faultline.studies.order import FINDINGS, SECTIONS, functions
from faultline.studies.order import described as of_all_studies
from faultline.studies.overview import verdict, what_was_run


def report(
    tables: Tables, *, config: Config, described: Mapping[str, str] | None = None, **page
) -> str:
    """The page as HTML; tables: those of all studies; described: table -> what it holds, of all
    studies by default; page: what else `report.render.render` takes, which the studies do not give.
    """
    return render(
        tables,
        what=what_was_run,
        verdict=verdict,
        findings=[*zip(functions(FINDINGS), FINDINGS.values(), strict=True)],
        sections=functions(SECTIONS),
        config=config,
        resolved=config.text,
        title=f"faultline: {', '.join(config.datasets)}",
        folder=f"{config.results.rstrip('/')}/tables",
        seeds=config.seeds,
        described=described or of_all_studies(),
        **page,
    )
