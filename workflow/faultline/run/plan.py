"""What a run consists of: its checkpoints, and what each stage makes of which. No torch.

A place is a dict of the names that a result lies under: dataset, network, training, seed, epoch,
and perhaps attack, layer, policy or ablation; see `paths`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faultline.base import plugins
from faultline.base.columns import PLACE, RUN
from faultline.config.trainings import Training, Tune, is_for
from faultline.data.describe import describe
from faultline.data.sources import Source
from faultline.networks.facts import networks
from faultline.networks.selection import count_filters, has_probe, hidden_activations, select_layers
from faultline.studies.config import Config
from faultline.studies.criteria.names import LABELS, shift_of
from faultline.studies.robustness.config import published_rows


def count_gpus() -> int:
    """Number of NVIDIA GPUs of this machine, without asking a driver."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def ordered(value):
    """Settings with their keys sorted, so that their order in the config means nothing."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return value


def with_each(places: list[dict], name: str, values) -> list[dict]:
    """Each place with each value under a further name."""
    return [place | {name: value} for place in places for value in values]


def with_layers(places: list[dict], wanted) -> list[dict]:
    """The places whose network has any of the wanted layers."""
    return [place for place in places if select_layers(place["network"], wanted)]


def with_each_layer(places: list[dict], wanted) -> list[dict]:
    """Each place with each of the wanted layers of its network."""
    return [
        place | {"layer": layer}
        for place in places
        for layer in select_layers(place["network"], wanted)
    ]


def is_among(epochs: str | list[int], epoch: int, training: Training) -> bool:
    """Whether a checkpoint of a training is among "all", the "last", or a list of epochs."""
    if isinstance(epochs, list):
        return epoch in epochs
    return epochs == "all" or epoch == training.epochs[-1]


def fill(pattern: str, places: list[dict]) -> list[str]:
    """A pattern of `paths`, filled in for each place."""
    return [pattern.format(**place) for place in places]


def with_code(settings: dict, key: str) -> dict:
    """Settings with the fingerprint of the user's function that one of them names, if it does."""
    function = settings.get(key, "")
    code = {"code": plugins.code(function)} if plugins.is_users(function) else {}
    return ordered(settings | code)


def network_layers(names) -> dict[str, list[list]]:
    """[name, kind, filters] of every layer of some networks."""
    return {name: networks()[name]["layers"] for name in sorted(names)}


