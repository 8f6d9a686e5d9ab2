"""Images as small pictures, for tables and the page."""

import base64
import io
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from faultline.studies.examples import SIDE

EXACT = 32
"""Pictures with a side larger than this are JPEG and not PNG, but for differences."""


def reduced(images: torch.Tensor) -> torch.Tensor:
    """Images [n, c, h, w] of which no side is longer than SIDE, on the CPU."""
    height, width = images.shape[2:]
    longest, images = max(height, width), images.detach().cpu()
    if longest <= SIDE:
        return images
    size = [max(round(side * SIDE / longest), 1) for side in (height, width)]
    return F.interpolate(images, size, mode="area")


def picture(image: torch.Tensor, *, exact: bool = False) -> str:
    """An image [c, h, w] with pixels in 0 to 1, cut to that, as a data URI: three channels in
    colour, others as their mean. exact: whether it is PNG whatever its size."""
    from PIL import Image

    pixels = image.clamp(0, 1).double().numpy()
    pixels = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(0)
    made, buffer = Image.fromarray(np.round(255 * pixels).astype(np.uint8)), io.BytesIO()
    kind = "png" if exact or max(image.shape) <= EXACT else "jpeg"
    made.save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 92}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def differences(changes: torch.Tensor) -> tuple[list[str], float]:
    """Pictures of changes [n, c, h, w], 0 in grey, and what all are multiplied by: so much that the
    largest is black or white."""
    largest = changes.abs().max().item()
    factor = 1 / largest if largest else 1.0
    return [picture((1 + factor * change) / 2, exact=True) for change in changes], factor


def fitting(sizes: Iterable[int], room: int) -> int:
    """How many of some things fit into a room, one after the other; at least one."""
    return max(int((np.cumsum([*sizes]) <= room).sum()), 1)
