"""Data sets without training images: what would learn says so, and where else to look."""

import pytest
import yaml
from support import error_of

from faultline.studies.config import resolve

CONFIG = """
datasets: {digits: {train: 0, validation: 200, test: 60, mean: [0.3], std: [0.3]}}
networks: [small_conv]
trainings: {given: {epochs: [0]}}
attacks: {fgsm: {method: fgsm, eps: 0.1}}
retraining: {from_epochs: []}
"""


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        (
            "trainings",
            {"given": {"epochs": [0, 2]}},
            "trainings.given.epochs: [0, 2], but data set",
        ),
        ("retraining", {"from_epochs": [0]}, "retraining.from_epochs: [0], but data set digits"),
        ("mending", {"from_epochs": "last"}, "mending.candidates: harden learns, but data set"),
        (
            "criteria",
            {"methods": ["depth"], "use": {"recipes": ["at-nfgsm"]}},
            "criteria.use.recipes: ['at-nfgsm'], but data set digits",
        ),
    ],
)
def test_what_would_learn_says_that_it_cannot(section, value, words):
    config = yaml.safe_load(CONFIG)
    assert resolve(config).untrained == ["digits"]
    assert words in error_of(resolve, config | {section: value})


def test_of_all_mends_those_that_learn_nothing_are_left():
    mending = {"mending": {"from_epochs": "last", "candidates": "all"}}
    assert resolve(yaml.safe_load(CONFIG) | mending).mending.candidates == ["remedy", "remove"]


def test_the_moments_must_be_given():
    config = yaml.safe_load(CONFIG)
    del config["datasets"]["digits"]["mean"], config["datasets"]["digits"]["std"]
    assert "datasets.digits.mean: missing; there are no" in error_of(resolve, config)
