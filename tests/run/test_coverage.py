"""What is said of the user's own networks, in words."""

import pytest

from faultline.networks import facts
from faultline.run.coverage import notes
from faultline.studies.fragile.config import Targeting

LAYERS = [["first", "conv", 4], ["norm", "norm", 4], ["last", "linear", 10]]


@pytest.fixture
def said(monkeypatch):
    """What is said of a network with these facts."""

    def tell(*, norms=False, parameters=False, at=None, **found):
        whole = {"input": "image", "min_size": 1, "layers": LAYERS, "parameters": 10_000}
        monkeypatch.setattr(facts, "_own", {"mine": whole | {"unseen": [], "tried": 0, **found}})
        facts.see(norms=norms, parameters=parameters)
        facts._listed.cache_clear()
        targeting = {"layers": "first"} | ({"at": at} if at else {})
        networks, targeting = ["small_conv", "mine"], Targeting.model_validate(targeting)
        return notes(networks, targeting=targeting, norms=norms, parameters=parameters).get("mine")

    yield tell
    facts.see()
    facts._listed.cache_clear()


def row(path, of, count, why=""):
    return [path, of, count, why]


def test_nothing_where_nearly_all_is_seen(said):
    assert said() is None
    assert said(unseen=[row("norm", "LayerNorm", 100, "norm")]) is None


def test_what_is_not_seen_is_named_with_the_largest_first(said):
    unseen = [row(f"p{size}", "Parameter", size) for size in (7, 3000, 12, 90, 1)]
    assert said(unseen=unseen) == (
        "68 % of its parameters are in layers that can be ablated; not: p3000 (Parameter, 3,000), "
        "p90 (Parameter, 90), p12 (Parameter, 12) and 2 more (ablation.parameters: true adds these)"
    )
    assert said(unseen=unseen, parameters=True) is None
    assert said(unseen=[row("all", "Mix", 9950)]).startswith("0.5 % of its parameters")


def test_normalisations_in_a_few_words_and_as_layers(said):
    unseen = [row("norm", "LayerNorm", 150, "norm"), row("norm2", "LayerNorm", 50, "norm")]
    assert said(unseen=unseen) == (
        "98 % of its parameters are in layers that can be ablated; not: 2 normalisations"
    )
    assert said(unseen=unseen, norms=True) is None
    found = said(unseen=[*unseen, row("mix", "Mix", 90)])
    assert found.endswith("(ablation.parameters: true adds these), 2 normalisations")


def test_what_is_not_used_is_named_however_small(said):
    unseen = [row("spare", "Linear", 12, "unused")]
    assert said(unseen=unseen) == "on no path to the logits: spare (Linear, 12)"
    expected = "not reached by 256 images of noise: spare (Linear, 12)"
    assert said(unseen=unseen, tried=256) == expected


def test_where_targeting_falls_back(said):
    hidden = {"hidden": {"first": "it cannot be traced by torch.fx (why)"}}
    assert said(**hidden) == (
        "it cannot be traced by torch.fx (why), so targeting reads the outputs of its layers"
    )
    assert said(**hidden, at="output") is None
    assert said(hidden={"last": "another"}) is None
