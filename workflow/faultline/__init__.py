"""faultline: which parts of a network are fragile, robust or antifragile, and how to mend it.

What a notebook needs is here by name: `from faultline import sweep, Variant, Mask, load_network`.
Each is imported when it is first used, so that `import faultline` alone costs nothing.
"""

import importlib

_HOMES = {
    "ablation.facts": ["Facts"],
    "ablation.sweep": ["sweep"],
    "ablation.variants": [
        *("Mask", "Variant", "nodal_variants", "random_variants", "synaptic_variants")
    ],
    "attacks.craft": ["attack_curve", "craft"],
    "attacks.run": ["crafters"],
    "base.errors": ["UserError"],
    "data.splits": ["DataSet", "prepare", "test_images"],
    "networks.layers": ["layers"],
    "networks.registry": ["build"],
    "run.loading": ["build_network", "load_dataset", "load_network"],
    "studies.criteria.data": ["Score"],
    "studies.own.scores": ["accuracy_changes"],
    "studies.perturbations.variants": ["perturbation_variants"],
    "studies.synaptic.classes": ["classify"],
    "studies.synaptic.figures": ["threshold_curves"],
    "studies.synaptic.scores": [
        *("band_scores", "base_accuracy", "curves", "filter_scores", "layer_scores")
    ],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
