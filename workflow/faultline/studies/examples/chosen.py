"""Which images are shown: by rules that do not look at what attacks or ablations do to them, or all
that a filter keeps right (ours)."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from faultline.ablation.facts import Facts
from faultline.ablation.sweep import logits_of
from faultline.ablation.variants import nodal_variants
from faultline.attacks.run import crafters
from faultline.base import memory
from faultline.data.splits import DataSet, images_of
from faultline.networks.evaluation import predict, predicted
from faultline.networks.layers import layers as layers_of
from faultline.studies.examples.pictures import differences, fitting, picture, reduced

LOOKED_AT = 300
"""First images of the test split that examples are chosen from."""

EXAMPLES, FILTERS, PICTURES = 10, 3, 10
"""At most: examples; filters whose lost images are listed; pictures of these for each."""

ROOM, ROOM_LOST = 45_000, 8_000
"""Characters of the pictures of all examples, and of the lost images of one filter."""


def first_of_each_class(labels: np.ndarray, predicted: np.ndarray) -> list[int]:
    """The indices of the first image of each class that is predicted as it is labelled, by class;
    of the first EXAMPLES classes that have one."""
    right = np.flatnonzero(labels == predicted)
    _, first = np.unique(labels[right], return_index=True)
    return right[first][:EXAMPLES].tolist()


def examples(
    network: nn.Module, dataset: DataSet, *, attacks: dict[str, dict], seed: int
) -> pd.DataFrame:
    """A row per image and attack ("none": the test image itself), with its picture and that of the
    change; no rows where no image is classified correctly.

    The images are those of `first_of_each_class` among the first LOOKED_AT of the test split, so
    many of them as fit into ROOM. Each attack is crafted at its own eps.
    """
    images, labels = images_of(dataset, "test", LOOKED_AT)
    answers = predicted(predict(network, images))
    index = first_of_each_class(labels.cpu().numpy(), answers.cpu().numpy())
    if not index:
        return pd.DataFrame()
    images, labels = images[index], labels[index]
    sets = {"none": images}
    for name, craft in crafters(attacks, dataset, seed=seed).items():
        sets[name] = craft(network, images, labels)
    clean, parts = reduced(images), []
    for name, of_set in sets.items():
        logits = predict(network, of_set)
        confidence = logits.softmax(1).amax(1)
        small, row = reduced(of_set), {"difference": "", "magnified": np.nan}
        if name != "none":
            row["difference"], row["magnified"] = differences(small - clean)
        columns = {
            "index": index,
            "label": labels.cpu(),
            "attack": name,
            "eps": attacks[name]["eps"] if name != "none" else 0.0,
            "predicted": predicted(logits).cpu(),
            "confidence": confidence.double().cpu().numpy().round(4),
            "height": clean.shape[2],
            "width": clean.shape[3],
            "picture": [picture(image) for image in small],
        }
        parts.append(pd.DataFrame(columns | row))
    table = pd.concat(parts, ignore_index=True)
    sizes = (table["picture"] + table["difference"]).str.len().groupby(table["index"], sort=False)
    return table[table["index"].isin(index[: fitting(sizes.sum(), ROOM)])]


def most_fragile(filters: pd.DataFrame) -> pd.DataFrame:
    """The FILTERS most fragile filters by S_clean, the decided ones first; fewer where fewer are.

    filters: the classified filters of one checkpoint.
    """
    if not len(filters):
        return filters
    rows = filters[(filters["score"] == "S_clean") & (filters["class"] == "fragile")]
    return rows.sort_values(["decided", "value"], ascending=[False, True], kind="stable")[:FILTERS]


def lost_images(
    network: nn.Module,
    judging: Callable[[], tuple[Tensor, Tensor]],
    *,
    filters: pd.DataFrame,
    facts: Mapping[str, Facts],
    index: np.ndarray | None,
    at: str,
) -> pd.DataFrame:
    """A row per filter of `most_fragile` and image that is right with it and wrong without
    it, with its new prediction; the first ones have pictures, so many as fit into ROOM_LOST.

    judging: gives the images and labels that the filters were judged on; index: their places in the
    split, None where they are its first ones. facts: layer -> those of its nodal dropout; at: see
    `Mask`.
    """
    fragile, modules, parts = most_fragile(filters), layers_of(network), []
    if len(fragile):
        images, labels = judging()
    for row in fragile.to_dict("records"):
        layer, number = row["layer"], row["filter"]
        of_layer = facts[layer]
        (variant,) = np.flatnonzero(of_layer.variants["filter"] == number)
        with_it, without_it = of_layer.base["clean"], of_layer.correct["clean"][variant]
        lost = np.flatnonzero(with_it & ~without_it)
        if not len(lost):
            continue
        without = list(nodal_variants(layer, modules[layer], filters=[number], at=at))
        answers = []
        for part in images[lost].split(memory.batch_size(200, images.shape[1:])):
            _, logits = logits_of(network, without, part, ablated=[layer])
            answers.append(predicted(logits).cpu())
        small = reduced(images[lost[:PICTURES]])
        shown = [picture(image) for image in small]
        shown = shown[: fitting(map(len, shown), ROOM_LOST)]
        columns = {
            **{name: row[name] for name in ("layer", "filter", "value", "decided")},
            "gained": np.count_nonzero(without_it & ~with_it),
            "n": len(with_it),
            "index": lost if index is None else index[lost],
            "label": labels[lost].cpu(),
            "predicted": torch.cat(answers),
            "height": small.shape[2],
            "width": small.shape[3],
            "picture": shown + [""] * (len(lost) - len(shown)),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
