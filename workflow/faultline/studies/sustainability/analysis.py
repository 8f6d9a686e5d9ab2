"""Layer Sustainability Analysis (Khalooei et al. 2022): how far perturbed inputs move each layer.

The measure of probe l on an image x and its perturbed form x' is the relative error

    CM_l = ||phi_l(x) - phi_l(x')||_F / ||phi_l(x)||_F,

per image; `lists` judges them.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from faultline.attacks.craft import craft
from faultline.base import memory
from faultline.base.errors import UserError
from faultline.base.memory import halving
from faultline.base.seeds import seed_of
from faultline.data.splits import Bounds, DataSet
from faultline.networks.evaluation import evaluation
from faultline.networks.probes import probe_errors, watch

CHUNK = 500
"""At most so many images are perturbed at once, with one seed: it depends on their shape alone."""

FEATURES = 50
"""At most so many images have the outputs of all probes kept at once, twice."""

Perturb = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


def _gaussian(images, rng, strength, bounds):
    return images + strength * rng.standard_normal(images.shape, dtype=np.float32)


def _speckle(images, rng, strength, bounds):
    return images + images * strength * rng.standard_normal(images.shape, dtype=np.float32)


def _salt(images, rng, strength, bounds):
    return np.where(
        rng.random(images.shape, dtype=np.float32) < strength, _numbers(bounds[1]), images
    )


def _pepper(images, rng, strength, bounds):
    return np.where(
        rng.random(images.shape, dtype=np.float32) < strength, _numbers(bounds[0]), images
    )


def _numbers(bound) -> np.ndarray:
    """One end of the bounds, a number or a tensor."""
    return torch.as_tensor(bound, dtype=torch.float32).cpu().numpy()


NOISES = {"gaussian": _gaussian, "salt": _salt, "pepper": _pepper, "speckle": _speckle}

BOUNDED = ("salt", "pepper")
"""Noises that set values to a bound."""


def noise(kind: str, *, strength: float, bounds: Bounds, seed: int) -> Perturb:
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
    chunk_size, batch_size = (memory.batch_size(n, images.shape[1:]) for n in (CHUNK, batch_size))
    parts: dict[str, dict[str, list[Tensor]]] = {name: {} for name in perturbers}
    for chunk, first in enumerate(range(0, len(images), chunk_size)):
        of_chunk = slice(first, first + chunk_size)
        clean, targets = pixels(images[of_chunk]), labels[of_chunk]
        for name, perturb in perturbers.items():
            moved = perturb(network, clean, targets, chunk)
            with evaluation(network), torch.no_grad(), watch(network, at=at) as seen:
                for one, other in zip(
                    clean.split(batch_size), moved.split(batch_size), strict=True
                ):
                    network(one)
                    before = dict(seen)
                    network(other)
                    for probe, errors in probe_errors(before, seen, len(one)).items():
                        parts[name].setdefault(probe, []).append(errors.cpu())
        progress(f"{first + len(clean)} of {len(images)} images analysed")
    return {
        name: {probe: torch.cat(batches).numpy() for probe, batches in by_probe.items()}
        for name, by_probe in parts.items()
    }


def analyse_checkpoint(
    network: nn.Module,
    dataset: DataSet,
    *,
    attacks: dict[str, dict],
    noises: dict[str, dict],
    split: str,
    images: int | None,
    at: str,
    seed: int,
) -> dict[str, np.ndarray]:
    """perturber/probe -> relative errors of every image, float32 [n]; see `lists.by_perturber`.

    attacks, at their eps, and noises: of the config. images: so many of the split, its first ones,
    which are a fair sample of it; None takes all.
    """
    stored, labels = (part[:images] for part in dataset.splits[split])
    errors = analyse(
        network,
        stored,
        labels,
        pixels=dataset.pixels,
        perturbers=perturbers(attacks, noises, dataset, seed=seed),
        at=at,
    )
    return {
        f"{perturber}/{probe}": values
        for perturber, by_probe in errors.items()
        for probe, values in by_probe.items()
    }


def perturbers(
    attacks: dict[str, dict], noises: dict[str, dict], dataset: DataSet, *, seed: int
) -> dict[str, Perturb]:
    """Name -> perturber for `analyse`, of attacks at their eps and of noises."""

    def crafted(name: str, attack: dict) -> Perturb:
        return lambda network, images, labels, chunk: craft(
            network,
            images,
            labels,
            attack=attack,
            bounds=dataset.bounds,
            std=dataset.std,
            seed=seed_of("sustainability", name, seed, chunk),
        )

    by_name = {name: crafted(name, attack) for name, attack in attacks.items()}
    for name, settings in noises.items():
        by_name[name] = noise(
            settings["kind"],
            strength=settings["strength"],
            bounds=dataset.bounds,
            seed=seed_of("sustainability", name, seed),
        )
    return by_name