@dataclass(frozen=True)
class Plan:
    """The parts of a resolved config that the stages go by."""

    config: Config

    @functools.cached_property
    def sources(self) -> dict[str, Source]:
        """What is known of each data set."""
        datasets = self.config.datasets
        return {name: describe(part.dump(), name=name) for name, part in datasets.items()}

    @functools.cached_property
    def classes(self) -> dict[str, int]:
        """Number of classes of each data set."""
        return {name: source.classes for name, source in self.sources.items()}

    def training(self, name: str) -> Training:
        """The settings of a training."""
        return self.config.trainings[name]

    # Checkpoints

    def checkpoints(self, epochs="all") -> list[dict]:
        """The places of checkpoints; epochs: "all", "last", or a list of some."""
        return [
            dict(zip(PLACE, (dataset, network, training, seed, epoch), strict=True))
            for dataset in sorted(self.config.datasets)
            for network in self.config.networks
            for training, settings in sorted(self.config.trainings.items())
            for seed in self.config.seeds
            if is_for(settings, network)
            for epoch in settings.epochs
            if is_among(epochs, epoch, settings)
        ]

    def illustrated(self) -> list[dict]:
        """The checkpoint that examples come from, of each network on each data set of images: the
        last one of the first seed, and of the first training by name, a standard one before others.
        """
        found: dict[tuple[str, str], dict] = {}
        others = lambda place: self.training(place["training"]).recipe != "standard"  # noqa: E731
        for place in sorted(self.checkpoints("last"), key=others):
            if networks()[place["network"]]["input"] == "image":
                found.setdefault((place["dataset"], place["network"]), place)
        return [*found.values()]

    def of_section(self, section: str, key: str = "epochs") -> list[dict]:
        """The checkpoints that a section's key chooses, whose network has its layers if it has any
        key for them."""
        settings = getattr(self.config, section)
        places = self.checkpoints(getattr(settings, key))
        wanted = getattr(settings, "layers", None)
        return places if wanted is None else with_layers(places, wanted)

    def previous_epoch(self, training: str, epoch: int) -> int | None:
        """The checkpoint epoch that a segment starts from; None for the first."""
        return max((e for e in self.training(training).epochs if e < epoch), default=None)

    # Attacks

    def attacks(self, names=None) -> dict[str, dict]:
        """Settings of some attacks, or of all."""
        chosen, attacks = sorted(self.config.attacks if names is None else names), {}
        for name in chosen:
            settings = self.config.attacks[name].dump()
            del settings["epochs"]
            attacks[name] = with_code(settings, "method")
        return attacks

    def stress(self, name: str) -> dict:
        """The settings of a stress, without where it is judged."""
        settings = self.config.stresses[name].dump()
        del settings["epochs"]
        return with_code(settings, "kind")

    def stress_sets(self) -> list[dict]:
        """The data sets, each with each stress."""
        datasets = [{"dataset": name, "split": "test"} for name in self.config.datasets]
        return with_each(datasets, "stress", sorted(self.config.stresses))

    def stressed_training(self) -> list[dict]:
        """The splits under stresses that networks are trained and chosen on: mends, and what
        criteria pick."""
        mending = self.config.mending
        names = [*mending.stresses] if self.checkpoints(mending.from_epochs) else []
        names += self.shifts() if self.by_criteria() else []
        datasets = [{"dataset": name} for name in self.config.datasets]
        splits = with_each(datasets, "split", ["train", "validation"])
        return with_each(splits, "stress", dict.fromkeys(names))

    def stresses_of(self, place: Mapping[str, Any]) -> list[str]:
        """The stresses that a checkpoint is judged under."""
        training = self.training(place["training"])
        return [
            name
            for name, stress in sorted(self.config.stresses.items())
            if is_among(stress.epochs, int(place["epoch"]), training)
        ]

    def stressed(self) -> list[dict]:
        """The checkpoints that are judged under any stress, or on further test sets."""
        further = {name for name, dataset in self.config.datasets.items() if dataset.also}
        last = self.checkpoints("last")
        return [
            place
            for place in self.checkpoints()
            if self.stresses_of(place) or (place["dataset"] in further and place in last)
        ]

    def together(self) -> list[dict]:
        """The checkpoints on which some attacks are evaluated together, in one job."""
        robustness = self.config.robustness
        return self.checkpoints(robustness.epochs) if robustness.attacks else []

    def attacked(self) -> list[dict]:
        """Checkpoints and attacks that are evaluated one by one."""
        return [
            place | {"attack": name}
            for name, attack in sorted(self.config.attacks.items())
            if name not in self.config.robustness.attacks
            for place in self.checkpoints(attack.epochs)
        ]

    def transferred(self) -> list[str]:
        """Attacks whose images are crafted on the base network, stored, and reused on its ablated
        networks."""
        ablation = self.config.ablation
        return [] if ablation.target == "ablated" else ablation.attacks or []

    def image_sets(self) -> dict:
        """What ablated networks are judged on: how many images (None: all) of which split, the
        names of stored attacks, the severity of stresses, whose images are stored as well, and the
        settings of attacks that are re-crafted on each network."""
        ablation = self.config.ablation
        return {
            "images": ablation.images,
            "split": ablation.split,
            "transferred": self.transferred(),
            "stressed": dict(ablation.stresses),
            "recrafted": self.attacks([] if ablation.target == "base" else ablation.attacks),
        }

    def by_margin(self) -> bool:
        """Whether the images that ablated networks are judged on are chosen by margin."""
        return self.config.ablation.choose == "margin"

    def crafted_images(self, attack: str) -> int | None:
        """How many images the stored set of an attack holds; None: the whole split, of which those
        that are chosen by margin are any."""
        whole = self.by_margin() and attack in self.transferred()
        return None if whole else self.config.ablation.images

    # Ablations

    def filtered_layers(self, network: str) -> list[str]:
        """The layers of a network that synaptic filters are for."""
        return select_layers(network, self.config.synaptic_filtering.layers)

    def layer_batches(self) -> list[dict]:
        """The rules that sweep layers by themselves: the name of each, its log, and the network (a
        regular expression) and layers that it is for. One rule does any layer; with layers_per_job,
        each batch of a network's layers has its own, as Snakemake must know the files of a job."""
        step = self.config.synaptic_filtering.layers_per_job
        if step == 1:
            log = "layers/{layer}/ablate_layer.log"
            return [{"rule": "ablate_layer", "log": log, "network": "[^/]+", "layers": ["{layer}"]}]
        batches = []
        for network in self.config.networks:
            layers = self.filtered_layers(network)
            for number, first in enumerate(range(0, len(layers), step), 1):
                name = f"ablate_layers_{network}_{number}"
                chosen = {"network": network, "layers": layers[first : first + step]}
                batches.append({"rule": name, "log": f"ablate_layers_{number}.log"} | chosen)
        return batches

    def dropout_jobs(self, network: str, dataset: str) -> list[dict]:
        """Layer, first and last filter of every nodal dropout job of a checkpoint."""
        settings, jobs = self.config.nodal_dropout, []
        step = settings.filters_per_job
        for layer in select_layers(network, settings.layers):
            count = count_filters(network, layer, self.classes[dataset])
            jobs += [
                {"layer": layer, "first": first, "last": min(first + step, count) - 1}
                for first in range(0, count, step)
            ]
        return jobs

    def scored(self) -> list[dict]:
        """The checkpoints that have scores."""
        config = self.config
        layers = [config.synaptic_filtering.layers, config.nodal_dropout.layers]
        return [
            place
            for place in self.checkpoints()
            if config.synaptic_filtering.all_layers
            or any(select_layers(place["network"], wanted) for wanted in layers)
        ]

    def own_ablated(self) -> list[dict]:
        """Checkpoints, layers and ablations of the user's own."""
        return [
            place | {"layer": layer, "ablation": name}
            for name, ablation in sorted(self.config.ablations.items())
            for place in self.checkpoints(ablation.epochs)
            for layer in select_layers(place["network"], ablation.layers)
        ]

    def own_ablation(self, name: str) -> dict:
        """The function of the user's own behind an ablation, its options and its fingerprint."""
        settings = with_code(self.config.ablations[name].dump(), "function")
        return {key: settings[key] for key in ("code", "function", "options")}

    def own_network(self, name: str) -> dict:
        """The function of the user's own behind a network, whether it normalises and its
        fingerprint; of a built-in network nothing."""
        network = self.config.own_networks.get(name)
        return with_code(network.dump(), "function") if network else {}

    def targeted_at(self, network: str) -> str:
        """Where targeting reads a network's filters; by default at the layers themselves where it
        is not known where their activations are."""
        targeting = self.config.targeting
        default = "output" if hidden_activations(network, targeting.layers) else "activation"
        return targeting.at or default

    def by_criteria(self) -> list[dict]:
        """The checkpoints whose units are ranked by criteria."""
        return self.of_section("criteria") if self.config.criteria.methods else []

    def shifts(self) -> list[str]:
        """The stresses under which what criteria pick is trained."""
        shifts = [shift_of(recipe)[1] for recipe in self.config.criteria.use.recipes]
        return [name for name in dict.fromkeys(shifts) if name and name != LABELS]

    def picked(self) -> list[dict]:
        """The checkpoints, recipes and criteria whose picks are trained, and what these are
        compared with: nothing trained, everything, and draws at random."""
        use = self.config.criteria.use
        places = with_each(self.by_criteria(), "recipe", use.recipes)
        return with_each(places, "criterion", use.picks)

    # Retraining and remedy

    def policies(self) -> list[str]:
        """What retraining freezes, by name; where its tests are fixed, what these compare."""
        retraining = self.config.retraining
        compared: list[str] = ["selective", *retraining.tests]
        if not retraining.tests:
            compared += ["regular", "fragile_only", "random"]
        draws = [f"random-{draw}" for draw in range(retraining.random_draws)]
        every = {name: [name] for name in ("regular", "selective", "fragile_only")}
        every["random"] = draws
        return [policy for name, of in every.items() if name in compared for policy in of]

    def remedies(self) -> list[str]:
        """Whose gains the remedy uses, by name."""
        draws = range(self.config.remedy.random_draws)
        return ["none", "fragile", *(f"random-{draw}" for draw in draws)]

    # Training

    def segment_settings(self, training: str, network: str) -> dict:
        """A training without what changes no segment: its list of checkpoints and its files; of the
        layers to regularise, those that the network has."""
        elsewhere = ("epochs", "weights", "tune", "base", "published")
        settings = {k: v for k, v in self.training(training).dump().items() if k not in elsewhere}
        chosen = settings["regularisation"]
        if chosen and chosen["layers"] != "mvl":
            there = [probe for probe in chosen["layers"] if has_probe(network, probe)]
            settings["regularisation"] = chosen | {"layers": there}
        return ordered(settings)

    def standard_checkpoint(self, training: str) -> tuple[str, int] | None:
        """(training, epoch) whose relative errors say which layers are regularised, where that is
        not in the config."""
        chosen = self.training(training).regularisation
        if chosen is None or chosen.layers != "mvl":
            return None
        assert chosen.of  # filled in with the config's check
        return chosen.of, self.training(chosen.of).epochs[-1]

    def listed(self) -> list[dict]:
        """The checkpoints whose relative errors say which layers other trainings, and the searches
        for their settings, regularise."""
        places = []
        for place in self.checkpoints("last"):
            if standard := self.standard_checkpoint(place["training"]):
                tune = self.training(place["training"]).tune
                seeds = [place["seed"], *(tune.seeds if tune and tune.grid.dump() else ())]
                of = dict(zip(("training", "epoch"), standard, strict=True))
                places += with_each([place | of], "seed", seeds)
        return places

    def given_weights(self, network: str, training: str, epoch: int) -> str | None:
        """The user's weights, where a training starts from some and this is its first segment."""
        return self._weights(network, training, epoch)[0]

    def weights_key(self, network: str, training: str, epoch: int) -> str | None:
        """The name of the state dict in that file that is meant; None: there is one alone."""
        return self._weights(network, training, epoch)[1]

    def _weights(self, network: str, training: str, epoch: int) -> tuple[str | None, str | None]:
        settings = self.training(training)
        if not settings.weights or epoch != settings.epochs[0]:
            return None, None
        weights = settings.weights[network]
        return (weights, None) if isinstance(weights, str) else (weights.file, weights.key)

    def tuned(self) -> list[dict]:
        """Data set, network and training of every search for settings."""
        first = self.config.seeds[0]
        return [
            {key: place[key] for key in RUN}
            for place in self.checkpoints("last")
            if place["seed"] == first
            and (tune := self.training(place["training"]).tune)
            and tune.grid.dump()
        ]

    def _tune(self, training: str) -> Tune:
        tune = self.training(training).tune
        assert tune is not None
        return tune

    def tuning_settings(self, training: str) -> dict:
        """A search without its length and whose choice it starts from, which are told apart."""
        tune = self._tune(training).dump()
        return ordered({k: value for k, value in tune.items() if k not in ("as", "epochs")})

    def tuning_epochs(self, training: str) -> int:
        """The length of each candidate's training."""
        settings = self.training(training)
        return self._tune(training).epochs or settings.epochs[-1]

    def taken_from(self, training: str) -> str | None:
        """The training whose choice a search takes first."""
        return self._tune(training).like

    def chosen_by(self, training: str) -> str | None:
        """The training whose search chose the settings of one: itself, another, or none."""
        tune = self.training(training).tune
        return (training if tune.grid.dump() else tune.like) if tune else None

    # Comparison of trainings

    def bases(self) -> dict[str, str]:
        """Regularised training -> the one that it is compared with."""
        trainings = sorted(self.config.trainings.items())
        return {name: settings.base for name, settings in trainings if settings.base}

    def published_accuracies(self) -> list[dict]:
        """The rows of the published table under the names of the trainings that repeat them."""
        published = self.config.published
        rows = published_rows(published) if published else []
        return [
            ordered(row | {"training": name})
            for name, settings in sorted(self.config.trainings.items())
            for row in rows
            if settings.published == row["training"]
        ]

    def own_files(self, dataset: str) -> list[str]:
        """The user's folders of images or file of arrays: when they change, so do the data."""
        settings = self.config.datasets[dataset]
        if settings.source == "image_folder":
            from faultline.data.folders import folders  # with NumPy

            assert settings.folder
            return folders(settings.folder, name=dataset, also=settings.also)
        files = [settings.file, *settings.also.values()] if settings.file else []
        return [str(Path(file).expanduser()) for file in files]
