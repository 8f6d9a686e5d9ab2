"""Layer Sustainability Analysis (Khalooei et al. 2022): how far perturbed inputs move each layer.

The measure of probe l on an image x and its perturbed form x' is the relative error

    CM_l = ||phi_l(x) - phi_l(x')||_F / ||phi_l(x)||_F,

per image; means, and mu and sigma over all images and probes, are taken from these (ours). The most
vulnerable layers (MVL) are those whose mean exceeds mu by more than eta sigma.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from faultline.attacks import evaluation
from faultline.errors import UserError
from faultline.networks import layers as layers_of
from faultline.seeds import seed_of
from faultline.statistics import normal_quantile

ACTIVATIONS = {
    *("relu", "relu6", "elu", "selu", "celu", "leaky_relu", "prelu", "rrelu", "threshold"),
    *("gelu", "silu", "mish", "glu", "softplus", "softsign", "logsigmoid", "tanhshrink"),
    *("hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "sigmoid", "tanh"),
}
"""Names of the functions that count as activations, in torch and in torch.nn.functional."""

CHUNK = 500
"""Images that are perturbed with one seed: draws do not depend on the batch size."""

Perturb = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


class _Activations(TorchFunctionMode):
    """Tells of every activation function that is called, as a module or not."""

    def __init__(self, found: Callable[[Tensor], None]):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").rstrip("_")
        if name in ACTIVATIONS and isinstance(out, Tensor):
            self.found(out)
        return out


@contextmanager
def watch(
    network: nn.Module, *, at: str, names: Iterable[str] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Inside the block, each forward fills the dict anew: probe -> its output [n, ...].

    at: "activation", the outputs of activation functions, modules or not; or "layer", the outputs
    of the layers themselves. A probe is named after the layer that ran last before it; a second one
    of that name is "<layer>:2". names: only these probes. The outputs are copies that gradients
    flow through; the network may be in any mode, and nothing stays hooked.
    """
    seen: dict[str, Tensor] = {}
    wanted = None if names is None else set(names)
    last, counts = "", {}

    def record(out: Tensor) -> None:
        counts[last] = counts.get(last, 0) + 1
        name = last if counts[last] == 1 else f"{last}:{counts[last]}"
        if last and (wanted is None or name in wanted):
            seen[name] = out.clone()  # what follows may work in place

    def begin(*_) -> None:
        nonlocal last
        last = ""
        seen.clear()
        counts.clear()

    def ran(name: str):
        def hook(_, __, out: Tensor) -> None:
            nonlocal last
            last = name
            if at == "layer":
                record(out)

        return hook

    hooks = [network.register_forward_pre_hook(begin)]
    hooks += [layer.register_forward_hook(ran(name)) for name, layer in layers_of(network).items()]
    try:
        if at == "layer":
            yield seen
        else:
            with _Activations(record):
                yield seen
    finally:
        for hook in hooks:
            hook.remove()


def probes(network: nn.Module, example: Tensor, *, at: str) -> list[str]:
    """The probes of a network, in the order in which they run; example: a few images."""
    with evaluation(network), torch.no_grad(), watch(network, at=at) as seen:
        network(example)
        return list(seen)


def relative_errors(clean: Tensor, perturbed: Tensor) -> Tensor:
    """||clean - perturbed|| / ||clean|| per image, [n], from outputs [n, ...] of one probe.

    Where the clean output is all zero: 0 if the other is, too, and 1 if not (ours). Gradients are
    finite everywhere.
    """
    size = torch.linalg.vector_norm(clean.flatten(1), dim=1)
    change = torch.linalg.vector_norm((clean - perturbed).flatten(1), dim=1)
    alone = torch.where(change > 0, change, 1.0).detach()
    return change / torch.where(size > 0, size, alone)


def most_vulnerable(
    errors: Mapping[str, np.ndarray], *, eta: float
) -> tuple[list[str], float, float]:
    """(MVL list, the most vulnerable first; mu; sigma) from probe -> relative errors [n]."""
    every = np.concatenate([np.asarray(part, float) for part in errors.values()])
    mu, sigma = float(every.mean()), float(every.std())
    means = {name: float(np.mean(part)) for name, part in errors.items()}
    ranked = sorted(means, key=means.get, reverse=True)
    return [name for name in ranked if means[name] - mu > eta * sigma], mu, sigma


def _gaussian(images, rng, strength, bounds):
    return images + strength * rng.standard_normal(images.shape, dtype=np.float32)


def _speckle(images, rng, strength, bounds):
    return images + images * strength * rng.standard_normal(images.shape, dtype=np.float32)


def _salt(images, rng, strength, bounds):
    return np.where(rng.random(images.shape) < strength, np.float32(bounds[1]), images)


