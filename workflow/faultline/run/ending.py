"""How a run ends: its report, or what there is of one, the page on the run itself, the last lines.

What this takes is imported only then. No torch.
"""

import sys
from pathlib import Path

from faultline.base.files import save_text
from faultline.snake import records, stopping
from faultline.snake.hooks import Run


def succeed(run: Run, config: dict, *, report: str, template: Path) -> None:
    """As all jobs have ended. config: resolved; report: the page that a whole run makes; template:
    that of pages."""
    _partial(config).unlink(missing_ok=True)
    asked = any(report in job.output for job in run.workflow.jobs)
    _end(run, config, report=report if asked else None, template=template)


def fail(run: Run, config: dict, *, template: Path) -> None:
    """As a job has failed: what was made before is worth a look. Whoever stops a run wants it to
    end."""
    if stopping.stopped():
        return
    report = None
    if failed := run.workflow.failed:
        from faultline.studies import partial

        report = partial.write(
            run.workflow.jobs,
            unfinished={*run.workflow.unfinished()},
            failed=failed,
            path=str(_partial(config)),
        )
    _end(run, config, report=report, template=template)


def _partial(config: dict) -> Path:
    return Path(records.folder_of(config), "report.partial.html")


def _end(run: Run, config: dict, *, report: str | None, template: Path) -> None:
    """Write the page on the run itself, and say where the report is."""
    from faultline.report import timeline
    from faultline.report.render import load_look, versions

    results, began = records.folder_of(config), run.workflow.start.timestamp()
    jobs = timeline.taken(Path(results))
    if len(jobs):
        page = timeline.timeline(
            jobs,
            since=began,
            facts=timeline.about(run.root, command=sys.argv, began=began),
            config=config,
            versions=versions(),
            **load_look(template),
        )
        save_text(page, f"{results}/run.html")
    if run.console:
        earlier = len(records.earlier(results))
        print(run.console.end(report=report, earlier=earlier), file=sys.stderr)
