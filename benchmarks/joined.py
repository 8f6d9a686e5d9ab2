"""What it saves on a CPU to compute few images of several filters as one batch.

    python benchmarks/joined.py    # about a minute

CPU time of a sweep of filters of one layer, one by one over joined (`JOINED` images at most, see
`faultline.ablation.engines`), in turn, one thread: the median of repetitions, the smallest and the
largest.
"""

import argparse
import statistics
import time

import torch
from sweep import digits, machine

from faultline.ablation import engines
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.base.memory import keep_freed
from faultline.networks.layers import layers
from faultline.networks.layout import lay_out
from faultline.networks.registry import build

CASES = {
    "resnet18": ((1, 28, 28), "layer2.0.conv1", 24),
    "small_resnet": ((1, 8, 8), "layer1.conv1", 16),
    "small_conv": ((1, 8, 8), "conv2", 32),
}


def seconds(network, layer: str, filters: int, images, labels, *, joined: int) -> float:
    engines.JOINED = joined
    variants = [
        *nodal_variants(layer, layers(network)[layer], filters=range(filters), at="activation")
    ]
    began = time.process_time()
    sweep(network, variants, {"clean": images}, labels, ablated=[layer], say=lambda _: None)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    keep_freed()
    usual = engines.JOINED
    print(f"{machine()}; {repetitions} repetitions, up to {usual} images")
    for name, (shape, layer, filters) in CASES.items():
        network = build(name, shape=shape, classes=10, mean=0.3, std=0.38, seed=0).eval()
        lay_out(network)
        for n in (10, 30):
            images, labels = (part[:n] for part in digits(shape))
            given = (network, layer, filters, images, labels)
            seconds(*given, joined=usual)
            pairs = [
                (seconds(*given, joined=1), seconds(*given, joined=usual))
                for _ in range(repetitions)
            ]
            saved = sorted(alone / together for alone, together in pairs)
            told = f"{statistics.median(saved):.2f} ({saved[0]:.2f} to {saved[-1]:.2f})"
            print(f"{name}, {n} images: {told}", flush=True)


if __name__ == "__main__":
    main()
