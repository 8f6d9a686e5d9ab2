"""A user's weights, put into a network."""

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor

from faultline.base.errors import UserError, some
from faultline.networks.architectures import Network
from faultline.networks.layers import layers
from faultline.networks.state import State, is_quantised, placed


def load_weights(
    network: Network, state: dict[str, Tensor], *, origin: str, moments_key: str | None = None
) -> list[str]:
    """Put a user's weights into a network; `origin` says where they are from, for the error.

    state: named as in `network.body`, with whatever stands before all of these names, or all of
    them with "body."; counts of batches may be lacking. What was done to fit them is returned, in
    words, see `state.placed`. With "normalise.mean" and "normalise.std", as in our checkpoints,
    these replace the network's, and where other values are in the config, that is told.
    moments_key: the key of the config that the network's are from; None: they are the training
    split's.
    Raises UserError, which names the first few names and shapes that do not fit, or a tensor whose
    values cannot be used.
    """
    own = network.state_dict()
    if name := is_quantised(state):
        raise UserError(
            f"{origin}: the weights are quantised ({name}); give those that were quantised, in "
            "floating point"
        )
    try:
        new, words = placed(state, own)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    optional = [n for n in own if n.startswith("normalise.") or n.endswith(".num_batches_tracked")]
    misfits = {
        "missing": [n for n in own if n not in new and n not in optional],
        "unknown": [n for n in new if n not in own],
        "of another shape": [n for n, t in new.items() if n in own and t.shape != own[n].shape],
    }

    def told(name: str) -> str:
        fits = name not in own or name not in new
        shapes = "" if fits else f" {_by(new[name])}, expected {_by(own[name])}"
        return name.removeprefix("body.") + shapes

    odd = [
        f"{len(names)} {what} ({', '.join(map(told, names[:3]))}{', ...' * (len(names) > 3)})"
        for what, names in misfits.items()
        if names
    ]
    if odd:
        remedy = _remedy(network, misfits, new, own)
        raise UserError(f"{origin}: the weights do not fit: {'; '.join(odd)}; {remedy}")
    for name, tensor in new.items():
        if why := _unusable(name, tensor, own[name]):
            raise UserError(
                f"{origin}: {name.removeprefix('body.')} {why}; expected finite numbers of type "
                f"{_type(own[name])}; mend or train the network, and save its state_dict() anew"
            )
    normalisation = [n for n in own if n.startswith("normalise.")]
    whose = "computed from the training split"
    if moments_key:
        whose = f"of the config key {moments_key} and std"
    if lacking := [n for n in normalisation if n not in new]:
        print(
            f"warning: {origin}: holds no {' and no '.join(lacking)}, so images are normalised by "
            f"{_values(own, lacking)}, {whose}; if the network was trained with others, "
            + ("mend the config" if moments_key else "add them to the file or the config")
        )
    others = [
        n for n in normalisation if n in new and not torch.allclose(own[n], new[n].to(own[n]))
    ]
    if others and moments_key:
        print(
            f"warning: {origin}: images are normalised by its {_values(new, others)}, not by "
            f"{_values(own, others)}, {whose}"
        )
    network.load_state_dict(own | new)
    return words


def dtype_of(states: Iterable[State]) -> torch.dtype | None:
    """The type of all numbers of floating point in state dicts; None where there are several, or
    none."""
    types = {t.dtype for state in states for t in state.values() if t.is_floating_point()}
    return types.pop() if len(types) == 1 else None


def _remedy(network: Network, misfits: dict[str, list[str]], new: State, own: State) -> str:
    """What to do about tensors that do not fit, as far as it can be told from which these are."""
    layer = [*layers(network)][-1]
    head = {f"body.{layer}.{name}" for name in ("weight", "bias")}
    odd = {name for names in misfits.values() for name in names}
    of = f"body.{layer}.weight"
    if odd <= head and of in odd and of in new and new[of].shape[1:] == own[of].shape[1:]:
        there, here = len(new[of]), len(own[of])
        return (
            f"they tell {there} classes apart, the network {here}: give those of {here} classes, "
            f"or a function that makes the network for {there} and takes {here} of its logits"
        )
    close = [
        f"{unknown.removeprefix('body.')} for {missing.removeprefix('body.')}"
        for missing in misfits["missing"][:3]
        for unknown in difflib.get_close_matches(missing, misfits["unknown"], n=1, cutoff=0.7)
    ]
    near = f" (near: {', '.join(close)})" * bool(close)
    same = "give those of the same network, for as many classes and channels as the data set has"
    return same + near


def _values(state: dict[str, Tensor], names: list[str]) -> str:
    """What tensors hold, in words, to six digits."""
    texts = []
    for name in names:
        numbers = some([f"{value:.6g}" for value in state[name].flatten().tolist()])
        texts.append(f"{name} [{numbers}]")
    return " and ".join(texts)


def _unusable(name: str, tensor: Tensor, own: Tensor) -> str | None:
    """What keeps a tensor from the place of another of its shape, if anything does."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return "is sparse" if tensor.layout != torch.strided else "is a meta tensor without values"
    if tensor.is_floating_point() != own.is_floating_point() or tensor.is_complex():
        return f"is of type {_type(tensor)}"
    if not tensor.to(own.dtype).isfinite().all():
        return "holds NaN or an infinity"
    if name.endswith(".running_var") and tensor.min() < 0:
        return f"holds {tensor.min():g}, but is a variance"
    if name == "normalise.std" and not tensor.min() > 0:
        return f"holds {tensor.min():g}, but is to be divided by"
    return None


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