def _pepper(images, rng, strength, bounds):
    return np.where(rng.random(images.shape) < strength, np.float32(bounds[0]), images)


NOISES = {"gaussian": _gaussian, "salt": _salt, "pepper": _pepper, "speckle": _speckle}
BOUNDED = ("salt", "pepper")
"""Noises that set values to a bound."""


def noise(kind: str, *, strength: float, bounds: tuple[float, float] | None, seed: int) -> Perturb:
    """A perturber: (network, images, labels, number of the chunk) -> noisy images.

    gaussian adds N(0, strength^2), speckle x N(0, strength^2); salt and pepper set a share
    `strength` of the values to the upper or the lower bound. Clipped to the bounds, if there are
    any. UserError for salt and pepper without bounds.
    """
    if kind in BOUNDED and bounds is None:
        raise UserError(
            f"config key sustainability.noises: {kind} sets pixels to a bound, and these data have "
            "none; leave it out"
        )

    def perturb(network, images, labels, chunk):
        rng = np.random.default_rng(seed_of("noise", kind, seed, chunk))
        noisy = torch.from_numpy(NOISES[kind](images.cpu().numpy(), rng, strength, bounds))
        noisy = noisy.to(images)
        return noisy if bounds is None else noisy.clamp(*bounds)

    return perturb


def analyse(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    perturbers: Mapping[str, Perturb],
    at: str,
    batch_size: int = 100,
    progress: Callable[[str], None] = print,
) -> dict[str, dict[str, np.ndarray]]:
    """perturber -> probe -> relative errors of every image, float32 [n].

    images [n, ...] in pixel units; perturbers: name -> see `noise`. Features are kept for one
    batch at a time. The network is in eval mode meanwhile and unchanged afterwards.
    """
    found: dict[str, dict[str, list[Tensor]]] = {name: {} for name in perturbers}
    for chunk, part in enumerate(torch.arange(len(images)).split(CHUNK)):
        clean, targets = images[part.to(images.device)], labels[part.to(labels.device)]
        for name, perturb in perturbers.items():
            moved = perturb(network, clean, targets, chunk)
            with evaluation(network), torch.no_grad(), watch(network, at=at) as seen:
                for one, other in zip(
                    clean.split(batch_size), moved.split(batch_size), strict=True
                ):
                    network(one)
                    before = dict(seen)
                    network(other)
                    for probe, out in before.items():
                        errors = relative_errors(out, seen[probe])
                        found[name].setdefault(probe, []).append(errors.cpu())
        progress(f"{int(part[-1]) + 1} of {len(images)} images analysed")
    return {
        name: {probe: torch.cat(parts).numpy() for probe, parts in by_probe.items()}
        for name, by_probe in found.items()
    }


def probe_table(
    errors: Mapping[str, Mapping[str, np.ndarray]], *, eta: float, confidence: float
) -> pd.DataFrame:
    """One row per perturber x probe, in their order; errors: as `analyse` returns them.

    Columns: position (of the probe, from 0), value (mean relative error), std (over images), ci_low
    and ci_high (normal, over images), n, mvl (whether it is among the most vulnerable at eta).
    """
    rows = []
    for perturber, by_probe in errors.items():
        listed, _, _ = most_vulnerable(by_probe, eta=eta)
        for position, (probe, values) in enumerate(by_probe.items()):
            mean, std, n = float(np.mean(values)), float(np.std(values, ddof=1)), len(values)
            margin = normal_quantile(confidence) * std / np.sqrt(n)
            rows.append(
                {
                    "perturber": perturber,
                    "probe": probe,
                    "position": position,
                    "value": mean,
                    "std": std,
                    "ci_low": mean - margin,
                    "ci_high": mean + margin,
                    "n": n,
                    "mvl": probe in listed,
                }
            )
    return pd.DataFrame(rows)


def lists(errors: Mapping[str, Mapping[str, np.ndarray]], *, etas: Iterable[float]) -> pd.DataFrame:
    """One row per perturber x eta: mu, sigma, the limit mu + eta sigma, how many layers are above
    it, and their list, the most vulnerable first, joined by commas ("none" where it is empty)."""
    rows = []
    for perturber, by_probe in errors.items():
        for eta in etas:
            listed, mu, sigma = most_vulnerable(by_probe, eta=eta)
            rows.append(
                {
                    "perturber": perturber,
                    "eta": eta,
                    "mu": mu,
                    "sigma": sigma,
                    "limit": mu + eta * sigma,
                    "layers": len(listed),
                    "mvl": ",".join(listed) or "none",
                }
            )
    return pd.DataFrame(rows)
