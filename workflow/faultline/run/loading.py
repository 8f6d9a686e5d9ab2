"""What the stages that hold a network share: the data set, the network, its checkpoint."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml

from faultline.ablation.run import Base
from faultline.base import plugins
from faultline.base.columns import transfer
from faultline.base.errors import UserError, printable
from faultline.base.files import load_arrays, load_state_dict, load_tensors
from faultline.base.paths import place_of
from faultline.base.seeds import seed_of
from faultline.data.describe import check_enough
from faultline.data.splits import DataSet, images_of
from faultline.networks.architectures import Network, measure
from faultline.networks.layout import lay_out
from faultline.networks.registry import build
from faultline.networks.weights import load_weights
from faultline.run.job import free_memory, torch_device
from faultline.training.checkpoints import restore

CPU = torch.device("cpu")


def load_dataset(path, device: torch.device) -> DataSet:
    """A prepared data set, resident on a GPU; on a CPU what is looked at is read from the file."""
    keys, what = ("classes", "train_images", "test_labels"), "a prepared data set"
    return DataSet.from_tensors(load_tensors(path, what, keys=keys, device=device, mapped=True))


def stored_attacks(
    job, attacks: Sequence[str], device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    """(attack, the images [n, ...] that the rule `craft` stored, in pixel units), one by one.

    job: the `snakemake` object of a rule with their files, input.adversarial, in the same order,
    perhaps with others behind them.
    """
    files = [*job.input.adversarial]
    for attack, path in zip(attacks, files[: len(attacks)], strict=True):
        stored = load_tensors(path, "adversarial images", keys=("images",), device=device)
        yield attack, stored["images"]


def load_stresses(
    paths: Sequence[str], names: Sequence[str], device: torch.device
) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Of each split the inputs under some stresses: stress -> severity -> as the data set stores
    them; paths: split by split, in the order of the names."""
    stored = [load_tensors(path, "a stress", keys=(), device=device) for path in paths]
    return [
        dict(zip(names, stored[first : first + len(names)], strict=True))
        for first in range(0, len(stored), len(names) or 1)
    ]


def build_network(name: str, dataset: DataSet, *, seed: int, device: torch.device) -> Network:
    """A freshly initialised network that fits the data set; but on a GPU laid out, except for the
    user's own, which may expect the layout that they are used to."""
    shape = tuple(dataset.splits["train"][0].shape[1:])
    network = build(
        name,
        shape=shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        seed=seed_of("initialisation", name, seed),
    )
    users = plugins.is_users(plugins.NETWORKS.get(name, {}).get("function"))
    if device.type != "cuda" and not users:
        lay_out(network)
    return network.to(device)


def starting_network(job, dataset: DataSet, *, seed: int, device: torch.device) -> Network:
    """The network that a job names, as its training starts with it: freshly initialised, or with
    the weights of a file of input.weights, which params.weights_key names in it."""
    name = job.wildcards.network
    network = build_network(name, dataset, seed=seed, device=device)
    for path in job.input.weights:
        words = load_weights(
            network,
            load_state_dict(path, job.params.weights_key),
            origin=f"{path}, for {name}",
            moments_key=dataset.moments_key,
        )
        under = f", under {job.params.weights_key}" if job.params.weights_key else ""
        did = f" ({'; '.join(words)})" * bool(words)
        print(f"starting from the weights in {printable(path)}{under}{did}")
        if (bounds := Path(path).with_suffix(".bounds.json")).exists():
            print(
                f"warning: {bounds}: the bounds within which these weights are to keep the outputs "
                "of layers are not taken here, so they are judged without"
            )
    return network


def chosen_settings(paths: Iterable[str]) -> dict[str, float]:
    """What a search chose, setting -> value, from its file; nothing where there is no file."""
    chosen: dict[str, float] = {}
    for path in paths:
        chosen |= json.loads(Path(path).read_text(encoding="utf-8"))
    return chosen


