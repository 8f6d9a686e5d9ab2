"""The config: the models of all sections, checked for sense and completed. No torch."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from faultline.base.columns import transfer
from faultline.base.errors import UserError
from faultline.config.ablation import Ablation, check_ablation
from faultline.config.attacks import Attack, check_attacks, chosen_attacks
from faultline.config.datasets import Dataset, check_dataset, check_source
from faultline.config.fields import CODE, ON_DISK, Name, Section, Seed, Some
from faultline.config.networks import OwnNetwork, check_fit, check_own_networks
from faultline.config.places import Keep, check_folder, write_out
from faultline.config.schema import check_finite, check_schema, schema_of
from faultline.config.stresses import Stress, check_stresses
from faultline.config.trainings import (
    Training,
    check_checkpoints,
    check_recipe,
    check_tuning,
    check_weights,
)
from faultline.config.unused import check_unused
from faultline.networks import facts as network_facts
from faultline.studies.compression.config import Compression
from faultline.studies.criteria.config import Criteria
from faultline.studies.fragile.config import Remedy, Targeting
from faultline.studies.mending.config import Mending
from faultline.studies.order import STUDIES
from faultline.studies.own.config import OwnAblation
from faultline.studies.perturbations.config import Perturbations
from faultline.studies.retraining.config import Retraining
from faultline.studies.robustness.config import Robustness
from faultline.studies.sustainability.config import Sustainability, check_regularisation
from faultline.studies.synaptic.config import Classes, NodalDropout, Scores, SynapticFiltering

ASIDE = ("keep", "hours")
"""Keys that change no result."""

PROBER = "faultline.studies.probing"
"""See `asking.own_facts`."""


class Config(Section):
    """The config of a run; `resolve` fills in what is left out."""

    results: Annotated[str, ON_DISK] = Field(
        "results", pattern=r"^[A-Za-z0-9_./~-]*[A-Za-z0-9_~-]/?(?!\n)$"
    )
    """Folder that the run writes to, relative to the working directory; a new or an empty one,
    or one of runs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run. auto takes a GPU where this machine has one; on a cluster say
    cuda."""
    keep: Keep = Field(default_factory=Keep)
    hours: float | None = Field(24, gt=0, le=1_000_000)
    """A run that is to take longer on this machine (`faultline cost`) is refused before it begins,
    so that it is meant; null takes any. On a cluster and on GPUs, whose speed is not known, none is
    refused (ours)."""
    datasets: dict[Name, Dataset] = Field(min_length=1)
    """Data sets by a name of your choice, which becomes a folder of the results."""
    networks: Annotated[Some[str], CODE]
    """Networks by name; workflow/faultline/networks/registry.py holds the registry. A function
    of your own, file.py:function, or torchvision:model serves too and is called by the name of
    the function or model (own_networks says more)."""
    own_networks: dict[Name, OwnNetwork] = Field(default_factory=dict)
    """Networks of your own by a name of your choice, which then goes under networks."""
    trainings: dict[Name, Training] = Field(min_length=1)
    """Training recipes by a name of your choice."""
    seeds: Some[Seed] = [0]
    """Seeds of initialisation, data order and noise; one network each."""
    attacks: dict[Name, Attack] = Field(min_length=1)
    """Attacks by a name of your choice."""
    stresses: dict[Name, Stress] = Field(default_factory=dict)
    """Stresses of the test images by a name of your choice."""
    published: Annotated[str | None, ON_DISK] = None
    """A table of published FGSM accuracies to set beside (tab-separated; columns training,
    eps_<eps> in %, rg_score, and where it matters network and dataset)."""
    robustness: Robustness = Field(default_factory=Robustness)
    sustainability: Sustainability = Field(default_factory=Sustainability)
    ablation: Ablation = Field(default_factory=Ablation)
    synaptic_filtering: SynapticFiltering = Field(default_factory=SynapticFiltering)
    nodal_dropout: NodalDropout = Field(default_factory=NodalDropout)
    targeting: Targeting = Field(default_factory=Targeting)
    remedy: Remedy = Field(default_factory=Remedy)
    perturbations: Perturbations = Field(default_factory=Perturbations)
    compression: Compression = Field(default_factory=Compression)
    criteria: Criteria = Field(default_factory=Criteria)
    ablations: dict[Name, OwnAblation] = Field(default_factory=dict)
    """Ablations of your own by a name of your choice."""
    scores: Scores = Field(default_factory=Scores)
    classes: Classes = Field(default_factory=Classes)
    retraining: Retraining = Field(default_factory=Retraining)
    mending: Mending = Field(default_factory=Mending)

    @property
    def untrained(self) -> list[str]:
        """The data sets that hold no training images."""
        return [name for name, dataset in self.datasets.items() if dataset.train == 0]

    def check_learns(self, key: str, asked: object, instead: str) -> None:
        """UserError where a key asks for what learns, and a data set holds no training images."""
        if asked and self.untrained:
            name = self.untrained[0]
            raise UserError(
                f"config key {key}: {asked}, but data set {name} has no training images "
                f"(datasets.{name}.train: 0); {instead}"
            )

    @property
    def usual_attacks(self) -> list[str]:
        """Those that other sections take where they name none."""
        return self.ablation.attacks or self._cheap_attacks

    @property
    def judges(self) -> list[str]:
        """The attacks of method standard."""
        return [name for name, attack in self.attacks.items() if attack.judges]

    @property
    def judging_attacks(self) -> list[str]:
        """Those that sections which claim robustness take where they name none: those of method
        standard, if there are any."""
        return self.judges or self.usual_attacks

    @property
    def _cheap_attacks(self) -> list[str]:
        return [name for name, of in self.attacks.items() if not of.judges] or [*self.attacks]

    @property
    def text(self) -> str:
        """As YAML, without what changes no result."""
        values = {key: part for key, part in self.dump().items() if key not in ASIDE}
        return yaml.safe_dump(values, sort_keys=True)

    @property
    def attack_settings(self) -> dict[str, dict[str, Any]]:
        """Attack -> its settings as plain values, see `attacks.methods`."""
        return {name: attack.dump() for name, attack in self.attacks.items()}

    @property
    def scored_attack(self) -> str:
        """The attack of retraining's score, as tables call it."""
        attack = self.retraining.attack or ""
        return transfer(attack) if self.ablation.target == "base" else attack

    @property
    def mended_score(self) -> str:
        """The attack or stress by whose classes candidates of a mend go, as tables call it."""
        swept = [name for name in self.mending.under if name in self.ablation.stresses]
        return swept[0] if swept else self.scored_attack


