"""How fast the sweep engine is, side by side with what one would write or use instead.

    pip install -e .    # once
    python benchmarks/sweep.py --quick    # less than five minutes on two cores
    python benchmarks/sweep.py
    python benchmarks/sweep.py resnet18 alexnet --repetitions 9
    python benchmarks/sweep.py --more    # transformers and other newer networks, few layers of each
    python benchmarks/sweep.py --more bert vit swinv2    # of transformers and timm, all layers
    python benchmarks/sweep.py --apgd small_resnet resnet18
    python benchmarks/sweep.py --stress fog resnet18 alexnet    # images at its severity 3

Everything runs on the same weights, images, batch size and threads, in turn, in one process:

    loop       the plain loop at its best: parameters changed in place and put back, no copies,
               inference mode
    notebook   a deep copy and a state dict for each variant
    captum     LayerFeatureAblation, where captum is installed
    MRFI       weight injection, where MRFI is installed
    engine     faultline.ablation.sweep

For single filters, neurons and heads, a few of every layer are removed; removing all of them takes
the set-up of each layer plus its number of filters times the time of one, both from the same run:
the difference of two runs would be mostly noise where a set-up takes as long as a thousand filters.
Threshold sweeps (75 variants a layer) and re-crafted attacks (FGSM, ten filters a layer) are run
whole on a few layers. Predictions must be the same, image by image and variant by variant, but for
ties of the two largest logits within rounding, which are counted; else no ratio is printed. "limit"
is what multiply-accumulates alone would allow an engine that computes every layer from the removed
filter on, and nothing before; equal networks once; under an attack also the gradient through the
whole network and the whole network on what was crafted, with the forward of the gradient as the
clean evaluation. It can be surpassed by what shares more. APGD (10 steps, ten filters a layer)
stops in the engine at images that are misclassified, with which the loop goes on: no limit is told.
The engine attacks the unfiltered network, too.
A ratio is a median over repetitions, with the smallest and the largest, of CPU time.
"""

import argparse
import copy
import importlib.util
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.flop_counter import FlopCounterMode

from faultline.ablation.sweep import TOLERANCE, logits_of, sweep
from faultline.ablation.tracing import Traced
from faultline.ablation.variants import Variant, nodal_variants, synaptic_variants, without
from faultline.attacks.craft import craft
from faultline.base.memory import keep_freed
from faultline.networks.architectures import from_torchvision
from faultline.networks.layers import filters as units_of
from faultline.networks.layers import kind, layers
from faultline.networks.registry import REGISTRY, Entry, build, classifier
from faultline.networks.vision import load_torchvision
from faultline.stresses.registry import stressed

# network: shape of an image, images, steps of training
CASES = {
    "resnet18": ((1, 28, 28), 300, 60),
    "squeezenet1_1": ((3, 32, 32), 300, 250),
    "vgg11_bn": ((3, 32, 32), 100, 20),
    "alexnet": ((3, 64, 64), 200, 60),
    "shufflenet_v2_x1_0": ((3, 32, 32), 300, 60),
    "small_conv": ((1, 8, 8), 500, 300),
    "small_resnet": ((1, 8, 8), 500, 300),
}
MORE = {
    "vit_b_16": ((3, 32, 32), 100, 20),
    "swin_t": ((3, 32, 32), 100, 30),
    "convnext_tiny": ((3, 32, 32), 100, 30),
    "mobilenet_v3_small": ((3, 32, 32), 100, 60),
    "efficientnet_b0": ((3, 32, 32), 100, 60),
    "regnet_y_400mf": ((3, 32, 32), 100, 60),
    "densenet121": ((3, 32, 32), 100, 30),
    "googlenet": ((3, 32, 32), 100, 60),
    "inception_v3": ((3, 75, 75), 50, 20),
}
for name in ("vgg11_bn", *MORE):
    REGISTRY[name] = Entry(partial(from_torchvision, name), "image", 32)
QUICK = ("resnet18", "alexnet", "small_resnet")
LR = {"vgg11_bn": 1e-4, "squeezenet1_1": 3e-4, "vit_b_16": 1e-4, "swin_t": 1e-4}
ATTACKS = {
    name: {"attack": {"method": name, "steps": 10}, "eps": 0.05, "bounds": (0.0, 1.0), "seed": 0}
    for name in ("fgsm", "apgd")
}