def load_network(
    path,
    name: str | None = None,
    dataset: DataSet | None = None,
    *,
    device: torch.device = CPU,
) -> tuple[Network, dict]:
    """(network in eval mode, checkpoint) from a file of a run: a checkpoint, or network.pt of a
    mend, a remedy or a retraining.

    name, dataset: where they are left out, those of the run whose results the file lies in, be the
    network built in or a function of the user's own. UserError where it lies in no results.
    """
    if name is None or dataset is None:
        folder, of_run = _run_of(path)
        name = name or of_run
        dataset = dataset or load_dataset(folder / "data.pt", device)
    state = load_tensors(path, "a checkpoint", keys=("network", "seed"), device=device)
    network = build_network(name, dataset, seed=state["seed"], device=device)
    restore(network, None, state)
    measure(network)
    return network.eval(), state


def _run_of(path) -> tuple[Path, str]:
    """(folder of the data set in the results that a file lies in, name of its network); the run's
    own networks are known from now on."""
    file = Path(path).resolve()
    with suppress(ValueError, KeyError):
        place = place_of(str(file))
        steps = (f"epoch-{place['epoch']}", f"seed-{place['seed']}")
        of_epoch = next(p for p in file.parents if (p.name, p.parent.name) == steps)
        network = of_epoch.parents[2]
        config = network.parents[1] / "config.resolved.yaml"
        if config.exists():
            resolved = yaml.safe_load(config.read_text(encoding="utf-8"))
            plugins.NETWORKS.update(resolved.get("own_networks") or {})
        return network.parent, network.name
    raise UserError(
        f"{path}: lies in the results of no run; give the name of its network and its data set"
    )


def judging_images(
    dataset: DataSet, *, split: str, count: int | None, index: np.ndarray | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(images in pixel units, labels) that ablated networks are judged on: of a split those of an
    index, else the first `count` or all; UserError where a validation split is too small."""
    if split == "validation":
        check_enough(dataset.name, len(dataset.splits[split][1]), count)
    if index is not None:
        images, labels = (part[index] for part in dataset.splits[split])
        return dataset.pixels(images), labels
    return images_of(dataset, split, count)


class Opened(NamedTuple):
    """What the rules of one checkpoint work on; state: the checkpoint."""

    dataset: DataSet
    network: Network
    state: dict
    device: torch.device


def opened(job) -> Opened:
    """The data set and network that a job names, on its device; the network in eval mode.

    job: the `snakemake` object of a rule with input.data, input.checkpoint, params.device and the
    wildcard network.
    """
    device = torch_device(job)
    dataset = load_dataset(job.input.data, device)
    network, state = load_network(
        job.input.checkpoint, job.wildcards.network, dataset, device=device
    )
    return Opened(dataset.fitted(network), network, state, device)


def opened_base(job, *, whole: bool = False) -> Base:
    """The checkpoint that a job names, and what its ablated networks are judged on.

    job: as for `opened`, with params.sets (see `Plan.image_sets`), input.adversarial (the stored
    sets, in the order of sets["transferred"], and behind these of sets["stressed"]) and
    resources.mem_mb; but with `whole`, which takes the whole split, with input.chosen (what
    `chosen_images` made, if any).
    """
    dataset, network, state, device = opened(job)
    sets = job.params.sets
    sample = load_arrays(*job.input.chosen) if not whole and job.input.chosen else None
    images, labels = judging_images(
        dataset,
        split=sets["split"],
        count=None if whole else sets["images"],
        index=sample["index"] if sample else None,
    )
    image_sets = {"clean": images}
    for attack, stored in stored_attacks(job, sets["transferred"], device):
        image_sets[transfer(attack)] = stored[sample["index"]] if sample else stored
    files = [*job.input.adversarial][len(sets["transferred"]) :]
    for path, (stress, severity) in zip(files, sets["stressed"].items(), strict=True):
        of = load_tensors(path, "a stress", keys=(str(severity),), device=device)[str(severity)]
        image_sets[stress] = dataset.pixels(of[sample["index"] if sample else slice(len(images))])
    return Base(
        network=network,
        dataset=dataset,
        images=image_sets,
        labels=labels,
        recrafted=sets["recrafted"],
        seed=state["seed"],
        memory=partial(free_memory, job, device),
        sample=sample,
    )
