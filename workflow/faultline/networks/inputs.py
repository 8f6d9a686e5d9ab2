"""What a caller gives the library, checked once, where it comes in."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from numbers import Real

import torch
from torch import Tensor, nn

from faultline.base.errors import UserError
from faultline.networks.evaluation import check_logits


def class_numbers(labels: Tensor, images: int) -> Tensor:
    """Labels as int64 [n]; UserError where they are not class numbers, one for each image."""
    if not isinstance(labels, Tensor) or labels.dim() != 1:
        got = list(labels.shape) if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        one_hot = isinstance(labels, Tensor) and labels.dim() == 2
        hint = "; of one-hot labels give labels.argmax(1)" * one_hot
        raise UserError(f"labels: {got}; expected a tensor [{images}] of class numbers{hint}")
    if len(labels) != images:
        raise UserError(f"labels: {len(labels)} for {images} images; give one for each image")
    if not images:
        raise UserError("images: there are none; give at least one")
    numbers = labels.long()
    if labels.is_floating_point() and not torch.equal(numbers.to(labels), labels):
        odd = labels[numbers.to(labels) != labels][0].item()
        raise UserError(f"labels: hold {odd:g}; expected whole numbers, one class for each image")
    if (lowest := int(numbers.min())) < 0:
        raise UserError(
            f"labels: hold {lowest}; expected class numbers from 0 on: leave out images that have "
            "no class"
        )
    return numbers


def check_device(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """UserError where what a network is to work on, by name, lies on another device than it."""
    devices = {tensor.device for tensor in chain(network.parameters(), network.buffers())}
    for name, tensor in tensors.items() if len(devices) == 1 else ():
        (own,) = devices
        if tensor.device != own:
            raise UserError(
                f"{name}: on {tensor.device}, and the network on {own}; move one of them, as by "
                f'.to("{own}")'
            )


def check_classes(logits: Tensor, most: int) -> None:
    """UserError where a network tells too few classes apart; most: the largest label."""
    classes = logits.shape[1]
    if most >= classes or classes < 2:
        raise UserError(
            f"labels: hold {most}, and the network tells {classes} classes apart; expected two "
            "classes or more and labels from 0 to their number less one"
        )


@contextmanager
def checked_once(network: nn.Module, labels: Tensor) -> Iterator[None]:
    """Inside the block, the first logits that a network gives are checked, with `labels`."""
    most = int(labels.max())

    def check(_: nn.Module, inputs: tuple[Tensor, ...], logits: object) -> None:
        hook.remove()
        check_classes(check_logits(logits, len(inputs[0])), most)

    hook = network.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()


def check_differentiable(network: nn.Module) -> None:
    """UserError where a network cannot have a gradient, as it was made in `inference_mode`."""
    if any(tensor.is_inference() for tensor in chain(network.parameters(), network.buffers())):
        raise UserError(
            "the network was made inside of torch.inference_mode(), so it has no gradient to "
            "attack by; outside of it, give copy.deepcopy(network)"
        )


def check_images(
    images: Tensor,
    what: str,
    *,
    bounds: tuple[float | Tensor, float | Tensor] | None = None,
    tokens: bool = True,
) -> None:
    """UserError where images are no tensor [n, ...] of pixels, hold NaN, or lie outside of bounds.

    bounds: (lowest, highest), two numbers or two tensors that broadcast over one image, or None.
    tokens: whether they may be int32 or int64.
    """
    if not isinstance(images, Tensor) or images.dim() < 2:
        got = list(images.shape) if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise UserError(f"{what}: {got}; expected a tensor [n, ...] of images")
    whole = tokens and images.dtype in (torch.int32, torch.int64)
    if not (whole or images.is_floating_point()):
        kind = str(images.dtype).removeprefix("torch.")
        raise UserError(
            f"{what}: of type {kind}; expected floating point in the network's pixel units, such "
            "as images.float() / 255 or DataSet.pixels(images)"
        )
    if whole or not images.numel():
        return
    bounds = bounds or (-math.inf, math.inf)
    if all(isinstance(end, Real) for end in bounds):
        lowest, highest = (end.item() for end in images.aminmax())
        inside = bool(bounds[0] <= lowest and highest <= bounds[1])  # not so where one is NaN
    else:
        inside = bool(((images >= bounds[0]) & (images <= bounds[1])).all())
    if not inside:
        lowest, highest = (end.item() for end in images.aminmax())
        if math.isnan(lowest):
            raise UserError(f"{what}: hold NaN; expected numbers")
        low, high = torch.as_tensor(bounds[0]).min(), torch.as_tensor(bounds[1]).max()
        raise UserError(
            f"{what}: go from {lowest:g} to {highest:g}, outside of the bounds {low:g} to "
            f"{high:g}; give images and bounds in the same units"
        )
