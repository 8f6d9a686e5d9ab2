"""The page on a run itself: when its jobs ran, and what each stage cost. No torch."""

import csv
import heapq
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml
from matplotlib.figure import Figure

from faultline.report import canvas, page
from faultline.report.render import filled

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3b3b3b"]
OTHERS = "#c3c9d1"
MAX_BARS = 1500
"""Jobs up to which each is drawn."""


def taken(results: Path) -> pd.DataFrame:
    """What every job took: a row of each table that `run.job.used` left below logs/, with the job's
    own folders as `of`, start and end as times, and `found` as bool."""
    logs, rows = results / "logs", []
    for path in sorted(logs.rglob("*.used.tsv")):
        of = " ".join(path.relative_to(logs).parts[:-1])
        with path.open(encoding="utf-8", newline="") as file:
            rows += [row | {"of": of} for row in csv.DictReader(file, delimiter="\t")]
    if not rows:
        return pd.DataFrame()
    jobs = pd.DataFrame(rows)
    for key in ("threads", "seconds", "cpu_seconds", "peak_mb", "gpu_mb"):
        jobs[key] = pd.to_numeric(jobs[key])
    for key in ("start", "end"):
        jobs[key] = pd.to_datetime(jobs[key], format="ISO8601", utc=True)
    jobs["found"] = jobs.get("found", pd.Series("", index=jobs.index)).eq("True")
    return jobs.sort_values("start", ignore_index=True)


def lanes(jobs: pd.DataFrame) -> list[int]:
    """For each job, in the order of their starts, the first lane that is free then."""
    free: list[int] = []
    busy: list[tuple[pd.Timestamp, int]] = []
    lanes = []
    for start, end in zip(jobs["start"], jobs["end"], strict=True):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, lane))
        lanes.append(lane)
    return lanes