def digits(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's digits, enlarged to a shape: (images in 0..1, labels)."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    images = F.interpolate(images, shape[1:], mode="bilinear").expand(-1, shape[0], -1, -1)
    return images.contiguous(), torch.tensor(data.target)


def under(kind: str, images: torch.Tensor) -> torch.Tensor:
    """Images under a stress of severity 3."""
    as_stored = SimpleNamespace(pixels=lambda stored: stored, bounds=(0.0, 1.0), levels=None)
    return stressed(kind, images, severity=3, dataset=as_stored, seed=0).contiguous()


def trained(name: str, shape: tuple, steps: int):
    """A network after a few steps of training, in eval mode: real weights, real statistics."""
    images, labels = digits(shape)
    network = build(name, shape=shape, classes=10, mean=0.3, std=0.38, seed=0).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LR.get(name, 1e-3))
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)  # dropout
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,), generator=generator)
        loss = F.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


# The other ways to do it. Each gives the predictions [n] of every variant, in order.


def parameters_of(network, variant: Variant) -> dict:
    """Parameter -> its value under a variant."""
    known = layers(network)
    mask = variant.mask
    made = without(mask, known[mask.layer]) if mask else variant.replace()
    return {network.body.get_parameter(name): value for name, value in made.items()}


@torch.inference_mode()
def loop(network, variants, images, batch_size):
    predictions = []
    for variant in variants:
        made = parameters_of(network, variant)
        kept = {parameter: parameter.data for parameter in made}
        for parameter, value in made.items():
            parameter.data = value
        predictions.append(
            torch.cat([network(batch).argmax(1) for batch in images.split(batch_size)])
        )
        for parameter, value in kept.items():
            parameter.data = value
    return predictions


@torch.no_grad()
def notebook(network, variants, images, batch_size):
    predictions = []
    for variant in variants:
        copied = copy.deepcopy(network)
        state = copied.state_dict()
        names = {parameter: name for name, parameter in network.named_parameters()}
        state.update({names[p]: value for p, value in parameters_of(network, variant).items()})
        copied.load_state_dict(state)
        copied.eval()
        predictions.append(
            torch.cat([copied(batch).argmax(1) for batch in images.split(batch_size)])
        )
    return predictions


def captum(network, variants, images, batch_size):
    """Of one layer; one more group holds all other filters, and one run removes nothing."""
    from captum.attr import LayerFeatureAblation

    layer = layers(network)[variants[0].mask.layer]
    groups = torch.zeros(len(layer.weight), dtype=torch.long)
    for group, variant in enumerate(variants, start=1):
        groups[list(variant.mask.filters)] = group
    groups = groups.reshape(1, -1, *[1] * (layer.weight.dim() - 2))
    found = []
    with torch.no_grad():
        for batch in images.split(batch_size):
            seen = []

            def predict(images, seen=seen):
                seen.append(network(images).argmax(1))
                return seen[-1].float()

            LayerFeatureAblation(predict, layer).attribute(
                batch, layer_baselines=0, layer_mask=groups
            )
            found.append(torch.stack(seen[-len(variants) :]))
    return list(torch.cat(found, 1))


def mrfi(network, variants, images, batch_size):
    import mrfi as library

    def of_filter(shape, index):
        return torch.arange(torch.Size(shape).numel()).reshape(shape)[index].flatten()

    library.add_function("of_filter", of_filter)
    name = variants[0].mask.layer
    injector = {
        "type": "weight",
        "name": [key for key, _ in layers(network)[name].named_parameters()],
        "enabled": True,
        "selector": {"method": "of_filter", "index": 0},
        "error_mode": {"method": "SetZero"},
        "module_fullname": [f"body.{name}"],
    }
    copied = copy.deepcopy(network).requires_grad_(False)
    model = library.MRFI(copied, library.EasyConfig({"faultinject": [injector]}))
    found = []
    for variant in variants:
        for settings in model.get_weights_configs("selector"):
            settings.args.index = variant.mask.filters[0]
        found.append(torch.cat([model(b).argmax(1) for b in images.split(batch_size)]))
    return found


def loop_recrafted(network, variants, images, labels, batch_size, method):
    """Clean and re-crafted correctness of every variant."""
    found = []
    for variant in variants:
        made = parameters_of(network, variant)
        kept = {parameter: parameter.data for parameter in made}
        for parameter, value in made.items():
            parameter.data = value.detach()
        adversarial = craft(network, images, labels, **ATTACKS[method], batch_size=batch_size)
        with torch.inference_mode():
            found.append(
                [
                    torch.cat([network(b).argmax(1) for b in x.split(batch_size)]) == labels
                    for x in (images, adversarial)
                ]
            )
        for parameter, value in kept.items():
            parameter.data = value
    return found


# Measuring


def seconds(function, *arguments):
    """CPU time of a call and its result: other work on the machine counts for less."""
    began = time.process_time()
    made = function(*arguments)
    return time.process_time() - began, made


