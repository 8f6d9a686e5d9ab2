"""Layer Sustainability Analysis (Khalooei et al. 2022): how far perturbed inputs move each layer.

The measure of probe l on an image x and its perturbed form x' is the relative error

    CM_l = ||phi_l(x) - phi_l(x')||_F / ||phi_l(x)||_F,

per image; `faultline.vulnerability` judges them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from faultline import data
from faultline.attacks import evaluation
from faultline.errors import UserError
from faultline.memory import halving
from faultline.networks import layers as layers_of
from faultline.seeds import seed_of

ACTIVATIONS = {
    *("relu", "relu6", "elu", "selu", "celu", "leaky_relu", "prelu", "rrelu", "threshold"),
    *("gelu", "silu", "mish", "glu", "softplus", "softsign", "log_sigmoid", "tanhshrink"),
    *("hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "sigmoid", "tanh"),
}
"""Names of the functions that count as activations, in torch and in torch.nn.functional."""

CHUNK = 500
"""At most so many images are perturbed at once, with one seed: it depends on their shape alone."""

FEATURES = 50
"""At most so many images have the outputs of all probes kept at once, twice."""

Perturb = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


class _Activations(TorchFunctionMode):
    """Tells of every activation function that is called, as a module or not."""

    def __init__(self, found: Callable[[Tensor], None]):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").strip("_")
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
    of that name is "<layer>:2". What precedes all layers is no probe. names: only these probes. The
    outputs are copies that gradients flow through; the network may be in any mode, and nothing
    stays hooked.
    """
    seen: dict[str, Tensor] = {}
    wanted = None if names is None else set(names)
    running, last, counts = False, "", {}

    def record(out: Tensor) -> None:
        if not (running and last):
            return
        counts[last] = counts.get(last, 0) + 1
        name = last if counts[last] == 1 else f"{last}:{counts[last]}"
        if wanted is None or name in wanted:
            seen[name] = out.clone()  # what follows may work in place

    def begin(*_) -> None:
        nonlocal running, last
        running, last = True, ""
        seen.clear()
        counts.clear()

    def end(*_) -> None:
        nonlocal running
        running = False

    def ran(name: str):
        def hook(_, __, out: Tensor) -> None:
            nonlocal last
            last = name
            if at == "layer":
                record(out)

        return hook

    hooks = [layer.register_forward_hook(ran(name)) for name, layer in layers_of(network).items()]
    hooks.append(network.register_forward_pre_hook(begin))
    hooks.append(network.register_forward_hook(end, always_call=True))
    try:
        with _Activations(record) if at == "activation" else nullcontext():
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


def _gaussian(images, rng, strength, bounds):
    return images + strength * rng.standard_normal(images.shape, dtype=np.float32)


def _speckle(images, rng, strength, bounds):
    return images + images * strength * rng.standard_normal(images.shape, dtype=np.float32)


def _salt(images, rng, strength, bounds):
    return np.where(
        rng.random(images.shape, dtype=np.float32) < strength, np.float32(bounds[1]), images
    )


def _pepper(images, rng, strength, bounds):
    return np.where(
        rng.random(images.shape, dtype=np.float32) < strength, np.float32(bounds[0]), images
    )


NOISES = {"gaussian": _gaussian, "salt": _salt, "pepper": _pepper, "speckle": _speckle}
BOUNDED = ("salt", "pepper")
"""Noises that set values to a bound."""


def noise(kind: str, *, strength: float, bounds: tuple[float, float] | None, seed: int) -> Perturb:
    """A perturber: (network, images, labels, number of the chunk) -> noisy images.

    gaussian adds N(0, strength^2), speckle x N(0, strength^2); salt and pepper set a share
    `strength` of the values (channels apart) to the upper or the lower bound. Clipped to the
    bounds, if there are any. UserError for salt and pepper without bounds.
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


@halving
def analyse(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    perturbers: Mapping[str, Perturb],
    at: str,
    pixels: Callable[[Tensor], Tensor] = Tensor.float,
    batch_size: int = FEATURES,
    progress: Callable[[str], None] = print,
) -> dict[str, dict[str, np.ndarray]]:
    """perturber -> probe -> relative errors of every image, float32 [n].

    images [n, ...] as stored, which `pixels` turns into pixel units; perturbers: name -> see
    `noise`. Memory does not grow with the number of images. The network is in eval mode meanwhile
    and unchanged afterwards.
    """
    chunk_size, batch_size = (data.batch_size(n, images.shape[1:]) for n in (CHUNK, batch_size))
    found: dict[str, dict[str, list[Tensor]]] = {name: {} for name in perturbers}
    for chunk, first in enumerate(range(0, len(images), chunk_size)):
        part = slice(first, first + chunk_size)
        clean, targets = pixels(images[part]), labels[part]
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
        progress(f"{first + len(clean)} of {len(images)} images analysed")
    return {
        name: {probe: torch.cat(parts).numpy() for probe, parts in by_probe.items()}
        for name, by_probe in found.items()
    }
