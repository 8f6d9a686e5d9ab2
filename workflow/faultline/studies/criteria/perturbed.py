"""Criteria that change a layer, or what it is given, and look what comes of it. No filters.

No torch but where one is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from faultline.base.errors import UserError
from faultline.base.seeds import seed_of
from faultline.studies.criteria.entry import Criterion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faultline.studies.criteria.data import Data, Score

RADIUS = 0.1
"""The largest norm of a perturbation of weights, in that of the weights (Zhu et al. 2023)."""

STEPS = 10
"""Of ascent on weights (their code's), and on images where the attack has no number of its own."""

STEP = 0.25
"""Size of a step on weights, in the largest norm of the perturbation (ours)."""


def module_robust_criticality(network: nn.Module, data: Data) -> dict[str, Score]:
    """max over D of CE(w + D) - CE(w), ||D|| <= RADIUS ||w||, of a layer's weights w, on images
    that were attacked on the unchanged network (Zhu et al. 2023, RiFT).

    By projected ascent of STEPS steps of STEP times the radius along the gradient over its norm,
    all images at once (ours; their code takes plain gradient steps of lr 1 over batches, projected
    after each pass over the *test* set; ours sees validation images). The largest loss on the way
    counts, so no score is below 0.
    """
    import torch
    from torch import nn

    from faultline.networks.evaluation import predict
    from faultline.networks.layers import weights
    from faultline.studies.criteria.data import Score, gradients, replaced

    images, labels, scores = data.adversarial, data.labels, {}
    for name, layer in data.modules(network).items():
        start = {key: weight.clone() for key, weight in weights(layer).items()}
        radius = RADIUS * _norm(start)
        delta = {key: torch.zeros_like(weight) for key, weight in start.items()}
        losses = []
        with replaced(layer, start) as own:
            for _ in range(STEPS):
                loss, by_layer = gradients(network, {name: layer}, images, labels)
                losses.append(loss)
                gradient = {key: by_layer[name][key] for key in start}
                size = _norm(gradient)
                if not (size > 0 and size.isfinite()):
                    break
                delta = {k: d + STEP * radius / size * gradient[k] for k, d in delta.items()}
                shrink = min((radius / _norm(delta).clamp_min(1e-30)).item(), 1.0)
                delta = {key: shrink * change for key, change in delta.items()}
                with torch.no_grad():
                    for key, weight in own.items():
                        weight.copy_(start[key] + delta[key])
            logits = predict(network, images)
            losses.append(nn.functional.cross_entropy(logits, labels).item())
        scores[name] = Score(max(losses) - losses[0])
    return scores


def _norm(tensors: dict[str, Tensor]) -> Tensor:
    import torch

    return torch.stack([torch.linalg.vector_norm(t) for t in tensors.values()]).norm()


def clat(network: nn.Module, data: Data) -> dict[str, Score]:
    """W of a layer over W of the layer before, W = mean over images of max ||F(x + d) - F(x)|| / N,
    with F what the network gives up to the layer, N its size, d as the attack allows (Gopal et al.
    2025, CLAT).

    Ours: F is the output of the layer itself, before normalisation and non-linearity; the layer
    before is the one that ran before; the maximum is sought by projected ascent on the change
    itself, layer by layer, with the norm, eps and steps of the attack; the first layer is compared
    with the images, whose W is that of the largest d; what is given some of the images only has no
    score, nor has what follows it.
    """
    from faultline.networks.probes import probes
    from faultline.studies.criteria.data import Features, Score

    attack = data.attack
    order = [name for name in probes(network, data.images[:1], at="layer") if ":" not in name]
    before = dict(zip(order, [None, *order], strict=False))
    size, norm = data.images[0].numel(), attack.get("norm", "linf")
    weak: dict[str | None, float] = {
        None: attack["eps"] * size ** (0.5 if norm == "linf" else 0.0) / size
    }
    wanted = [name for name in data.layers if name in before]
    for name in dict.fromkeys(n for layer in wanted for n in (before[layer], layer) if n):
        with suppress(UserError):  # of what is given some of the images only
            weak[name] = _weakness(Features(network, name), data, norm=norm)
    wanted = [name for name in wanted if {name, before[name]} <= weak.keys()]
    return {name: Score(weak[name] / max(weak[before[name]], 1e-30)) for name in wanted}


def _weakness(features: nn.Module, data: Data, *, norm: str) -> float:
    """Mean change per feature; features: images -> [n, N]."""
    import torch

    from faultline.attacks.ascent import Ball, feature_gradient, l2_norm, pgd, random_start
    from faultline.base import memory
    from faultline.networks.evaluation import evaluation, predict

    eps, steps = data.attack["eps"], data.attack.get("steps") or STEPS
    ball, step_size = Ball(eps, norm, data.bounds), data.attack.get("step_size")
    seed = seed_of("clat", data.seed)
    start = random_start(data.images.shape, eps=eps, norm=norm, seed=seed).to(data.images)
    batch_size = memory.batch_size(500, data.images.shape[1:])
    total, count = 0.0, 1
    for images, begin in zip(data.images.split(batch_size), start.split(batch_size), strict=True):
        with evaluation(features), torch.no_grad():
            clean = features(images)
        moved = pgd(
            features,
            images,
            clean,
            ball=ball,
            steps=steps,
            step_size=step_size,
            start=begin,
            rise=feature_gradient,
        )
        change = predict(features, moved) - predict(features, images)
        total, count = total + l2_norm(change).sum().item(), change.shape[1]
    return total / len(data.images) / count


def reinitialisation(network: nn.Module, data: Data) -> dict[str, Score]:
    """Accuracy on clean images that is lost when a layer's parameters go back to what they were at
    epoch 0 (Zhang, Bengio & Singer 2022). Ours: a normalisation behind it stays as it is."""
    return _lost(network, data, [data.initial()])


def rerandomisation(network: nn.Module, data: Data) -> dict[str, Score]:
    """The same with parameters drawn anew from what initialises the network (Zhang, Bengio & Singer
    2022); mean over draws (ours)."""
    return _lost(network, data, data.redrawn())


def _lost(network: nn.Module, data: Data, others: Iterable[nn.Module]) -> dict[str, Score]:
    from faultline.networks.evaluation import right
    from faultline.studies.criteria.data import Score, replaced

    def correct() -> int:
        return int(right(network, data.images, data.labels).sum())

    base = correct()
    lost: dict[str, list[float]] = {}
    for other in others:
        values = data.modules(other)
        for name, layer in data.modules(network).items():
            with replaced(layer, dict(values[name].named_parameters())):
                lost.setdefault(name, []).append((base - correct()) / len(data.labels))
    return {name: Score(sum(of) / len(of)) for name, of in lost.items()}


CRITERIA = {
    "module_robust_criticality": Criterion(module_robust_criticality, lowest=True),
    "clat": Criterion(clat, moves_pixels=True),
    "reinitialisation": Criterion(reinitialisation),
    "rerandomisation": Criterion(rerandomisation),
}