@canvas.styled
def bars(jobs: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """Each job as a bar over time, in as many lanes as ran at once. jobs: see `taken`."""
    lane = pd.Series(lanes(jobs), index=jobs.index)
    first = jobs["start"].min()
    begin = (jobs["start"] - first).dt.total_seconds()
    length = (jobs["end"] - jobs["start"]).dt.total_seconds()
    unit, name = (60, "minutes") if (begin + length).max() > 180 else (1, "seconds")
    height = min(0.3 * (lane.max() + 1) + 0.1, 6)
    room = canvas.Room(left=0.5, bottom=0.95, top=0.2, gap=(0.2, 0.2), least=0)
    fig, axes = canvas.axes_grid([[9.6], [height]], room)
    ax = axes[0][0]
    for rule, part in jobs.groupby("rule"):
        at = part.index
        drawn = ax.bar(
            begin[at] / unit,
            0.84,
            length[at] / unit,
            lane[at] - 0.42,
            align="edge",
            color=colours.get(rule, OTHERS),
            edgecolor="white",
            linewidth=0.4,
        )
        for bar, job in zip(drawn, part.to_dict("records"), strict=True):
            canvas.tips(bar, [_said(job)])
    ax.set_ylim(lane.max() + 0.6, -0.6)
    ax.set_yticks([])
    ax.set_xlim(0, None)
    ax.set_xlabel(f"{name} since the first job began")
    ax.set_ylabel("jobs at once")
    shown = [canvas.patch(colour, rule) for rule, colour in colours.items()]
    if set(jobs["rule"]) - set(colours):
        shown.append(canvas.patch(OTHERS, "other rules"))
    canvas.legend(fig, shown, columns=6)
    return fig


def _said(job: dict) -> str:
    """What a bar tells of its job."""
    return (
        f"{job['rule']} {job['of']}\n{job['start']:%H:%M:%S} to {job['end']:%H:%M:%S} UTC, "
        f"{job['seconds']:,.1f} s, {job['cpu_seconds']:,.1f} CPU s, {job['peak_mb']:,.0f} MB, "
        f"{job['device']}"
    )


def costs(jobs: pd.DataFrame) -> pd.DataFrame:
    """Per rule, the costliest first: jobs, seconds by the clock, CPU seconds and share of them,
    peak memory (MB), and GPU seconds, those of jobs on a GPU."""
    jobs = jobs.assign(gpu_seconds=jobs["seconds"].where(jobs["device"] != "cpu", 0.0))
    spent = jobs.groupby("rule").agg(
        jobs=("rule", "size"),
        seconds=("seconds", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        gpu_seconds=("gpu_seconds", "sum"),
        peak_mb=("peak_mb", "max"),
    )
    spent["share"] = spent["cpu_seconds"] / spent["cpu_seconds"].sum()
    return spent.sort_values("cpu_seconds", ascending=False).reset_index()


def about(root: Path, *, command: Sequence[str], began: float) -> dict[str, str]:
    """What was run, when and where: command, commit, date, machine."""
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if commit and _git(root, "status", "--porcelain"):
        commit += ", with changes"
    return {
        "command": shlex.join([Path(command[0]).name, *command[1:]]),
        "commit": commit or "not known: no clone of git",
        "date": datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "machine": f"{socket.gethostname()}, {os.cpu_count()} cores, {platform.platform()}",
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def timeline(
    jobs: pd.DataFrame,
    *,
    since: float,
    facts: dict[str, str],
    config: dict,
    versions: dict[str, str],
    template: str,
    assets: Mapping[str, str],
) -> str:
    """The page as HTML. jobs: see `taken`, of all runs whose results are kept; since: the start of
    this one (seconds since 1970); facts: see `about`."""
    these = jobs[jobs["start"] >= pd.Timestamp(since, unit="s", tz="UTC")].reset_index(drop=True)
    spent = costs(jobs)
    colours = dict(zip(costs(these if len(these) else jobs)["rule"], COLOURS, strict=False))
    figures = []
    if 0 < len(these) <= MAX_BARS:
        figures.append(
            page.figure(
                bars(these, colours),
                name="timeline",
                alt="Jobs of the run over time",
                caption=f"{page.count(these, 'job')} of this run, by rule.",
                read="Each bar is a job; bars above one another ran at the same time.",
            )
        )
    columns = {
        **page.same("rule", "jobs"),
        "CPU s": ("cpu_seconds", "{:,.1f}".format),
        "share": ("share", page.percent),
        "s by the clock": ("seconds", "{:,.1f}".format),
        "GPU s": ("gpu_seconds", "{:,.1f}".format),
        "peak memory (MB)": ("peak_mb", "{:,.0f}".format),
    }
    tables = [page.table("What each stage cost", spent, columns, shown=True)]
    if len(these):
        longest = these.sort_values("seconds", ascending=False, kind="stable")
        columns = {
            **page.same("rule", "of"),
            "start (UTC)": ("start", "{:%H:%M:%S}".format),
            "end": ("end", "{:%H:%M:%S}".format),
            "seconds": ("seconds", "{:,.1f}".format),
            "CPU s": ("cpu_seconds", "{:,.1f}".format),
            **page.same("threads", "device"),
            "peak memory (MB)": ("peak_mb", "{:,.0f}".format),
            "host": "host",
        }
        source = "*.used.tsv beside the logs"
        title = "The jobs of this run, the longest first"
        tables.append(page.table(title, longest, columns, source=source))
    intro = (
        "What the jobs say that they took, each in a table beside its log. Costs are those of all "
        "results that are kept, whichever run made them; the bars are those of the last run."
    )
    total, took = spent["cpu_seconds"].sum(), these["end"].max() - these["start"].min()
    what = f"{page.count(jobs, 'job')} took {total:,.0f} CPU seconds in all. "
    if len(these):
        what += (
            f"The last run took {took.total_seconds():,.0f} s from its first job to its last, for "
            f"{page.count(these, 'job')} with {these['cpu_seconds'].sum():,.0f} CPU seconds."
        )
    block = page.block("", figures=figures, tables=tables)
    return filled(
        template,
        assets=assets,
        title="faultline: the run itself",
        what=what,
        findings=[(key.capitalize(), value) for key, value in facts.items()],
        sections=[page.Section("costs", "Time and costs", intro=intro, blocks=[block])],
        config=yaml.safe_dump(config, sort_keys=True),
        versions=versions,
        seeds=", ".join(map(str, config["seeds"])),
        tables=[],
    )
