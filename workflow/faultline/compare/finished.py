"""A finished run, read from the folder that it wrote. No torch, but for the hash of images."""

import functools
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from faultline.ablation.facts import unpack
from faultline.attacks.checks import split_attacks
from faultline.base import paths
from faultline.base.columns import PLACE
from faultline.base.errors import UserError, printable
from faultline.base.files import load_arrays, load_table, load_tensors, with_texts
from faultline.config.reading import load_yaml
from faultline.report.timeline import costs, taken
from faultline.snake import records

CONFIG = "config.resolved.yaml"
"""Written with the report: a folder that holds it is that of a finished run."""

NEEDED = {"attacks", "datasets", "networks", "retraining", "scores", "seeds", "trainings"}

COSTS = ["jobs", "found", "cpu_seconds", "seconds", "gpu_seconds", "peak_mb"]


@dataclass(frozen=True, eq=False)
class Finished:
    """folder: the run's results; config: every default filled in; versions: package -> its version
    when the report was made."""

    folder: Path
    config: dict
    versions: dict[str, str]

    @functools.cache  # noqa: B019, as few runs are read, and for one page
    def table(self, name: str) -> pd.DataFrame:
        """One of `tables/`; empty where the run has not got it."""
        path = self.folder / "tables" / f"{name}.tsv"
        if not path.exists():
            return pd.DataFrame()
        return with_texts(load_table(self._checked(path)), printable)

    def _checked(self, path: Path) -> Path:
        """A file of the run; UserError where it is not what was written."""
        records.checked(
            [f"{self.folder}/{path.relative_to(self.folder)}"], results=str(self.folder)
        )
        return path

    def correct(self, row: dict) -> np.ndarray | None:
        """bool [n], the test images that a row of the table `accuracy` counts as correct; None
        where they are not stored or do not fit the row."""
        names = row["over"].split(", ") if row["over"] else [row["attack"]]
        each = [self._correct(_place(row), name).get(f"{row['eps']:g}") for name in names]
        there = [correct for correct in each if correct is not None]
        if len(there) < len(each):
            return None
        correct = np.min(there, axis=0)
        return correct if (len(correct), correct.sum()) == (row["n"], row["correct"]) else None

    @functools.cache  # noqa: B019
    def _correct(self, place: tuple, attack: str) -> dict[str, np.ndarray]:
        """eps (text) -> bool [n], of an attack on a checkpoint."""
        where = dict(place) | {"attack": attack}
        alone = self.folder / paths.ATTACK.format(**where) / "correct.npz"
        together = self.folder / paths.CHECKPOINT.format(**where) / "robustness/correct.npz"
        if alone.exists():
            return unpack(load_arrays(self._checked(alone)))
        if together.exists():
            return split_attacks(unpack(load_arrays(self._checked(together)))).get(attack, {})
        return {}

    @functools.cache  # noqa: B019
    def test_images(self, dataset: str) -> str | None:
        """The SHA-256 of the images and labels of a test split, in their order; None where the run
        no longer holds its data."""
        path = self.folder / paths.DATA.format(dataset=dataset)
        if not path.exists():
            return None
        data = load_tensors(self._checked(path), "a prepared data set")
        digest = hashlib.sha256()
        for part in (data["test_images"], data["test_labels"]):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    @functools.cache  # noqa: B019
    def costs(self) -> pd.DataFrame:
        """COSTS by rule, as `report.timeline.costs`; found: the jobs whose work was kept."""
        jobs = taken(self.folder)
        if not len(jobs):
            return pd.DataFrame(columns=COSTS)
        kept = jobs.groupby("rule")["found"].sum()
        return costs(jobs).set_index("rule").assign(found=kept)[COSTS].rename(index=printable)

    @functools.cache  # noqa: B019
    def ended(self) -> str:
        """When its last job ended (UTC, to the minute); without logs, when the report was made."""
        jobs = taken(self.folder)
        reported = datetime.fromtimestamp((self.folder / CONFIG).stat().st_mtime, UTC)
        return f"{jobs['end'].max() if len(jobs) else reported:%Y-%m-%d %H:%M}"


def _place(row: dict) -> tuple:
    """The checkpoint of a row, in a form that can be a key."""
    return tuple((name, row[name]) for name in PLACE)


def finished(folder) -> Finished:
    """The run in a folder. UserError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that a run wrote, such as results")
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"{folder}: no finished run, as it holds no {CONFIG}; finish it with snakemake, or "
            "name another folder"
        )
    try:
        text = path.read_text(encoding="utf-8")
        config = load_yaml(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        config = None
    if not isinstance(config, dict) or not config.keys() >= NEEDED:
        raise UserError(f"{path}: no resolved config; delete it and run snakemake to make it anew")
    first, _, line = text.partition("\n")[0].partition("; ")
    versions = dict(part.split(" ", 1) for part in line.split(", ") if " " in part)
    return Finished(folder, _shown(config), _shown(versions) if first.startswith("#") else {})


def _shown(value):
    """A value of a config with its texts `printable`: results may come from elsewhere."""
    if isinstance(value, dict):
        return {_shown(key): _shown(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return printable(value) if isinstance(value, str) else value


def runs_below(folder) -> list[Finished]:
    """The finished runs in a folder and in the folders in it, newest first."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that holds results of runs")
    there = [part for part in (folder, *sorted(folder.glob("*/"))) if (part / CONFIG).is_file()]
    if not there:
        raise UserError(
            f"{folder}: no finished run in it or in a folder in it ({CONFIG} marks one); finish "
            "one with snakemake, or name another folder"
        )
    return sorted(map(finished, there), key=lambda run: run.ended(), reverse=True)
