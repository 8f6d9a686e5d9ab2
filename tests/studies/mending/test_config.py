"""What mending asks of the config."""

import pytest
from run_tables import make_config

from faultline.base.errors import UserError

PICKED = {"from_epochs": "last", "candidates": ["harden", "picked"]}
FOG = {"fog": {"kind": "fog", "severities": [1, 3]}}
RETRAINED = {"retraining": {"from_epochs": []}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"mending": PICKED, "synaptic_filtering": {"layers": "none"}} | RETRAINED,
            "which need synaptic_filtering.layers, go picked and selective; choose",
        ),
        (
            {"mending": PICKED | {"candidates": ["remove"]}, "nodal_dropout": {"layers": "none"}},
            "which need nodal_dropout.layers, go remove; choose",
        ),
        ({"mending": PICKED | {"candidates": ["pickd"]}}, "did you mean 'picked'"),
        ({"mending": PICKED | {"judged_under": []}}, "mending.judged_under"),
        ({"mending": PICKED | {"under": ["fgo"]}, "stresses": FOG}, "did you mean 'fog'"),
        (
            {"mending": PICKED | {"under": ["fog"], "judged_under": ["pgd"]}, "stresses": FOG},
            "is for a mend under attacks",
        ),
        (
            {"mending": PICKED | {"under": ["fog"], "candidates": ["harden_pgd"]}}
            | {"stresses": FOG},
            "harden_pgd is against attacks alone",
        ),
        (
            {"mending": PICKED | {"under": ["fog", "bit_faults"]}, "stresses": FOG},
            "fog is a stress of the inputs, and bit_faults of the weights",
        ),
        ({"mending": PICKED | {"candidates": ["clip"]}}, "clip is against bit_faults alone"),
        (
            {"mending": PICKED | {"under": ["fog"], "candidates": ["clip"]}} | {"stresses": FOG},
            "clip is against bit_faults alone",
        ),
        ({"mending": PICKED | {"under": ["bit_fault"]}}, "did you mean 'bit_faults'"),
    ],
)
def test_what_does_not_fit_is_named(changes, said):
    with pytest.raises(UserError, match="mending") as caught:
        make_config(**changes)
    assert said in str(caught.value)


def test_classes_that_choose_are_of_validation_images():
    assert make_config(mending=PICKED).ablation.split == "validation"
    assert make_config(mending={"from_epochs": "last"}).mending.by_class == set()
    both = make_config(mending={"from_epochs": "last", "candidates": "all"})
    assert both.mending.by_class == {"layers", "filters"}
    assert both.mending.judged_under == ["pgd"]


def test_under_stresses_no_attack_judges_and_their_classes_choose():
    under = {"from_epochs": "last", "under": ["fog"], "candidates": "all"}
    config = make_config(mending=under, stresses=FOG, ablation={"stresses": {"fog": 3}})
    assert config.mending.judged_under == [] and config.mended_score == "fog"
    assert "harden_pgd" not in config.mending.candidates and "picked" in config.mending.candidates
    assert make_config(mending=under, stresses=FOG).mended_score == "pgd"


def test_under_faults_all_that_fits_is_tried():
    under = {"from_epochs": "last", "under": ["bit_faults"], "candidates": "all"}
    mending = make_config(mending=under | {"fault_rate": 1e-5}).mending
    assert "clip" in mending.candidates and "harden_pgd" not in mending.candidates
    assert mending.faults == {"kinds": ["bit_faults"], "rate": 1e-5, "draws": 20}
    assert mending.judged_under == [] and mending.stresses == []
    assert "clip" not in make_config(mending=under | {"under": []}).mending.candidates
