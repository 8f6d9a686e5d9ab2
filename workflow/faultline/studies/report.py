"""The page of a run: what the studies say of it."""

from faultline.report.render import Tables, render
from faultline.studies.config import Config
from faultline.studies.order import CHAPTERS, FINDINGS, described, functions
from faultline.studies.overview import verdict, what_was_run


def report(tables: Tables, *, config: Config, **page) -> str:
    """The page as HTML; tables: those of all studies; page: what else `report.render.render`
    takes, which the studies do not give."""
    return render(
        tables,
        what=what_was_run,
        verdict=verdict,
        findings=[*zip(functions(FINDINGS), FINDINGS.values(), strict=True)],
        chapters={title: functions(names) for title, names in CHAPTERS.items()},
        config=config,
        resolved=config.text,
        title=f"faultline: {', '.join(config.datasets)}",
        folder=f"{config.results.rstrip('/')}/tables",
        seeds=config.seeds,
        described=described(),
        **page,
    )
