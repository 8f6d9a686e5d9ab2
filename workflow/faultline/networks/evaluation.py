"""A network in eval mode, unchanged afterwards; what its logits say; whether tensors are the same.

A logit of -inf switches a class off. Where the largest one of an image is NaN or infinite, the
image is misclassified, whatever its label (ours).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from faultline.base import memory, pace
from faultline.base.errors import UserError
from faultline.base.memory import halving
from faultline.networks.plain import preserved

NOT_FINITE = "are not finite and count as misclassified"


def chance(labels: Tensor) -> float:
    """The accuracy of the best guess without looking: the share of the commonest label [n]."""
    share: float = labels.unique(return_counts=True)[1].max().item() / len(labels)
    return share


@contextmanager
def exact() -> Iterator[None]:
    """Numbers as they are stored: without an autocast that the caller is in, and without TF32, to
    which cuDNN's convolutions of float32 round on a GPU by default. What a network's own forward
    asks for stays, and so does TF32 of matrices, which is off unless asked for."""
    cudnn = torch.backends.cudnn
    kept = {key: getattr(cudnn, key) for key in ("enabled", "benchmark", "deterministic")}
    with ExitStack() as stack:
        stack.enter_context(cudnn.flags(**kept, allow_tf32=False))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Eval mode, `exact`, no gradient for parameters; each module and parameter is restored on
    leaving, and so is what modules keep beside these, see `preserved`.

    It leaves `torch.inference_mode()`, where nothing has a gradient.
    """
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with preserved(network), torch.inference_mode(False), exact():
            network.eval()
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@halving
def predict(network: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Logits [n, classes] of the network in eval mode; smaller batches for large images."""
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    pace.passed(len(images))
    with evaluation(network), torch.inference_mode():
        logits = [check_logits(network(batch), len(batch)) for batch in images.split(batch_size)]
    return torch.cat(logits)  # outside of inference mode, so that the result is an ordinary tensor


def check_logits(logits: object, n: int) -> Tensor:
    """What a network gives for n images; UserError where it is no tensor [n, classes]."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != n:
        got = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(
            f"the network gives {got} for {n} images; expected logits [{n}, classes]: give "
            "faultline.classifier(network, images), or a module whose forward returns these"
        )
    return logits


def finite(logits: Tensor) -> Tensor:
    """Whether the largest logit of an image is a finite number, bool [n]; others may be -inf."""
    return logits.amax(1).isfinite()


def predicted(logits: Tensor) -> Tensor:
    """The class of the largest logit of each image, int64 [n]; -1, which is no class, where that
    is not finite."""
    return logits.argmax(1).where(finite(logits), -1)


def right(network: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    """Which images [n, ...] the network classifies as their labels [n] say, bool [n]."""
    hits: np.ndarray = (predicted(predict(network, images)) == labels).cpu().numpy()
    return hits


def scale(logits: Tensor) -> Tensor:
    """The largest finite logit by size, what tolerances are a share of; 0 where there is none."""
    return logits.where(logits.isfinite(), 0.0).abs().amax()


def difference(one: Tensor, other: Tensor) -> Tensor:
    """|one - other|, and 0 where both are the same infinity or both NaN."""
    alike = (one == other) | (one.isnan() & other.isnan())
    return (one - other).abs().masked_fill(alike, 0.0)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, where NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
