"""What ablated networks are judged on. No torch."""

from typing import Literal

from pydantic import Field

from faultline.base.errors import UserError
from faultline.config.datasets import Dataset
from faultline.config.fields import Images, Inferred, Name, Names, Section, Severity
from faultline.data.describe import check_enough

FEWEST = 100
"""Images that can be drawn by strata (ours)."""


class Ablation(Section):
    """What ablated networks are judged on."""

    attacks: Inferred[Names] = None
    """The attacks under which ablated networks are judged, all by default; [] judges them on
    clean images only."""
    stresses: dict[Name, Severity] = Field(default_factory=dict)
    """Stresses under which ablated networks are judged as well, each with the severity: {fog: 3}.
    Their scores stand beside those of attacks, under their names."""
    images: Images | None = None
    """How many images of the split ablated networks are judged on; null takes all."""
    choose: Literal["first", "margin"] = "first"
    """Which images these are. first takes the first ones, a fair sample. margin draws from the
    whole split, the more of the images on which the unablated network is least sure, whose
    predictions change first; scores go by what each stands for. It gains where few predictions
    change, as without single filters or bands, and loses where most do (ours)."""
    split: Inferred[Literal["validation", "test"]] = None
    """Which images these are, for targeting too; by default validation where
    retraining.from_epochs says that classes choose what is frozen (test is refused there, as
    test images judge the retraining), else test (ours)."""
    target: Literal["ablated", "base", "both"] = "ablated"
    """Which network is attacked. ablated crafts adversarial images anew on each ablated
    network; base crafts them once, on the unablated one, and reuses them, which is transfer
    (image sets called "<attack> transfer"); both does both (ours)."""
    norms: bool = False
    """Whether normalisations with scale and shift are layers, too, with a channel for a filter;
    such layers are then among all (ours)."""
    parameters: bool = False
    """Whether parameters that are in no layer, such as class tokens, positions and layer scales, or
    those of modules of the user's own, are layers, too, each of one unit; such layers are then
    among all, but where outputs of layers are looked at (targeting, remedy, criteria,
    sustainability) and where layers are frozen (ours)."""


def check_ablation(ablation: Ablation, datasets: dict[str, Dataset], *, chooses: bool) -> None:
    """Which images ablated networks are judged on: where classes choose what is frozen (chooses),
    none that retraining is judged on."""
    if ablation.choose == "margin" and (ablation.images or 0) < FEWEST:
        raise UserError(
            f"config key ablation.images: {ablation.images}; expected at least {FEWEST} with "
            "ablation.choose: margin, which draws them from the whole split; give so many, or set "
            "choose to first"
        )
    ablation.split = ablation.split or ("validation" if chooses else "test")
    if ablation.split == "validation":
        for name, dataset in datasets.items():
            if dataset.validation is not None:  # else the job counts them
                check_enough(name, dataset.validation, ablation.images)
    elif chooses:
        raise UserError(
            "config key ablation.split: retraining and mending are judged on test images, so the "
            "classes that say what is frozen must not come from them; set it to validation, or "
            "retraining.from_epochs to []"
        )
