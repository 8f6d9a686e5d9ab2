"""All layers of a network in one call, against the steps that a run takes."""

import pandas as pd
import pytest
import torch
from support import error_of
from torch import nn

import faultline
from faultline import (
    UserError,
    analyse,
    classify,
    crafters,
    layer_scores,
    layers,
    prepare,
    random_variants,
    sweep,
    synaptic_variants,
)
from faultline.base.seeds import seed_of

FGSM = {"method": "fgsm", "eps": 0.1, "norm": "linf"}
TAU = {"S_clean": 0.1, "S_adv": 0.1, "S_diff": 0.1}


@pytest.fixture(scope="module")
def digits():
    """A network of random features and 60 images that it knows."""
    torch.manual_seed(0)
    data = prepare("digits", train=300, validation=100, test=60, split_seed=0)
    stored, labels = data.splits["train"]
    features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        found = features(data.pixels(stored))
        means = torch.stack([found[labels == c].mean(0) for c in range(10)])
        last = nn.Linear(means.shape[1], 10)
        last.weight.copy_(means)
        last.bias.copy_(-means.square().sum(1) / 2)
    return nn.Sequential(*features, last).eval(), data, *faultline.test_images(data)


def test_it_is_what_the_steps_one_by_one_give(digits):
    network, data, images, labels = digits
    settings = {"thresholds": 5, "random_draws": 2}
    found = analyse(network, images, labels, attack=FGSM, **settings)
    parts = []
    for name in ("0", "3"):
        layer = {name: layers(network)[name]}
        variants = synaptic_variants(layer, kinds=["high_pass", "low_pass", "pulse"], count=5)
        variants += random_variants(layer, draws=2, seed=seed_of(0, name))
        facts = sweep(
            network,
            variants,
            {"clean": images},
            labels,
            ablated=[name],
            attacks=crafters({"fgsm": FGSM}, data, seed=0, until_fooled=True),
            say=lambda line: None,
        )
        scores = layer_scores(
            facts, baseline="random", integration="trapezoid", confidence=0.95, compared=2
        )
        parts.append(scores.assign(layer=name))
    expected = classify(pd.concat(parts), tau=TAU, by=["filter", "attack", "score"])
    pd.testing.assert_frame_equal(
        found.scores[[*expected]].reset_index(drop=True), expected.reset_index(drop=True)
    )
    combined = expected[expected["filter"] == "combined"]
    assert list(found.layers["value"]) == list(combined["value"])
    assert list(found.layers["layer"]) == ["0"] * 3 + ["3"] * 3
    html = found._repr_html_()
    assert "S_adv (fgsm), weights as given" in html and html.count('class="layer ') == 2
    assert "S_diff" in repr(found) and set(found.curves["layer"]) == {"0", "3"}


def test_without_an_attack_there_are_clean_scores_of_the_layers_that_are_asked_for(digits, capsys):
    network, _, images, labels = digits
    before = [parameter.clone() for parameter in network.parameters()]
    found = analyse(network, images, labels, layers=["3"], thresholds=3, random_draws=2)
    assert found.layers[["layer", "score"]].to_numpy().tolist() == [["3", "S_clean"]]
    assert capsys.readouterr().out == ""  # see `notes`
    assert all(map(torch.equal, before, network.parameters()))


def test_mistakes_are_told_in_one_line(digits):
    network, _, images, labels = digits
    assert "3 for 60 images" in error_of(analyse, network, images, labels[:3])
    assert "did you mean" in error_of(analyse, network, images, labels, layers=["33"])
    assert "eps above 0" in error_of(analyse, network, images, labels, attack={"method": "fgsm"})
    assert "thresholds" in error_of(analyse, network, images, labels, thresholds=1)
    with pytest.raises(UserError, match="no layer to ablate"):
        analyse(nn.Flatten(), torch.rand(4, 3), torch.arange(4) % 3)
