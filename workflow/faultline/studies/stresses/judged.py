"""Inputs under a stress, and which of them a network classifies correctly."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from faultline.base.seeds import seed_of
from faultline.data.sources import ALSO
from faultline.data.splits import DataSet, images_of
from faultline.networks.evaluation import right
from faultline.stresses.registry import stressed
from faultline.studies.stresses.names import FURTHER

Stored = Mapping[str, Mapping[str, Tensor]]
"""Stress -> severity -> inputs of a split as the data set stores them, see `stress_set`."""

NAME = "{stress}@{severity}"
"""An image set: a stress at a severity."""


def stress_set(
    dataset: DataSet, name: str, settings: Mapping[str, Any], *, split: str = "test"
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """A stress of the config on a split: (severity -> inputs as the data set stores them; a
    row for each severity: how far a value moves in the mean, and the share of values that are at
    the ends of what is possible and were not before)."""
    inputs, _ = dataset.splits[split]
    before = dataset.pixels(inputs)
    made, rows = {}, []
    for severity in settings["severities"]:
        of = stressed(
            settings["kind"],
            inputs,
            severity=severity,
            dataset=dataset,
            seed=seed_of("stress", name, split),
            options=settings["options"],
        )
        after = dataset.pixels(of)
        row: dict[str, Any] = {"severity": severity}
        row["moved"] = (after - before).abs().float().mean().item()
        row["saturated"] = 0.0
        if dataset.bounds is not None and after.is_floating_point():
            low, high = dataset.bounds
            ends = ((after <= low) | (after >= high)) & (before > low) & (before < high)
            row["saturated"] = ends.float().mean().item()
        rows.append(row)
        print(
            f"{name}, severity {severity}: values move by {row['moved']:.3f}, "
            f"{100 * row['saturated']:.1f} % of them to the end of their range"
        )
        made[str(severity)] = of
    return made, pd.DataFrame(rows)


def correct_under_stresses(
    network: nn.Module, dataset: DataSet, stored: Stored, *, split: str = "test"
) -> dict[str, np.ndarray]:
    """Image set ("clean", or `NAME`) -> bool [n]: which images of a split are classified correctly.

    stored: of that split.
    """
    images, labels = images_of(dataset, split)
    sets = {"clean": images}
    for stress, by_severity in stored.items():
        for severity, inputs in by_severity.items():
            sets[NAME.format(stress=stress, severity=severity)] = dataset.pixels(inputs)
    return {name: right(network, of, labels) for name, of in sets.items()}


def judge_stresses(network: nn.Module, dataset: DataSet, stored: Stored) -> dict[str, np.ndarray]:
    """`correct_under_stresses` of the test split, and which images of further test sets are
    classified correctly, their names ending in `FURTHER`; told in the log."""
    correct = correct_under_stresses(network, dataset, stored)
    for name in dataset.also:
        correct[name + FURTHER] = right(network, *images_of(dataset, ALSO.format(name)))
    for name, hits in correct.items():
        print(f"{name}: accuracy {hits.mean():.4f} (n = {len(hits)})")
    return correct