def schema() -> dict[str, Any]:
    """The JSON schema of the config, without descriptions."""
    return schema_of(Config)


def resolve(given: dict, *, alone: bool = True) -> Config:
    """The config with every default filled in.

    given: plain values under the keys of the config, which stay as they are. alone: whether nothing
    but runs may be in the folder of the results. Raises UserError with one line that names the key,
    what was expected and what to do.
    """
    check_finite(given)
    check_schema(given, Config)
    config = Config.model_validate(given)
    write_out(config)
    check_folder(config.results, key="results", holds_runs=alone)
    check_folder(config.keep.folder, key="keep.folder", holds_runs=False)
    for key, names in config:
        for name in names if isinstance(names, dict) else ():
            if name == "nan":
                raise UserError(
                    f"config key {key}.{name}: means a missing number in tables; rename it"
                )
    for name, dataset in config.datasets.items():
        check_source(name, dataset)
    check_unused(config)
    _check_sense(config)
    return config


def _check_sense(config: Config) -> None:
    networks, attacks, trainings = config.networks, config.attacks, config.trainings
    facts = {name: check_dataset(name, part) for name, part in config.datasets.items()}
    network_facts.see(norms=config.ablation.norms, parameters=config.ablation.parameters)
    folder = Path(config.results) / ".networks"
    check_own_networks(networks, config.own_networks, facts, folder=folder, prober=PROBER)
    for network in networks:
        for name in config.datasets:
            check_fit(network, name, facts[name])
    check_weights(trainings, networks, results=config.results)
    for name, training in trainings.items():
        check_checkpoints(name, training, facts)
    check_attacks(attacks, facts)
    swept = config.ablation.stresses
    further = [name for dataset in config.datasets.values() for name in dataset.also]
    check_stresses(config.stresses, facts, trainings, swept=swept, further=further, attacks=attacks)
    cheap = config._cheap_attacks
    chosen_attacks(config.ablation, "attacks", attacks, where="ablation", default=cheap)
    chooses = bool(config.retraining.from_epochs or config.mending.by_class)
    check_ablation(config.ablation, config.datasets, chooses=chooses)
    for name, training in trainings.items():
        if training.epochs != [0]:
            instead = f"set it to [0], with trained weights under trainings.{name}.weights"
            config.check_learns(f"trainings.{name}.epochs", training.epochs, instead)
    for study in STUDIES:
        module = f"faultline.studies.{study}.config"
        if find_spec(module):
            import_module(module).check(config, facts)
    for name, training in trainings.items():
        check_recipe(name, training, trainings)
        check_regularisation(name, training, config)
    for name, training in trainings.items():
        check_tuning(name, training, trainings, attacks=attacks, seeds=config.seeds)
