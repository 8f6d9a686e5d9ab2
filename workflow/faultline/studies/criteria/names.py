"""The criteria by their names in the config and in tables. No torch.

Each stands with its function in a module of criteria: an entry in one of these is all that a
further criterion needs.
"""

from faultline.base import plugins
from faultline.studies.criteria import controls, gradient, perturbed
from faultline.studies.criteria.entry import Criterion

CRITERIA = gradient.CRITERIA | perturbed.CRITERIA

CONTROLS = controls.CONTROLS
"""What needs no image to be known."""

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

OPPOSITE = "_opposite"
"""What is behind a criterion's name where the other end of its scores is picked."""


def name_of(method: str) -> str:
    """What a criterion of the config is called: a function of the user's own by its name."""
    return plugins.parts(method)[1] if plugins.is_own(method) else method
