"""What drawing images by margin saves: samples of a test set beside the whole of it.

    pip install -e .    # once
    python benchmarks/sampling.py                        # trains a ResNet-18 first; minutes
    python benchmarks/sampling.py --data results/.../data.pt --checkpoint results/.../checkpoint.pt

Every variant is swept once over all test images. From these facts hundreds of samples are drawn, by
margin (`ablation.choose: margin`) and at random, scored and classified as the workflow does it, and
compared with the whole test set:

    variance    how many times less the scores vary over samples than over random ones of as many
                images: the median over variants, with the 5th and 95th percentile (without end
                where all images that change are in strata that are drawn whole)
    agree       of the classes that the whole set decides, those that a sample decides alike
    contradict  those that it decides otherwise
    covered     intervals (95 %) of a sample that hold the score of the whole set

Facts are kept in --folder: a second run only draws samples.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from faultline.ablation.choosing import choose, expected_changes, margins
from faultline.ablation.facts import Facts
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants, synaptic_variants
from faultline.attacks.run import crafters
from faultline.base.errors import UserError
from faultline.base.files import load_arrays, save_arrays
from faultline.data.splits import prepare, test_images
from faultline.networks.evaluation import predict
from faultline.networks.layers import layers
from faultline.run.loading import build_network, load_dataset, load_network
from faultline.studies.synaptic.classes import classify
from faultline.studies.synaptic.scores import band_scores, filter_scores, layer_scores

CPU = torch.device("cpu")
FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.02, "normalised_units": False}
TAU = {"filters": 0.01, "bands": 0.05, "layers": 0.1}  # as the config has it by default
BATCH = 1000  # images swept at once: what FGSM keeps of them must fit into memory

# name: layer, unit, every so manieth filter or the number of thresholds, attacked too
CASES = {
    "conv1, filters": ("conv1", "filters", 4, False),
    "layer2.0.conv1, filters": ("layer2.0.conv1", "filters", 4, False),
    "layer3.0.conv2, filters": ("layer3.0.conv2", "filters", 8, False),
    "layer4.1.conv1, filters": ("layer4.1.conv1", "filters", 8, False),
    "layer2.0.conv1, filters, FGSM": ("layer2.0.conv1", "filters", 16, True),
    "layer2.1.conv1, bands": ("layer2.1.conv1", "bands", 9, False),
    "layer4.0.conv1, bands": ("layer4.0.conv1", "bands", 9, False),
    "layer4.0.conv1, layer": ("layer4.0.conv1", "layers", 9, False),
}


def trained(name: str, dataset, *, epochs: int = 2):
    network = build_network(name, dataset, seed=0, device=CPU).train()
    images, labels = dataset.splits["train"]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(100):
            loss = F.cross_entropy(network(dataset.pixels(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def whole(network, images, labels, attacks, *, layer: str, unit: str, step: int) -> Facts:
    """The facts of one case on all images."""
    module = layers(network)[layer]
    if unit == "filters":
        filters = range(0, len(module.weight), step)
        variants = list(nodal_variants(layer, module, filters=filters, at="weights"))
    else:
        kinds = ["pulse"] if unit == "bands" else ["high_pass", "low_pass"]
        variants = synaptic_variants({layer: module}, kinds=kinds, count=step)
    quiet = {"ablated": [layer], "attacks": attacks, "say": lambda _: None}
    parts = [
        sweep(network, variants, {"clean": some}, of_some, **quiet)
        for some, of_some in zip(images.split(BATCH), labels.split(BATCH), strict=True)
    ]
    sets = parts[0].base
    facts = Facts(
        variants=parts[0].variants,
        base={k: np.concatenate([p.base[k] for p in parts]) for k in sets},
        correct={k: np.concatenate([p.correct[k] for p in parts], axis=1) for k in sets},
        changed={k: sum(p.changed[k] for p in parts) for k in sets},
        chance=labels.bincount().max().item() / len(labels),
    )
    if unit == "filters":
        facts.variants["changed_activations"] = facts.changed["clean"]
    return facts


def sampled(facts: Facts, index: np.ndarray, strata=None) -> Facts:
    """What a sweep of some of the images would have found."""
    return Facts(
        variants=facts.variants,
        base={k: base[index] for k, base in facts.base.items()},
        correct={k: correct[:, index] for k, correct in facts.correct.items()},
        changed=facts.changed,
        chance=facts.chance,
        strata=strata,
    )


def classes(facts: Facts, unit: str) -> pd.DataFrame:
    common = {"baseline": "unfiltered", "confidence": 0.95}
    table = {
        "filters": lambda: filter_scores(facts, confidence=0.95),
        "bands": lambda: band_scores(facts, **common),
        "layers": lambda: layer_scores(facts, **common, integration="trapezoid"),
    }[unit]()
    tau = dict.fromkeys(("S_clean", "S_adv", "S_diff"), TAU[unit])
    table = classify(table, tau=tau, by=["attack", "score"])
    return table[~table["untouched"]]


def compared(facts: Facts, found: dict, unit: str, *, images: int, draws: int) -> list[dict]:
    """A row for samples by margin and one for random ones.

    found: image set -> margins [N].
    """
    truth, n = classes(facts, unit), len(facts.base["clean"])
    expected = expected_changes({name: found[name] for name in facts.base})
    rng, tables = np.random.default_rng(0), {"margin": [], "random": []}
    for draw in range(draws):
        chosen = choose(expected, images, seed=draw)
        by_chance = np.sort(rng.choice(n, images, replace=False))
        tables["margin"].append(classes(sampled(facts, *chosen), unit))
        tables["random"].append(classes(sampled(facts, by_chance), unit))

    def of(name, column):
        return np.stack([table[column].to_numpy() for table in tables[name]])

    sure, value = truth["decided"].to_numpy(bool), truth["value"].to_numpy(float)
    variance = {name: of(name, "value").astype(float).var(0) for name in tables}
    seen = (variance["margin"] > 0) & (variance["random"] > 0)
    ratio = variance["random"][seen] / variance["margin"][seen]
    rows = []
    for name in tables:
        decided, same = of(name, "decided").astype(bool), of(name, "class") == [*truth["class"]]
        inside = (of(name, "ci_low") <= value) & (value <= of(name, "ci_high"))
        row = {"scores": len(truth), "decided": sure.sum(), "drawn": name}
        if name == "margin" and len(ratio):
            spread = np.quantile(ratio, [0.5, 0.05, 0.95])
            row["variance"] = "{:.3g} ({:.3g} to {:.3g})".format(*spread)
        row["agree"] = (decided & same)[:, sure].mean() if sure.any() else np.nan
        row["contradict"] = int((decided & ~same)[:, sure].sum())
        rows.append(row | {"covered": inside.mean()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="results/benchmark-sampling", type=Path)
    parser.add_argument("--images", default=1250, type=int, help="of each sample")
    parser.add_argument("--draws", default=200, type=int, help="samples")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--data", help="a prepared data set; else Fashion-MNIST from --source")
    parser.add_argument("--source", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--checkpoint", help="of the network; else one is trained")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    given = parser.parse_args()
    torch.set_num_threads(1)

    if given.data:
        dataset = load_dataset(given.data, CPU)
    else:
        splits = {"train": 10000, "validation": 1000, "test": None, "split_seed": 0}
        dataset = prepare("fashion_mnist", folder=given.source, **splits)
    if given.checkpoint:
        network, _ = load_network(given.checkpoint, given.network, dataset, device=CPU)
    else:
        network = trained(given.network, dataset)
    images, labels = test_images(dataset)
    attacks = crafters({"fgsm": FGSM}, dataset, seed=0)
    attacked = attacks["fgsm"](network, images, labels)
    logits = {"clean": predict(network, images), "fgsm": predict(network, attacked)}
    found = {name: margins(of, labels) for name, of in logits.items()}
    right = {name: (of.argmax(1) == labels).float().mean().item() for name, of in logits.items()}
    print(
        f"{given.network}, {len(labels):,} images, accuracy {right['clean']:.3f}, under FGSM "
        f"{right['fgsm']:.3f}; {given.draws} samples of {given.images} images; torch "
        f"{torch.__version__}",
        flush=True,
    )
    for name in given.cases:
        layer, unit, step, attacked = CASES[name]
        path = given.folder / f"{name.replace(', ', '-')}.npz"
        try:
            facts = Facts.from_arrays(load_arrays(path))
        except UserError:
            facts = whole(
                network,
                images,
                labels,
                attacks if attacked else {},
                layer=layer,
                unit=unit,
                step=step,
            )
            save_arrays(facts.arrays(), path)
        rows = compared(facts, found, unit, images=given.images, draws=given.draws)
        print(
            f"\n{name}\n{pd.DataFrame(rows).to_string(index=False, float_format='%.4f')}",
            flush=True,
        )


if __name__ == "__main__":
    main()
