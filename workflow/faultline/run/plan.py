"""What a run consists of: its networks' layers, checkpoints, jobs. No torch, no Snakemake."""

import fnmatch
import re
from pathlib import Path

from faultline.base.errors import UserError
from faultline.networks.facts import networks


def is_for(training: dict, network: str) -> bool:
    """Whether a training is for a network: one with `weights` only for those that it has."""
    return not training["weights"] or network in training["weights"]


def has_probe(network: str, probe: str) -> bool:
    """Whether a network has the layer that a probe, as "conv1" or "conv1:2", is named after."""
    layer = re.sub(r":\d+$", "", probe)
    return layer in [name for name, *_ in networks()[network]["layers"]]


def published_rows(path: str) -> list[dict]:
    """The rows of a file of published accuracies, {training, network and dataset (None where the
    file has no such column), values: {eps (text) or "rg_score": value in %}}; UserError if it is
    no such file."""
    try:
        head, *lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError):
        raise UserError(f"config key published: cannot read {path}; name a table") from None
    columns, rows = head.split("\t"), []
    if "training" not in columns:
        raise UserError(f"config key published: {path} has no column training; name a table")
    for number, line in enumerate(lines, 2):
        row = dict(zip(columns, line.split("\t"), strict=False))
        try:
            values = {
                k if k == "rg_score" else f"{float(k.removeprefix('eps_')):g}": float(row[k])
                for k in columns
                if k == "rg_score" or k.startswith("eps_")
            }
        except (KeyError, ValueError):
            raise UserError(
                f"config key published: {path}, line {number}: a value in % is missing or no "
                "number; give one in each column eps_<eps> and rg_score"
            ) from None
        named = {key: row.get(key) for key in ("training", "network", "dataset")}
        rows.append(named | {"values": values})
    return rows


def count_gpus() -> int:
    """Number of NVIDIA GPUs of this machine, without asking a driver."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def select_layers(network: str, wanted) -> list[str]:
    """Names of the layers of `network` that a `layers` key chooses, in their order."""
    known = networks()[network]["layers"]
    if wanted == "none":
        return []
    if wanted == "all":
        return [layer for layer, *_ in known]
    if wanted == "first":
        convs = [layer for layer, kind, _ in known if kind == "conv"]
        return (convs or [known[0][0]])[:1]
    return [layer for layer, *_ in known if any(fnmatch.fnmatch(layer, p) for p in wanted)]


def count_filters(network: str, layer: str, classes: int) -> int:
    """Number of filters of a layer; the output layer has one per class."""
    filters = {name: count for name, _, count in networks()[network]["layers"]}[layer]
    return classes if filters == "classes" else filters
