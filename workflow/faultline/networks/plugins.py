"""The user's own networks: built by a function, and checked."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.networks.forms import bare
from faultline.networks.layers import layers
from faultline.networks.plain import REMOVE, forget, has_weights
from faultline.networks.vision import load_torchvision


def build(function: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The torch.nn.Module that the user's function makes.

    The function is called with (shape, classes) where it takes them, else without arguments. Raises
    UserError where it fails, returns no module, or a module whose layers cannot be ablated.
    """
    body = _made(function, shape, classes)
    if not isinstance(body, nn.Module):
        raise UserError(
            f"{function} returned {kind_of(body)}; expected a network, a torch.nn.Module"
        )
    try:
        body = bare(body).cpu()  # DataParallel takes it to a GPU
    except UserError as error:
        raise UserError(f"{function}: {error}") from None
    own_layers = layers(body)
    if not own_layers:
        raise UserError(
            f"{function} made a {type(body).__name__} without a layer to ablate; expected at least "
            "one convolution, Linear, attention, Embedding or recurrent layer of torch.nn"
        )
    for name, layer in own_layers.items():
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise UserError(
                f"{function}: layer {name!r} becomes the name of a folder; put the network in a "
                "module, and name its parts by letters, digits and '_'"
            )
        if not has_weights(layer):
            raise UserError(
                f"{function}: layer {name} has a weight or bias that is no parameter of its own; "
                f"{REMOVE}, and run lazy layers once, inside the function"
            )
    for module in body.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # so that the output of a layer can be kept by a hook
    forget(body)  # what it has made of its first weights
    return body


def _made(function: str, shape: tuple[int, ...], classes: int) -> Any:
    """What the function returns. Torchvision, which the user's code may import, does not import by
    itself beside a CPU build of torch; then it is loaded, and the function called once more."""

    def make() -> Any:
        of_users = plugins.load(function)
        with plugins.told(function):
            return of_users(*_arguments(function, of_users, shape, classes))

    random = torch.get_rng_state()
    try:
        return make()
    except UserError as error:
        causes: list[BaseException] = [error]
        while inner := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(inner)
        if not any("torchvision::" in str(cause) for cause in causes):
            raise
    load_torchvision()
    torch.set_rng_state(random)
    return make()


def _arguments(
    function: str, make: Callable[..., Any], shape: tuple[int, ...], classes: int
) -> tuple[Any, ...]:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return shape, classes
    first = next(iter(signature.parameters.values()), None)
    for arguments in ((shape, classes), ()):
        wanted = not arguments or (
            first and (first.default is first.empty or first.name == "shape")
        )
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        if wanted:
            return arguments
    raise UserError(
        f"{function}{signature} cannot be called; expected a function of (shape, classes), or one "
        "that needs no arguments"
    )


def kind_of(value: object) -> str:
    """What a value is, in words."""
    return "nothing" if value is None else f"a {type(value).__name__}"
