"""The criteria by their names in the config and in tables. No torch."""

from faultline.base import plugins

CRITERIA = (
    "relative_gradient",
    "fisher",
    "taylor_clean",
    "taylor_adversarial",
    "module_robust_criticality",
    "clat",
    "reinitialisation",
    "rerandomisation",
)

CONTROLS = ("magnitude", "depth", "weights", "random")
"""What needs no image to be known."""

EARLIER = (
    "synaptic_clean",
    "synaptic_adversarial",
    "dropout_clean",
    "dropout_adversarial",
    "knockout",
    "relative_error",
)
"""What other studies of the run say of validation images, where they do."""


def name_of(method: str) -> str:
    """What a criterion of the config is called: a function of the user's own by its name."""
    return plugins.parts(method)[1] if plugins.is_own(method) else method