def engine(network, variants, images, batch_size, attacks=None, labels=None):
    """As in a job: the network is traced anew."""
    (layer,) = {v.mask.layer if v.mask else v.columns["layer"] for v in variants}
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    return sweep(
        network, variants, {"clean": images}, labels,
        ablated=[layer], attacks=attacks, batch_size=batch_size, say=lambda _: None,
    )  # fmt: skip


def assert_same(network, variants, images, batch_size, expected) -> int:
    """Ties; exits where the engine predicts otherwise than `expected` without a tie."""
    layer = variants[0].mask.layer if variants[0].mask else variants[0].columns["layer"]
    ties, begin = 0, 0
    for batch in images.split(batch_size):
        made = logits_of(network, variants, batch, ablated=[layer])
        next(made)
        for variant, logits, whole in zip(variants, made, expected, strict=True):
            best, second = logits.topk(2, dim=1).values.unbind(1)
            tied = best - second <= TOLERANCE * logits.abs().max()
            ties += int(tied.sum())
            if ((logits.argmax(1) != whole[begin : begin + len(batch)]) & ~tied).any():
                sys.exit(f"{layer}: {variant.columns} is predicted otherwise; no ratio")
        begin += len(batch)
    return ties


WAYS = {"loop": loop, "notebook": notebook, "captum": captum, "MRFI": mrfi, "engine": engine}


def peak(name: str, way: str) -> str:
    """MB that a way takes at most, on top of what two images take, in a process of its own."""
    command = [sys.executable, __file__, name, "--peak", way]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def print_peak(name: str, way: str) -> None:
    shape, n, _ = (CASES | MORE)[name]
    network, images = trained(name, shape, 0), digits(shape)[0][:n]
    known = layers(network)
    layer = list(known)[len(known) // 2]
    variants = list(nodal_variants(layer, known[layer], filters=[0, 1], at="weights"))
    WAYS[way](network, variants, images[:2], n)
    before, most, done = resident(), [0], threading.Event()

    def watch():
        while not done.wait(0.001):
            most.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    WAYS[way](network, variants, images, n)
    done.set()
    watcher.join()
    print(max(0, round((max(most) - before) / 1e6)))


def resident() -> int:
    """Bytes of memory in use (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def spread(values) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def told(found: dict) -> str:
    limit = f", limit {found['limit']:.1f}" if "limit" in found else ""
    return spread(found["ratio"]) + limit


def machine() -> str:
    """Processor, cores and versions."""
    named = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = named[1] if named else platform.processor()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, {versions}, CPU"


def few(count: int, most: int) -> list[int]:
    """Indices spread evenly."""
    return sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(most)})


class Timed(list):
    """Variants that know how long a sweep was busy with them: what it does for each, over all."""

    planned = 0.0
    begun = ended = 0.0

    def __iter__(self):
        began = time.process_time()
        yield from super().__iter__()
        self.planned += time.process_time() - began

    def __getitem__(self, index):
        if index:  # the first one is looked at before anything runs
            self.ended = time.process_time()
            self.begun = self.begun or self.ended
        return super().__getitem__(index)

    def each(self) -> float:
        return (self.planned + self.ended - self.begun) / len(self)


def operations(network, images, names) -> dict[str, tuple[int, int, int]]:
    """Of some layers, name -> multiply-accumulates of one image in (the network, the layer, what is
    behind it).

    Of a layer without an output of its own, such as a head of an attention, it is all behind it.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.enable_grad():  # else attention runs as one operation that is not counted
        network(images[:1])
    counts = {
        name.partition(".")[2]: sum(of.values()) // 2
        for name, of in counter.get_flop_counts().items()
    }
    found = {}
    for name in names:
        traced = Traced(network, [name], images[:2])
        cost = partial(_cost, traced, counts)
        after = sum(map(cost, traced.after))
        own = sum(map(cost, traced.nodes[name])) if name in traced.direct else 0
        found[name] = after + sum(map(cost, traced.before)), own, after - own
    return found


def _cost(traced: Traced, counts: dict[str, int], node) -> int:
    if node.op == "call_module":
        uses = sum(other.target == node.target for other in traced.graph.nodes)
        return counts.get(node.target, 0) // uses
    if node.op == "placeholder":
        return 0
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        traced.call(node, traced.example.__getitem__)
    return counter.get_total_flops() // 4  # of two images


def single_filters(network, images, batch_size, repetitions, macs, most) -> dict:
    ratios, ties, shown = [], 0, {}
    plans, known = [], layers(network)
    whole = behind = 0
    for name in [list(known)[i] for i in few(len(known), most)]:
        layer = known[name]
        count = units_of(layer)
        whole += count * macs[name][0]
        behind += count * macs[name][2]
        # of a small network all, as the noise of few would be multiplied
        chosen = few(count, 64 if count <= 64 and len(images) >= 500 else 8)
        plans.append((count, list(nodal_variants(name, layer, filters=chosen, at="weights"))))
    middle = plans[len(plans) // 2][1][:2]
    others = {"notebook": notebook}
    is_filter = kind(known[middle[0].mask.layer]) == "conv"
    for way in ("captum", "MRFI") if is_filter else ():
        if importlib.util.find_spec(way.lower()):
            others[way] = WAYS[way]
    for way in (engine, loop, *others.values()):  # what only a first call takes
        way(network, middle, images[:2], batch_size)
    shown = {name: [] for name in others}
    for repetition in range(repetitions):
        slow = fast = 0.0
        for count, variants in plans:
            compared = variants[:: max(len(variants) - 1, 1)][:2]
            plain, expected = seconds(loop, network, compared, images, batch_size)
            timed = Timed(variants)
            several, _ = seconds(engine, network, timed, images, batch_size)
            slow += count * plain / len(compared)
            fast += several + (count - len(variants)) * timed.each()
            if not repetition:
                ties += assert_same(network, compared, images, batch_size, expected)
        ratios.append(slow / fast)
        plain, expected = seconds(loop, network, middle, images, batch_size)
        for name, other in others.items():
            taken, found = seconds(other, network, middle, images, batch_size)
            if not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)):
                sys.exit(f"{name} predicts otherwise; no ratio")
            runs = len(middle) + 2 if name == "captum" else len(middle)
            shown[name].append(plain / len(middle) / (taken / runs))
    return {"ratio": ratios, "ties": ties, "others": shown, "limit": whole / behind}


