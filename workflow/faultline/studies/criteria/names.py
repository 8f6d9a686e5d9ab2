"""The criteria by their names in the config and in tables. No torch.

Each stands with its function in a module of criteria: an entry in one of these is all that a
further criterion needs.
"""

from faultline.base import plugins
from faultline.base.columns import DRAWN, policy_of
from faultline.studies.criteria import controls, gradient, perturbed
from faultline.studies.criteria.entry import Criterion

CRITERIA = gradient.CRITERIA | perturbed.CRITERIA

CONTROLS = controls.CONTROLS
"""What needs no image to be known."""

REFERENCES = ("none", "full")
"""What is no criterion: nothing is trained, or everything."""

BUILTIN = CRITERIA | CONTROLS

EARLIER = {
    "synaptic_clean": Criterion(None, lowest=True),
    "synaptic_adversarial": Criterion(None, lowest=True),
    "dropout_clean": Criterion(None, layers=False),
    "dropout_adversarial": Criterion(None, layers=False),
    "knockout": Criterion(None),
    "relative_error": Criterion(None),
}
"""What other studies of the run say of validation images, where they do."""

LABELS, SHIFTED = "labels", "shifted"
"""The shift of data whose labels are in reverse order; the image set of shifted data."""

OPPOSITE = "_opposite"
"""What is behind a criterion's name where the other end of its scores is picked."""


def shift_of(recipe: str) -> tuple[str, str | None]:
    """(recipe, the shift of the data that is trained on), of standard@fog; None: there is none."""
    name, _, shift = recipe.partition("@")
    return name, shift or None


def is_control(pick: str) -> bool:
    """Whether no image is needed to know what is picked, from either end, drawn at random, nothing
    or everything."""
    controls = (*CONTROLS, *DRAWN, *REFERENCES)
    return policy_of(pick.removesuffix(OPPOSITE)) in controls


def name_of(method: str) -> str:
    """What a criterion of the config is called: a function of the user's own by its name."""
    return plugins.parts(method)[1] if plugins.is_own(method) else method
