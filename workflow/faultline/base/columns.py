"""Columns and words that the tables share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not while the workflow is parsed
    from pandas import DataFrame

RUN = ["dataset", "network", "training"]
PLACE = [*RUN, "seed", "epoch"]
"""What names a checkpoint."""


def place(wildcards: Mapping[str, str]) -> dict[str, str]:
    """The wildcards of a job that name its checkpoint."""
    return {key: wildcards[key] for key in PLACE}


def put_first(table: "DataFrame", columns: Mapping[str, object]) -> "DataFrame":
    """A table of pandas itself, with further columns before its own, in their order."""
    for position, (name, value) in enumerate(columns.items()):
        table.insert(position, name, value)
    return table


NAMES = [*RUN, "layer", "attack", "policy", "probe", "images", "ablation", "variant"]
NAMES += ["node", "shape", "sources"]
"""Columns of names: text, whatever they look like."""


def transfer(attack: str) -> str:
    """The image set of an attack that was crafted on the unablated network and is reused on the
    ablated ones. Names of attacks hold no space."""
    return f"{attack} transfer"


UNITS = {
    "conv": "filter",
    "linear": "neuron",
    "attention": "head",
    "embedding": "column",
    "recurrent": "hidden unit",
    "norm": "channel",
    "parameter": "parameter",
}
"""Kind of layer -> what one unit of it is called."""

CLASSES = ("fragile", "robust", "antifragile", "untouched", "undefined")

CONTROL = "random"
"""The policy that does what another does, dealt out at random."""

MATCHED = "matched"
"""The same, dealt out to what lies as deep in the network."""

DRAWN = (CONTROL, MATCHED)
"""Policies of which there are draws: "random-0", "random-1" and so on."""


def policy_of(name: str) -> str:
    """The policy that a network was made under; of a draw, without its number."""
    policy, _, draw = name.rpartition("-")
    return policy if policy in DRAWN and draw.isdigit() else name
