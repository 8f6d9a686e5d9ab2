"""What a config costs before it is run: arithmetic, time and storage, counted from its networks.

    pip install -e .    # once
    python benchmarks/cost.py configs/synaptic-filtering.yaml --tflops 10

Multiply-accumulates are counted layer by layer on the networks themselves (on torch's meta
device, which computes nothing). A backward pass counts as two forward passes in training and as
one in attacks, which need the gradient of the images alone. A sweep counts what its engine
computes: from the ablated layer on, and without single filters from the one after the next on, as
the next changes by a term of low rank; an attack anew on each ablated network shares the first
forward pass up to the ablated layer. What is saved where only some images change, or where networks
repeat, is not counted, as it depends on the weights. `--tflops` is the speed to divide by: what the
machine sustains on such networks, not its data sheet.
"""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

import torch
import yaml

from faultline.ablation.variants import RANDOM_SHARES
from faultline.attacks.methods import method_of
from faultline.config.trainings import is_for
from faultline.data.describe import describe
from faultline.data.sources import Source
from faultline.networks.layers import layers
from faultline.networks.registry import REGISTRY
from faultline.networks.selection import count_filters, select_layers
from faultline.run.plan import Plan
from faultline.studies.config import resolve
from faultline.training.registry import base_of

ROOT = Path(__file__).parents[1]


def multiply_accumulates(name: str, shape: tuple, classes: int) -> tuple[dict[str, int], int]:
    """(layer -> multiply-accumulates for one image, number of parameters) of a network."""
    counts = {}
    with torch.device("meta"):
        network = REGISTRY[name].build(shape, classes).eval()
        for layer_name, layer in layers(network).items():
            layer.register_forward_hook(
                lambda layer, _, output, name=layer_name: counts.__setitem__(
                    name, output[0].numel() * layer.weight[0].numel()
                )
            )
        network(torch.empty(1, *shape))
    return counts, sum(p.numel() for p in network.parameters())


def passes(attack: dict, strengths: int = 1) -> int:
    """Forward passes that an attack costs per image: two a step, and one to judge."""
    return strengths * (2 * (1 if method_of(attack["method"]).one_step else attack["steps"]) + 1)


def training_passes(training: dict) -> int:
    """Forward passes that a training costs per image and epoch, its crafting included."""
    base = base_of(training["recipe"])
    if base == "standard":
        return 3
    steps = 1 if base in ("at-fgsm", "at-fast") else training["adversarial"]["steps"]
    both = training["regularisation"] is not None or base == "at-trades"
    return 2 * steps + 3 * (1 + both)


