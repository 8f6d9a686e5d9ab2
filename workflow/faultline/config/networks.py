"""Networks of the config. No torch."""

import re
from pathlib import Path
from typing import Annotated

from faultline.base import plugins
from faultline.base.errors import UserError, nearest, short
from faultline.config.fields import CODE, Section
from faultline.data.sources import Source
from faultline.networks import facts as network_facts
from faultline.networks.asking import own_facts
from faultline.networks.facts import networks


class OwnNetwork(Section):
    """A network of the user's own."""

    function: Annotated[str, CODE]
    """file.py:function returns a torch.nn.Module that gives logits [n, classes]. It is called
    with (shape, classes), shape that of one input, or without arguments where it takes none.
    torchvision:model is any classifier of torchvision.models."""
    normalise: bool = True
    """Put the normalisation with the data set's mean and std before the network; false for one
    that normalises itself. Either way pixels in 0..1 come in."""


def check_own_networks(
    chosen: list[str],
    mine: dict[str, OwnNetwork],
    facts: dict[str, Source],
    *,
    folder: Path,
    prober: str,
) -> None:
    """Names the networks that are given as functions, and finds their layers.

    chosen: the key networks; mine: own_networks; both are completed. facts: data set -> what is
    known of it. folder, prober: see `asking.own_facts`. UserError for what is no network.
    """
    builtin = network_facts.registry()
    for place, network in enumerate(chosen):
        if plugins.is_own(network):
            name = network.rpartition(":")[2]
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) or name == "nan":
                raise UserError(
                    f"config key networks: {short(name)!r} would be the name of a folder; give the "
                    "network another in own_networks, of letters, digits, '-' and '_'"
                )
            if name in builtin:
                mine_too = "give yours another name, in own_networks"
                remedy = f"write {name}" if plugins.of_torchvision(network) else mine_too
                raise UserError(
                    f"config key networks: {network}: a built-in network is called {name}; {remedy}"
                )
            if mine.setdefault(name, OwnNetwork(function=network)).function != network:
                raise UserError(
                    f"config key networks: two networks would be called {name}; name one in "
                    "own_networks"
                )
            chosen[place] = name
    fits = [fit_of(of) for of in facts.values()]
    for network in chosen:
        if network not in mine and network not in builtin:
            raise UserError(
                f"config key networks: {network!r} is not known; "
                f"{nearest(network, [*builtin, *mine])}"
            )
        if network in mine and network in builtin:
            raise UserError(
                f"config key own_networks.{network}: a built-in network has this name; name yours "
                "otherwise, there and under networks"
            )
    settings = {network: mine[network].dump() for network in chosen if network in mine}
    found = own_facts(settings, fits, folder=folder, prober=prober)
    for network, facts_of_it in found.items():
        network_facts.add(network, facts_of_it)


def fit_of(source: Source) -> network_facts.Fit:
    """What a network must fit of a data set."""
    if source.vocabulary is None:
        return source.shape, source.classes
    return source.shape, source.classes, source.vocabulary


def check_fit(network: str, dataset: str, source: Source) -> None:
    """UserError where a network does not take what a data set holds."""
    facts = networks()[network]
    kind, shape = source.kind, source.shape
    if facts["input"] != kind:
        fitting = [n for n, f in networks().items() if f["input"] == kind]
        own = "a network of your own, file.py:function, which takes them"
        raise UserError(
            f"config key networks: {network} takes {facts['input']}s, but data set {dataset} "
            f"holds {kind}s; for it choose from: {', '.join(fitting) or own}"
        )
    if kind == "image" and min(shape[1:]) < facts["min_size"]:
        size = "x".join(str(s) for s in shape[1:])
        fitting = [
            n
            for n, f in networks().items()
            if f["input"] == kind and f["min_size"] <= min(shape[1:])
        ]
        raise UserError(
            f"config key networks: {network} needs images of at least "
            f"{facts['min_size']}x{facts['min_size']}, but data set {dataset} has {size}; "
            f"for it choose from: {', '.join(fitting)}; or scale the images with "
            f"datasets.{dataset}.size"
        )
