"""State dicts as people have them, under the names of a network's own."""

from collections import Counter
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from faultline.base.errors import UserError

State = dict[str, Tensor]

MOMENTS = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}
"""What normalisations before a network call their buffers (robustbench: mu, sigma)."""


def placed(state: State, own: State) -> tuple[State, list[str]]:
    """(a user's tensors under the names of a network's own, what was done to them in words).

    own: with "body." and, where images are normalised, "normalise.mean" and "normalise.std". What
    fits nowhere stays, under a name that is none of its own. UserError where several networks fit.
    """
    if any(n.startswith("body.") and n in own and f"body.{n}" not in own for n in state):
        return state, []
    names = {name.removeprefix("body.") for name in own if name.startswith("body.")}
    state, words = folded(state, names)
    prefix = _before(state, names)
    if prefix:
        words.append(f"stripped {prefix!r} of the names")
    added = "" if prefix or names & state.keys() else _lacking(state, names)
    if added:
        words.append(f"put {added!r} before the names")
    new = {}
    for name, tensor in state.items():
        inner = added + name.removeprefix(prefix)
        mine = name.startswith(prefix) and (inner in names or name not in own)
        new[f"body.{inner}" if mine else name] = tensor
    for name in [n for n in new if n not in own]:
        moment = MOMENTS.get(name.removeprefix("body.").rpartition(".")[2])
        to = f"normalise.{moment}"
        if moment and to in own and to not in new and new[name].numel() == own[to].numel():
            new[to] = new.pop(name).reshape(own[to].shape)
            words.append(f"took {name.removeprefix('body.')} as the {moment} of images")
    return new, words


def _before(state: State, names: Collection[str]) -> str:
    """What stands before the names of a network in those of a file; empty where most of them are
    not there."""
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in names:
                counts["".join(f"{part}." for part in parts[:depth])] += 1
    most = max(counts.values(), default=0)
    if 2 * most < len(names):
        return ""
    best = sorted((prefix for prefix in counts if counts[prefix] == most), key=len)
    if len(best) > 1 and best[0]:
        several = " and ".join(best)
        raise UserError(
            f"holds several such networks, under {several}; save the state_dict() of one alone"
        )
    return best[0]


def _lacking(state: State, names: Collection[str]) -> str:
    """What the names of a file lack before them, as of a part of the network."""
    (first, *_) = state
    ends = [name.removesuffix(first) for name in names if name.endswith(f".{first}")]
    return next((end for end in ends if 2 * sum(end + n in names for n in state) > len(state)), "")


def folded(state: State, names: Collection[str] = ()) -> tuple[State, list[str]]:
    """(state dict in which weights that torch makes of others are themselves, what was done).

    Pruned, weight-normalised and spectrally normalised ones, in torch's older way and its newer one
    (parametrizations); with the values that they have in eval mode. names: those that stay.
    """
    state, done = dict(state), Counter[str]()
    for ends, what, make in _MADE:
        for name in [n for n in state if n.endswith(ends[0]) and n not in names]:
            stem = name.removesuffix(ends[0])
            parts = [f"{stem}{end}" for end in ends]
            whole = stem.replace("parametrizations.", "") if ends[0][0] == "." else stem
            wanted = not names or any(f".{whole}".endswith(f".{name}") for name in names)
            if wanted and all(part in state for part in parts):
                state[whole] = make(*(state.pop(part) for part in parts))
                done[what] += 1
    return state, [f"folded {count} {what} weights" for what, count in done.items()]


def _pruned(weight: Tensor, mask: Tensor) -> Tensor:
    return weight * mask


def _normalised(size: Tensor, direction: Tensor) -> Tensor:
    """g v / |v|, over all axes but those that g has (Salimans & Kingma 2016)."""
    axes = [axis for axis in range(direction.dim()) if size.dim() == 0 or size.shape[axis] == 1]
    norm: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=bool(size.dim()))
    return size * direction / norm


def _spectral(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """W / (u W v), the rows of W along the axis that u has (Miyato et al. 2018)."""
    axis = 0 if len(weight) == len(u) else 1
    rows = weight.movedim(axis, 0).flatten(1)
    return weight / torch.dot(u, rows @ v)


_MADE: list[tuple[tuple[str, ...], str, Callable[..., Tensor]]] = [
    (("_orig", "_mask"), "pruned", _pruned),
    (("_orig", "_u", "_v"), "spectrally normalised", _spectral),
    (("_g", "_v"), "normalised", _normalised),
    ((".original0", ".original1"), "normalised", _normalised),
    ((".original", ".0._u", ".0._v"), "spectrally normalised", _spectral),
]
"""Endings of the names of parts, what the weights are, and what makes them of these parts."""

_QUANTISED = ("._packed_params", ".zero_point", ".qweight", ".qzeros", ".absmax", ".quant_map")


def is_quantised(state: State) -> str:
    """The name of a tensor by which weights are whole numbers with a scale; empty without one."""
    return next((name for name in state if name.endswith(_QUANTISED) or "._packed" in name), "")