def cost(plan: Plan, name: str, source: Source, network: str, training_name: str) -> Counter:
    """Multiply-accumulates by stage and bytes by kind, over all seeds and epochs of a training."""
    config = plan.config.dump()
    dataset, training = config["datasets"][name], config["trainings"][training_name]
    of = {"dataset": name, "network": network, "training": training_name}

    def count(places: list[dict]) -> int:
        return sum(place.items() >= of.items() for place in places)

    counts, parameters = multiply_accumulates(network, source.shape, source.classes)
    forward, names = sum(counts.values()), list(counts)
    after = {name: sum(counts[n] for n in names[i:]) for i, name in enumerate(names)}
    beyond = {name: sum(counts[n] for n in names[i + 2 :]) for i, name in enumerate(names)}
    test = dataset["test"] or source.test
    train = dataset["train"] or source.train or dataset["samples"]
    if not dataset["train"]:
        train -= test * (not source.official_test)
        train -= (dataset["validation"] or 0) * (not source.official_validation)
    sweep, dropout, again = (
        config[k] for k in ("synaptic_filtering", "nodal_dropout", "retraining")
    )
    ablation, attacks = config["ablation"], config["attacks"]
    seeds, checkpoints = len(config["seeds"]), count(plan.checkpoints())
    targeted = count(plan.of_section("targeting"))
    retrained = count(plan.of_section("retraining", "from_epochs")) * len(plan.policies())
    there = {"test": test, "validation": dataset["validation"] or test}[ablation["split"]]
    images = min(ablation["images"] or there, there)
    anew = [passes(attack) - 1 for attack in plan.image_sets()["recrafted"].values()]
    # chosen by margin, they come from the whole split, which is attacked and evaluated once
    whole = there if ablation.get("choose") == "margin" else images
    shared = {*plan.transferred()}
    looked = 1 + len(shared) + sum(passes(a) for a in plan.image_sets()["recrafted"].values())
    stored = shared | {*(config["targeting"]["attacks"] if targeted else ())}

    def judged(layer: str | None = None, *, rest=after) -> int:
        """Of one ablated network; None: of all layers at once."""
        whole, first = (rest[layer], after[layer]) if layer else (forward, forward)
        crafted = sum(first + forward * count for count in anew)
        return images * (whole * (1 + len(plan.transferred())) + crafted)

    drawn = sweep["random_draws"] * len(RANDOM_SHARES)
    variants = checkpoints * (sweep["thresholds"] * len(sweep["filters"]) + drawn)
    curves = sum(passes(a, len(a["eps_grid"]) - 1) for a in attacks.values())
    recrafted = 1 + sum(passes(attacks[a]) for a in again["judged_under"])
    dropped = sum(
        judged(n, rest=beyond) * count_filters(network, n, source.classes)
        for n in select_layers(network, dropout["layers"])
    )
    perturb = config["perturbations"]
    shares, sigmas = (sum(map(bool, perturb[key])) for key in ("shares", "sigmas"))
    draws = perturb["repeats"] * sum(
        (sigmas if kind == "gaussian" else shares)
        * (1 if kind == "node_knockout" else len(perturb["parameters"]))
        for kind in perturb["kinds"]
    )
    return Counter(
        {
            "train": seeds * training["epochs"][-1] * train * training_passes(training) * forward,
            "attack": checkpoints * test * curves * forward,
            "craft": checkpoints
            * sum((whole if a in shared else images) * passes(attacks[a]) for a in stored)
            * forward,
            "choose_images": checkpoints * there * looked * forward * (whole != images),
            "ablate_layer": variants
            * sum(judged(n) for n in select_layers(network, sweep["layers"])),
            "ablate_global": variants * judged() * sweep["global"],
            "ablate_filters": checkpoints * dropped,
            "perturb_layer": count(plan.of_section("perturbations"))
            * draws
            * sum(judged(n) for n in select_layers(network, perturb["layers"])),
            "retrain": retrained
            * (again["epochs"] * train * training_passes(training) + test * recrafted)
            * forward,
            "bytes of checkpoints": (checkpoints + retrained) * parameters * 12,
            "bytes of adversarial sets": checkpoints
            * sum(whole if a in shared else images for a in stored)
            * 4
            * math.prod(source.shape),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--tflops", type=float, default=10.0, help="sustained, 1e12 operations a second"
    )
    chosen = parser.parse_args()
    config = resolve(yaml.safe_load(chosen.config.read_text()))
    plan, total = Plan(config), Counter()
    for name, dataset in config.datasets.items():
        source = describe(dataset.dump(), name=name)
        if dataset.source == "image_folder" and not (dataset.train and dataset.test):
            sys.exit(f"datasets.{name}: its images are not counted here; set train and test")
        for network in config.networks:
            for training, settings in config.trainings.items():
                if is_for(settings, network):
                    total += cost(plan, name, source, network, training)
    work = {stage: 2 * amount for stage, amount in total.items() if "bytes" not in stage}
    for stage, operations in [*work.items(), ("all stages", sum(work.values()))]:
        hours = operations / (chosen.tflops * 1e12) / 3600
        print(
            f"{stage:26} {operations / 1e15:9.3f} PFLOP {hours:9.2f} h at {chosen.tflops:g} TFLOP/s"
        )
    for kind, amount in total.items():
        if "bytes" in kind:
            print(f"{kind.removeprefix('bytes of '):26} {amount / 1e9:10.1f} GB")


if __name__ == "__main__":
    main()
