"""What layer sustainability asks of the config."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from faultline.base.errors import UserError, nearest, some
from faultline.config.attacks import chosen_attacks
from faultline.config.fields import Epochs, Eta, Images, Inferred, Name, Names, Section
from faultline.config.sense import check_epochs
from faultline.config.trainings import Training, is_for
from faultline.networks.facts import networks
from faultline.networks.selection import has_probe, probed_layers

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class Noise(Section):
    """One noise."""

    kind: Literal["gaussian", "salt", "pepper", "speckle"]
    """Noise is added, or added in proportion to the value (speckle); values become the highest
    (salt) or lowest (pepper)."""
    strength: float = Field(gt=0, le=10_000)
    """Standard deviation, or the share of the values (channels apart) set to a bound."""


_UNBOUNDED = {
    "gaussian": Noise.model_construct(kind="gaussian", strength=0.1),
    "speckle": Noise.model_construct(kind="speckle", strength=0.1),
}
_BOUNDED = _UNBOUNDED | {
    "salt": Noise.model_construct(kind="salt", strength=0.05),
    "pepper": Noise.model_construct(kind="pepper", strength=0.05),
}


class Sustainability(Section):
    """Layer Sustainability Analysis (Khalooei et al. 2022), the relative error of every layer
    under perturbed inputs."""

    epochs: Epochs = Field(default_factory=list)
    at: Literal["activation", "layer"] = "activation"
    """Read the outputs of activation functions, or those of the layers themselves."""
    split: Literal["train", "validation", "test"] = "validation"
    """The images that are analysed. A list that training uses must not come from test images
    (ours)."""
    images: Images | None = None
    """How many of them, null for all."""
    perturbers: Inferred[Names] = None
    """Attacks of the config that perturb; by default ablation.attacks."""
    noises: Inferred[dict[Name, Noise]] = None
    """Noises that perturb, by a name of your choice; by default gaussian 0.1, speckle 0.1 and,
    where pixels have bounds, salt 0.05 and pepper 0.05 (the strengths are ours)."""
    eta: float = Field(0.5, ge=-1000, le=1000)
    """A layer is most vulnerable where its mean error exceeds the mean of all by more than eta
    standard deviations (tuned per network in the source)."""
    eta_grid: list[Eta] = [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.0, 1.5]
    """Further values of eta, to show how the list changes."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    section = config.sustainability
    chosen_attacks(
        section,
        "perturbers",
        config.attacks,
        where="sustainability",
        default=config.usual_attacks,
    )
    check_epochs("sustainability.epochs", section.epochs, config.trainings)
    for network in config.networks if section.epochs else []:
        if section.at == "activation" and networks()[network].get("probes") == []:
            raise UserError(
                f"config key sustainability.at: network {network} calls no activation function "
                "that can be watched; set it to layer, or leave the network out"
            )
    unbounded = [name for name, source in facts.items() if source.bounds is None]
    tokens = [name for name, source in facts.items() if source.kind == "token"]
    if section.noises is None:
        section.noises = {} if tokens else {**(_UNBOUNDED if unbounded else _BOUNDED)}
    if tokens and section.noises:
        raise UserError(
            f"config key sustainability.noises: data set {tokens[0]} holds tokens, to which "
            "nothing can be added; set it to {}"
        )
    for name, noise in section.noises.items():
        if name in config.attacks:
            raise UserError(f"config key sustainability.noises.{name}: an attack's name; rename it")
        if noise.kind in ("salt", "pepper") and noise.strength > 1:
            raise UserError(
                f"config key sustainability.noises.{name}.strength: {noise.strength} is too "
                "large; give a share of at most 1"
            )
        if unbounded and noise.kind in ("salt", "pepper"):
            raise UserError(
                f"config key sustainability.noises.{name}: {noise.kind} sets pixels to a bound, "
                f"and data set {unbounded[0]} has none; leave it out"
            )
    if not section.perturbers and not section.noises:
        raise UserError("config key sustainability.perturbers: nothing perturbs; name an attack")
    section.eta_grid = sorted({*map(float, section.eta_grid), float(section.eta)})


def check_regularisation(name: str, training: Training, config: "Config") -> None:
    """Which layers a training regularises; completes what is left out."""
    chosen, section = training.regularisation, config.sustainability
    if chosen is None:
        return
    chosen.at = chosen.at or section.at
    key = f"config key trainings.{name}.regularisation"
    fitting = [network for network in config.networks if is_for(training, network)]
    if chosen.layers != "mvl":
        there = {n: probed_layers(n) for n in fitting}
        for layer in chosen.layers:
            if not any(has_probe(network, layer) for network in fitting):
                every = [name for names in there.values() for name in names]
                raise UserError(
                    f"{key}.layers: network {', '.join(fitting)} has no layer {layer!r}; "
                    f"{nearest(layer, every)}"
                )
        for network, names in there.items():
            if not any(has_probe(network, layer) for layer in chosen.layers):
                raise UserError(
                    f"{key}.layers: none of them is a layer of network {network}; add one of: "
                    f"{some(names)}"
                )
        for network in fitting if chosen.at == "activation" else []:
            for layer in chosen.layers:
                seen = networks()[network].get("probes", [layer])
                if has_probe(network, layer) and layer not in seen:
                    raise UserError(
                        f"{key}.layers: no activation function follows {layer} in network "
                        f"{network}; set at to layer, or choose from: {some(seen) or 'none'}"
                    )
        if isinstance(chosen.gamma, dict) and set(chosen.gamma) != set(chosen.layers):
            raise UserError(f"{key}.gamma: give one for each of layers, or a single number")
        for part in ("of", "perturber", "eta"):
            if getattr(chosen, part) is not None:
                raise UserError(f"{key}.{part}: is for layers mvl only; leave it out")
        return
    if isinstance(chosen.gamma, dict):
        raise UserError(f"{key}.gamma: with layers mvl, the layers are not known; give one number")
    standard = [n for n, t in config.trainings.items() if t.recipe == "standard"]
    if chosen.of is None and len(standard) != 1:
        raise UserError(
            f"{key}.of: missing; {len(standard)} trainings are standard, name the one whose "
            "most vulnerable layers are meant"
        )
    chosen.of = chosen.of or (standard[0] if standard else None)
    if chosen.of not in standard:
        raise UserError(
            f"{key}.of: {chosen.of!r} is no training of recipe standard; "
            f"{nearest(chosen.of, standard)}"
        )
    for network in fitting:
        if not is_for(config.trainings[chosen.of], network):
            raise UserError(f"{key}.of: training {chosen.of!r} is not for network {network}")
    perturbers = [*(section.perturbers or []), *(section.noises or {})]
    chosen.perturber = chosen.perturber or perturbers[0]
    if chosen.perturber not in perturbers:
        raise UserError(
            f"{key}.perturber: {chosen.perturber!r} is none of sustainability; "
            f"{nearest(chosen.perturber, perturbers)}"
        )
    if chosen.at != section.at:
        raise UserError(f"{key}.at: differs from sustainability.at, which makes the list")
    if section.split == "test":
        raise UserError(
            "config key sustainability.split: trainings are judged on test images, so the most "
            f"vulnerable layers that trainings.{name} regularises must not come from them; set it "
            "to validation or train"
        )
    chosen.eta = section.eta if chosen.eta is None else chosen.eta
