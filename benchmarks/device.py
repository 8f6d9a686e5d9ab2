"""How fast sweeps, attacks and training are on each device of a machine, as a table.

    python benchmarks/device.py              # the CPU, and the GPU where torch sees one
    python benchmarks/device.py --tiny cpu   # a moment, to see that it works

Images a second by the clock, the median of three with the smallest and the largest, after one that
is not counted: every 16th filter of the middle layer removed from all images, by the plain loop of
`benchmarks/sweep.py` and by the engine; PGD of ten steps; training with Adam. "same": the share of
the engine's decisions that are those of the CPU. "waits": how often a variant of the sweep kept the
CPU waiting for the GPU, as torch counts it.
"""

import argparse
import statistics
import time
import warnings

import torch
from sweep import CASES, digits, loop, trained

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.attacks.craft import craft
from faultline.networks.evaluation import exact
from faultline.networks.layers import filters, layers

PGD = {"attack": {"method": "pgd", "steps": 10}, "eps": 0.05, "bounds": (0.0, 1.0), "seed": 0}
HEAD = ["network", "device", "plain loop", "engine", "times", "same", "waits", "PGD", "training"]


def rate(work, images: int, device: str) -> tuple[str, float]:
    """Images a second in words, and the median."""
    took = []
    for _ in range(4):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(images / (time.perf_counter() - began))
    found = sorted(took[1:])
    return f"{found[1]:,.0f} ({found[0]:,.0f} to {found[2]:,.0f})", statistics.median(found)


def waits(work, device: str) -> int:
    """How often a call waits for the GPU."""
    if device != "cuda":
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in found)


def train(network, images, labels) -> None:
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    for part, target in zip(images.split(100), labels.split(100), strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(part), target).backward()
        optimizer.step()


def measured(name: str, devices: list[str], tiny: bool):
    """The rows of one network."""
    shape, n, steps = CASES[name]
    n, steps = (20, 1) if tiny else (n, steps)
    network = trained(name, shape, steps)
    known = layers(network)
    layer = list(known)[len(known) // 2]
    chosen = range(0, filters(known[layer]), 16)
    expected = None
    for device in devices:
        network.to(device)
        images, labels = (part[:n].to(device) for part in digits(shape))
        variants = [*nodal_variants(layer, layers(network)[layer], filters=chosen, at="weights")]

        def engine(images=images, labels=labels, variants=variants):
            given = {"ablated": [layer], "say": lambda _: None}
            return sweep(network, variants, {"clean": images}, labels, **given)

        def naive(images=images, variants=variants):
            with exact():
                loop(network, variants, images, len(images))

        done = len(variants) * n
        told, plain = rate(naive, done, device)
        made, fast = rate(engine, done, device)
        correct = engine().correct["clean"]
        expected = correct if expected is None else expected
        waited = waits(engine, device) / len(variants)
        attacked, _ = rate(lambda i=images, y=labels: craft(network, i, y, **PGD), n, device)
        learned, _ = rate(lambda i=images, y=labels: train(network, i, y), n, device)
        same = (correct == expected).mean()
        row = [told, made, f"{fast / plain:.1f}", f"{same:.2%}", f"{waited:.2f}"]
        yield [name, device, *row, attacked, learned]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("devices", nargs="*", default=found, help="cpu first")
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args()
    networks = ["small_conv"] if chosen.tiny else ["small_conv", "small_resnet", "resnet18"]
    print(f"\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in networks:
        for row in measured(name, chosen.devices, chosen.tiny):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
