"""How much faster a CPU is with channels last, and whether `faultline.networks.layout` takes it.

    pip install -e .    # once
    python benchmarks/layout.py    # a few minutes
    python benchmarks/layout.py small_resnet resnet50 --repetitions 9

The same weights and images either way in turn, in one process on one thread, on digits enlarged to
32 pixels (AlexNet 64, Inception 75): the gradient of the loss with respect to images, as attacks
take it, and with respect to parameters, as training does. A ratio is CPU time with channels first
over that with channels last: median, smallest and largest over repetitions.
"""

import argparse
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F
from sweep import digits, machine

from faultline.networks.architectures import from_torchvision
from faultline.networks.layout import lay_out
from faultline.networks.registry import REGISTRY, Entry, build

SIDES = {"alexnet": 64, "inception_v3": 75}
NETWORKS = (
    *("small_conv", "small_resnet", "lsa_mnist", "squeezenet1_1", "shufflenet_v2_x1_0"),
    *("mobilenet_v3_small", "efficientnet_b0", "mnasnet1_0", "densenet121", "googlenet"),
    *("inception_v3", "convnext_tiny", "resnet18", "resnet34", "resnet50", "alexnet", "vgg16"),
)
GREY = ("small_conv", "small_resnet", "lsa_mnist", "resnet18")


def seconds(network, images, labels, wanted) -> float:
    """CPU time of one gradient."""
    began = time.process_time()
    loss = F.cross_entropy(network(images), labels)
    torch.autograd.grad(loss, wanted, allow_unused=True)
    return time.process_time() - began


def ratios(network, images, labels, wanted, *, repetitions: int) -> str:
    taken = {torch.contiguous_format: [], torch.channels_last: []}
    for _ in range(repetitions + 1):
        for layout, times in taken.items():
            network.to(memory_format=layout)
            times.append(seconds(network, images, labels, wanted))
    first, last = (times[1:] for times in taken.values())  # without the one that warms up
    found = [one / other for one, other in zip(first, last, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--images", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; one thread, {given.images} images")
    print("| network | as attacks do | as training does | laid out |\n|---|---|---|---|")
    for name in given.networks:
        REGISTRY.setdefault(name, Entry(partial(from_torchvision, name), "image", 32))
        side = SIDES.get(name, 32)
        images, labels = digits((1 if name in GREY else 3, side, side))
        labels = labels[: given.images]
        images = images[: given.images].clone(memory_format=torch.contiguous_format)
        network = build(name, shape=images.shape[1:], classes=10, mean=0.3, std=0.38, seed=0)
        taken = lay_out(network)
        attacked = images.clone().requires_grad_()
        network.requires_grad_(False)
        found = [ratios(network, attacked, labels, attacked, repetitions=given.repetitions)]
        network.requires_grad_()
        wanted = [*network.parameters()]
        found.append(ratios(network, images, labels, wanted, repetitions=given.repetitions))
        print(f"| {name} | {' | '.join(found)} | {'yes' if taken else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