def threshold_sweeps(network, images, batch_size, repetitions, macs) -> dict:
    known, ratios, ties = layers(network), [], 0
    chosen = [list(known)[i] for i in few(len(known), 3)]
    plain_macs = least = 0
    for repetition in range(repetitions):
        slow = fast = 0.0
        for name in chosen:
            variants = [
                replace(v, columns={"layer": name})
                for v in synaptic_variants(
                    {name: known[name]}, kinds=["high_pass", "low_pass", "pulse"], count=25
                )
            ]
            compared = variants[10::30]
            plain, expected = seconds(loop, network, compared, images, batch_size)
            whole, _ = seconds(engine, network, variants, images, batch_size)
            slow += len(variants) * plain / len(compared)
            fast += whole
            if not repetition:
                total, own, behind = macs[name]
                distinct = len({v.key for v in variants} - {None})
                plain_macs += len(variants) * total
                least += total + distinct * (own + behind)
                ties += assert_same(network, compared, images, batch_size, expected)
        ratios.append(slow / fast)
    return {"ratio": ratios, "ties": ties, "limit": plain_macs / least}


def recrafted(network, images, labels, batch_size, repetitions, macs, method="fgsm") -> dict:
    known, ratios, differ, total = layers(network), [], 0, 0
    chosen = [list(known)[i] for i in few(len(known), 3)]
    plain_macs = least = 0
    for repetition in range(repetitions):
        slow = fast = 0.0
        for name in chosen:
            filters = few(units_of(known[name]), 10)
            variants = list(nodal_variants(name, known[name], filters=filters, at="weights"))
            plain, expected = seconds(
                loop_recrafted, network, variants[:2], images, labels, batch_size, method
            )
            attack = {method: partial(craft, **ATTACKS[method], until_fooled=True)}
            whole, facts = seconds(engine, network, variants, images, batch_size, attack, labels)
            slow += len(variants) * plain / 2
            fast += whole
            if not repetition:
                # forward on clean images, twice the plain way, gradient, forward on crafted ones
                total_macs, own, behind = macs[name]
                plain_macs += len(variants) * 4 * total_macs
                least += 3 * total_macs + len(variants) * (own + behind + 2 * total_macs)
                for index, pair in enumerate(expected):
                    for kind, hits in zip(("clean", method), pair, strict=True):
                        differ += int((hits.numpy() != facts.correct[kind][index]).sum())
                        total += len(hits)
        ratios.append(slow / fast)
    # a pixel's gradient that is nearly zero may have either sign, so single images may differ
    if differ > 0.005 * total:
        sys.exit(f"re-crafted: {differ} of {total} decisions differ; no ratio")
    found = {"ratio": ratios, "differ": f"{differ}/{total}"}
    return found | {"limit": plain_macs / least} if method == "fgsm" else found


