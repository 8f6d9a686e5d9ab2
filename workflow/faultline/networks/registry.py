"""The networks: one registry, built from a name, a shape and a seed.

`plugins.NETWORKS` holds the user's own, beside the registry. After a change here, `python -m
faultline.networks` writes anew what parsing must know, see `facts`.
"""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from faultline.base import plugins
from faultline.base.errors import UserError, nearest
from faultline.networks.architectures import (
    Network,
    Normalise,
    SmallViT,
    TokenNetwork,
    from_torchvision,
    lsa_mnist,
    lsa_moons,
    mlp,
    small_conv,
    small_resnet,
    wide_resnet,
)
from faultline.networks.forms import Form, bare, form_of
from faultline.networks.plain import preserved
from faultline.networks.plugins import build as build_own
from faultline.networks.vision import load_torchvision


class Entry(NamedTuple):
    """One network of the registry.

    build:    (shape of one input, classes) -> body; shape is (c, h, w), (c, t), (f,) or (t,).
    input:    "image" or "vector", of what is built in.
    min_size: the smallest height and width, or number of features, that it can take.
    classes:  the only number of classes that it can take; None: any.
    normalise: whether normalisation is put before it.
    """

    build: Callable[[tuple[int, ...], int], nn.Module]
    input: str
    min_size: int
    classes: int | None = None
    normalise: bool = True


REGISTRY: dict[str, Entry] = {
    "small_conv": Entry(small_conv, "image", 2),
    "small_resnet": Entry(small_resnet, "image", 1),
    "small_vit": Entry(SmallViT, "image", 2),
    "lsa_mnist": Entry(lsa_mnist, "image", 4),
    "lsa_moons": Entry(lsa_moons, "vector", 1, classes=2),
    "mlp": Entry(mlp, "vector", 1),
    "resnet18": Entry(partial(from_torchvision, "resnet18"), "image", 1),
    "resnet50": Entry(partial(from_torchvision, "resnet50"), "image", 1),
    "squeezenet1_1": Entry(partial(from_torchvision, "squeezenet1_1"), "image", 17),
    "shufflenet_v2_x1_0": Entry(partial(from_torchvision, "shufflenet_v2_x1_0"), "image", 1),
    "alexnet": Entry(partial(from_torchvision, "alexnet"), "image", 63),
    "vgg16": Entry(partial(from_torchvision, "vgg16"), "image", 32),
    "vgg19": Entry(partial(from_torchvision, "vgg19"), "image", 32),
    "wideresnet28_10": Entry(partial(wide_resnet, depth=28, width=10, dropout=0.3), "image", 1),
}


def build(
    name: str,
    *,
    shape: tuple[int, ...],
    classes: int,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    seed: int,
) -> Network:
    """A freshly initialised network in eval mode, on the CPU.

    shape: of one input, without n. mean, std: in input units, one number or one per channel or
    feature; None for tokens, which are not normalised. The weights depend on `seed` alone; the
    global random state stays as it is. Raises UserError for an unknown name and for a shape or a
    number of classes that it cannot take.
    """
    entry = _checked(name, shape, classes)
    # The CPU generator alone: torch.manual_seed would reseed the GPUs too.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        body = entry.build(shape, classes)
        form = _form(name, body, shape, classes, tokens=mean is None)
        if mean is None or std is None:
            return TokenNetwork(body, form).eval()
        normalise = Normalise(mean, std, shape=shape) if entry.normalise else nn.Identity()
        return Network(normalise, body, form).eval()


def _form(
    name: str, body: nn.Module, shape: tuple[int, ...], classes: int, *, tokens: bool
) -> Form:
    """How a network is called; the usual form where it does not run, as its next call tells."""
    if name not in plugins.NETWORKS:
        return Form()
    inputs = torch.zeros(2, *shape, dtype=torch.long if tokens else torch.float32)
    try:
        with preserved(body), torch.no_grad():
            return form_of(body.eval(), inputs, classes=classes)
    except UserError as error:
        raise UserError(f"{plugins.NETWORKS[name]['function']}: {error}") from None
    except Exception:
        return Form()


def classifier(network: nn.Module, images: torch.Tensor) -> Network:
    """A network of anyone's as one that gives logits [n, classes] for inputs like `images`, as the
    functions of this library expect; its layers keep their names.

    Of a dict, or of what transformers give, the logits are taken, or the first tensor of their
    shape, as of a tuple; one logit z becomes [0, z]; an input that is taken by name alone is given
    so. What parallel training or torch.compile put around it is left out, and weights become
    float32. UserError, which says what to write, where that is not enough.
    """
    network = bare(network).to(images.device)  # DataParallel takes it to a GPU
    with preserved(network), torch.no_grad():
        form = form_of(network.eval(), images[:2].clone())
    return Network(nn.Identity(), network, form).eval()


def entry_of(function: str, *, normalise: bool = True) -> Entry:
    """The entry of "file.py:function" of the user's own, or of "torchvision:model"."""
    source, _, name = function.rpartition(":")
    if source == plugins.TORCHVISION:
        return Entry(partial(_any_torchvision, name), "", 0, normalise=normalise)
    return Entry(partial(build_own, function), "", 0, normalise=normalise)


def _any_torchvision(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    models = load_torchvision().models
    names = models.list_models(module=models)
    if name not in names:
        raise UserError(f"torchvision has no classifier {name!r}; {nearest(name, names)}")
    with plugins.told(f"{plugins.TORCHVISION}:{name}"):
        return from_torchvision(name, shape, classes)


def _checked(name: str, shape: tuple[int, ...], classes: int) -> Entry:
    """The entry of `name`, or a UserError that says why it does not fit."""
    if name in plugins.NETWORKS:
        return entry_of(**plugins.NETWORKS[name])
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0)[0]
        raise UserError(
            f"network {name!r} is not known; the nearest is {near!r}, of {', '.join(REGISTRY)}"
        )
    entry = REGISTRY[name]
    size = "x".join(map(str, shape[1:] or shape))
    inputs = {
        1: f"vectors of {size} features",
        2: f"signals of {size} steps",
        3: f"images of {size} pixels",
    }[len(shape)]
    if len(shape) != (3 if entry.input == "image" else 1):
        raise UserError(
            f"network {name!r} takes {entry.input}s, not {inputs}; "
            f"choose another network or {entry.input} data"
        )
    if min(shape[1:] or shape) < entry.min_size:
        smallest = "x".join([str(entry.min_size)] * len(shape[1:] or shape))
        raise UserError(
            f"network {name!r} cannot take {inputs}: the smallest it takes is {smallest}; "
            "choose another network or larger inputs"
        )
    if entry.classes not in (None, classes):
        raise UserError(
            f"network {name!r} tells {entry.classes} classes apart, the data have {classes}; "
            "choose another network"
        )
    return entry
