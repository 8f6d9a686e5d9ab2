"""Data that have shifted since a network learned: its inputs, or its labels (ours, after Lee et al.
2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from faultline.data.splits import DataSet

SPLITS = ("train", "validation", "test")


def shifted(dataset: DataSet, stressed: Sequence[Mapping[str, Tensor]]) -> DataSet:
    """A data set under a stress, at the highest of its severities: severity -> inputs, of each of
    `SPLITS`; without any its labels are in reverse order, the last class for the first."""
    splits = dict(dataset.splits)
    for number, split in enumerate(SPLITS):
        inputs, labels = splits[split]
        if stressed:
            highest = max(stressed[number], key=int)
            splits[split] = stressed[number][highest].to(inputs), labels
        else:
            splits[split] = inputs, dataset.classes - 1 - labels
    return replace(dataset, splits=splits)