def elsewhere(name: str):
    """(network, inputs) of transformers or timm, of random weights."""
    load_torchvision()  # which both import
    torch.manual_seed(0)
    size = {"hidden_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4}
    size |= {"intermediate_size": 192, "num_labels": 5}
    if name == "bert":
        from transformers import BertConfig, BertForSequenceClassification

        network = BertForSequenceClassification(BertConfig(vocab_size=100, **size))
        return network, torch.randint(1, 100, (100, 32))
    if name == "vit":
        from transformers import ViTConfig, ViTForImageClassification

        network = ViTForImageClassification(ViTConfig(image_size=32, patch_size=4, **size))
        return network, torch.rand(100, 3, 32, 32)
    import timm

    size = {"embed_dim": 24, "depths": (2, 2, 2), "num_heads": (1, 2, 4), "window_size": 4}
    network = timm.create_model("swinv2_tiny_window8_256", img_size=64, num_classes=5, **size)
    return network, torch.rand(100, 3, 64, 64)


ELSEWHERE = ("bert", "vit", "swinv2")


def all_layers(name: str, repetitions: int) -> list[float]:
    """How many times faster than the loop all units of all layers are removed."""
    network, inputs = elsewhere(name)
    network, ratios = classifier(network, inputs), []
    for repetition in range(repetitions):
        slow = fast = 0.0
        for layer, module in layers(network).items():
            count = units_of(module)
            variants = list(nodal_variants(layer, module, filters=few(count, 4), at="weights"))
            plain, expected = seconds(loop, network, variants[:2], inputs, len(inputs))
            timed = Timed(variants)
            several, _ = seconds(engine, network, timed, inputs, len(inputs))
            slow += count * plain / len(variants[:2])
            fast += several + (count - len(variants)) * timed.each()
            if not repetition:
                assert_same(network, variants[:2], inputs, len(inputs), expected)
        ratios.append(slow / fast)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "networks", nargs="*",
        help=f"of {', '.join(CASES)}, which is the default, and {', '.join([*MORE, *ELSEWHERE])}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="few layers of three networks")
    parser.add_argument("--more", action="store_true", help="eight layers of newer networks")
    parser.add_argument("--apgd", action="store_true", help="nothing but re-crafted APGD")
    parser.add_argument("--stress", help="a stress of images, which are not attacked then")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        return print_peak(chosen.networks[0], chosen.peak)
    torch.set_num_threads(chosen.threads)
    keep_freed()
    repetitions = chosen.repetitions or (3 if chosen.quick else 5)
    print(f"{machine()}; {chosen.threads} thread(s), {repetitions} repetitions; x the plain loop")
    default = MORE if chosen.more else QUICK if chosen.quick else CASES
    for name in chosen.networks or [*default, *(ELSEWHERE if chosen.more else ())]:
        if name in ELSEWHERE:
            print(f"{name}: all layers {spread(all_layers(name, repetitions))}", flush=True)
            continue
        shape, n, steps = (CASES | MORE)[name]
        n = min(n, 100) if chosen.quick and shape[1] > 8 else n
        network = trained(name, shape, steps)
        images, labels = (part[:n] for part in digits(shape))
        images = under(chosen.stress, images) if chosen.stress else images
        known = list(layers(network))
        most = 4 if chosen.quick else 8 if name in MORE else len(known)
        compared = {known[i] for count in (most, 3) for i in few(len(known), count)}
        macs = operations(network, images, compared)
        part = min(n, 100)
        if chosen.apgd:
            attacked = (network, images[:part], labels[:part], part, repetitions, macs)
            again = recrafted(*attacked, "apgd")
            print(f"{name}: APGD {told(again)}, {again['differ']} differ", flush=True)
            continue
        found = single_filters(network, images, n, repetitions, macs, most)
        print(f"{name}, {n} images of {'x'.join(map(str, shape))} {chosen.stress or ''}".rstrip())
        print(f"  filters     {told(found)}, {found['ties']} ties")
        for other, ratios in found["others"].items():
            print(f"  {other:11} {spread(ratios)}")
        if not chosen.quick and not chosen.stress:
            ways = ["loop", *found["others"], "engine"]
            print("  peak MB     " + ", ".join(f"{way} {peak(name, way)}" for way in ways))
        swept = threshold_sweeps(network, images[:part], part, repetitions, macs)
        print(f"  thresholds  {told(swept)}, {swept['ties']} ties, {part} images")
        if chosen.stress:
            continue
        again = recrafted(network, images[:part], labels[:part], part, repetitions, macs)
        print(f"  re-crafted  {told(again)}, {again['differ']} differ", flush=True)


if __name__ == "__main__":
    main()
