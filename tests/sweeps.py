"""A naive second implementation of sweeps: what a variant changes copied, and a plain forward."""

import copy
from functools import partial

import numpy as np
import torch
from pretend import PRETEND
from torch import nn
from trainings import quiet

from faultline.ablation.sweep import logits_of, sweep
from faultline.ablation.variants import Variant, nodal_variants, synaptic_variants
from faultline.networks.layers import every_layer, layers, of_units, parameter_of

REAL = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DEVICES = [*REAL, PRETEND]
FUSED = nn.LSTM | nn.GRU | nn.GRUCell
"""These are one operation on a device, which the CPU does not have."""
KINDS = ("high_pass", "low_pass", "pulse")


def lively(network, images):
    """The network with BatchNorm statistics and parameters as training leaves them: not trivial."""
    torch.manual_seed(7)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = None
    network.train()
    with torch.no_grad():
        network(images)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()
    with torch.no_grad():  # spread the logits of an untrained network around 0
        logits = network(images)
        last = list(layers(network).values())[-1]
        if getattr(last, "bias", None) is not None and last.bias.numel() == logits.shape[1]:
            last.bias -= logits.mean(0)
    return network


def naive_logits(network, variant, images, *, place=None):
    """Logits of a deep copy with parameters replaced, or with the output of `place` silenced."""
    with torch.no_grad():
        return naive(network, variant, place=place)(images)


def naive(network, variant, *, place=None):
    """A deep copy of the network, changed as the variant says; what stays, the two share: also
    modules, which are most of what there would be to copy.

    place: the module whose output is silenced at "activation", of features first or, of "-1:...",
    last; None: what is removed there is removed from the weights.
    """
    replaced = dict(variant.replace()) if variant.replace else {}
    silenced = variant.mask and variant.mask.at == "activation" and place
    if variant.mask and not silenced:
        layer = every_layer(network)[variant.mask.layer]
        belongs = of_units(layer, variant.mask.filters)
        for name, parameter in layer.named_parameters():
            if name in belongs:
                value = parameter.detach().masked_fill(belongs[name], 0)
                replaced[f"{variant.mask.layer}.{name}"] = value
    changed = {id(parameter_of(network, name)) for name in replaced}
    every = [*network.named_parameters(remove_duplicate=False)]
    touched = [name for name, parameter in every if id(parameter) in changed]
    touched += [f"{place.removeprefix('-1:')}."] if silenced else []
    around = {id(network.get_submodule(path)) for name in touched for path in above(name)}
    kept = [p for _, p in every if id(p) not in changed]
    kept += [module for module in network.modules() if id(module) not in around]
    copied = copy.deepcopy(network, {id(one): one for one in kept})
    for name, value in replaced.items():
        parameter_of(copied, name).data = value.clone()
    if silenced:
        axis = -1 if place.startswith("-1:") else 1
        hook = partial(_silenced, axis, list(variant.mask.filters))
        copied.get_submodule(place.removeprefix("-1:")).register_forward_hook(hook)
    return copied


def above(name):
    """The paths of the modules that a parameter, or "MODULE.", lies in."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts))]


def _silenced(axis, filters, module, inputs, output):
    output = output.clone()
    output.movedim(axis, 1)[:, filters] = 0
    return output


def some_variants(network, layer, *, count=4, filters=(0, 1), places=True):
    """Every kind of variant of one layer."""
    chosen = {layer: every_layer(network)[layer]}
    variants = synaptic_variants(chosen, kinds=KINDS, count=count)
    variants += nodal_variants(layer, chosen[layer], filters=filters, at="weights")
    if places:
        variants += nodal_variants(layer, chosen[layer], filters=filters, at="activation")
    return [Variant({"number": i}, v.key, v.replace, v.mask) for i, v in enumerate(variants)]


WAYS = ({}, {"batch_size": 7}, {"memory": 1e6})
FEW = 6
"""Variants at most, and one way, on the pretended device, where each operation is slow."""


def assert_as_naive(
    network, variants, images, labels, *, ablated, place=None, ways=WAYS, devices=DEVICES
):
    """Logits and facts are those of the naive implementation, facts but for ties of its logits.

    Whatever the batches and the memory (`ways`) and the device. place: see `naive`, or layer -> it.
    """
    given = {"ablated": ablated, "say": quiet}
    runs = []
    for device in devices:
        pretended, every = device == PRETEND, range(len(variants))
        if pretended and any(isinstance(m, FUSED) for m in network.modules()):
            continue
        chosen = every[:: -(-len(variants) // FEW)] if pretended else every
        part = [variants[index] for index in chosen]
        network.to(device)
        for way in ways[:1] if pretended else ways:
            sets = {"clean": images.to(device)}
            facts = sweep(network, part, sets, labels.to(device), **given, **way)
            runs.append((facts, {index: number for number, index in enumerate(chosen)}))
    network.to("cpu")
    pairs = [(None, Variant({}, None)), *enumerate(variants)]
    found = logits_of(network, variants, images, ablated=ablated)
    for (index, variant), made in zip(pairs, found, strict=True):
        where = place
        if isinstance(place, dict):
            where = place.get(variant.mask.layer) if variant.mask else None
        logits = naive_logits(network, variant, images, place=where)
        precision = 1e-4 if logits.dtype == torch.float32 else 1e-10
        tolerance = precision * logits.abs().max().item() + 1e-2 * precision
        torch.testing.assert_close(made, logits, rtol=0, atol=tolerance)
        best, second = logits.topk(2, dim=1).values.unbind(1)
        tie = (best - second < 1e-4 * logits.abs().max()).numpy()
        expected = (logits.argmax(1) == labels).numpy()
        for facts, numbers in runs:
            if index is None:
                assert np.array_equal(facts.base["clean"][~tie], expected[~tie])
            elif index in numbers:
                number, changed = numbers[index], facts.changed["clean"]
                assert np.array_equal(facts.correct["clean"][number][~tie], expected[~tie])
                assert variant.key is not None or not changed[number]
    return runs[0][0]
