"""A user's weights, put into a network."""

import torch
from torch import Tensor

from faultline.base.errors import UserError, some
from faultline.networks.architectures import Network


def load_weights(
    network: Network, state: dict[str, Tensor], *, origin: str, moments_key: str | None = None
) -> None:
    """Put a user's weights into a network; `origin` says where they are from, for the error.

    state: named as in `network.body`, or all of them with "body."; counts of batches may be
    lacking. With "normalise.mean" and "normalise.std", as in our checkpoints, these replace the
    network's, and where other values are in the config, that is told. moments_key: the key of the
    config that the network's are from; None: they are the training split's.
    Raises UserError, which names the first few names and shapes that do not fit, or a tensor whose
    values cannot be used.
    """
    own = network.state_dict()
    new = _placed(state, own)
    optional = [n for n in own if n.startswith("normalise.") or n.endswith(".num_batches_tracked")]
    misfits = {
        "missing": [n for n in own if n not in new and n not in optional],
        "unknown": [n for n in new if n not in own],
        "of another shape": [
            f"{n} {_by(tensor)}, expected {_by(own[n])}"
            for n, tensor in new.items()
            if n in own and tensor.shape != own[n].shape
        ],
    }
    odd = [
        f"{len(names)} {what} ({', '.join(n.removeprefix('body.') for n in names[:3])}"
        f"{', ...' * (len(names) > 3)})"
        for what, names in misfits.items()
        if names
    ]
    if odd:
        raise UserError(
            f"{origin}: the weights do not fit: {'; '.join(odd)}; give those of the same network, "
            "for as many classes and channels as the data set has"
        )
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


def _placed(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A user's tensors under the names of a network's own."""
    if any(n.startswith("body.") and n in own and f"body.{n}" not in own for n in state):
        return state
    prefix = "body."
    # of a network that is one "module", whose prefix was dropped as that of parallel training
    if not any(f"body.{n}" in own for n in state) and any(f"body.module.{n}" in own for n in state):
        prefix = "body.module."
    return {
        name if name in own and f"{prefix}{name}" not in own else f"{prefix}{name}": tensor
        for name, tensor in state.items()
    }


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
