"""What a sweep refuses, each in one line."""

import pytest
import torch
from torch import nn
from trainings import quiet

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import Mask, Variant, nodal_variants
from faultline.base.errors import UserError

IMAGES, LABELS = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
NAN = float("nan")


def network_of(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, classes)).eval()


def swept(network=None, variants=None, sets=None, labels=LABELS, **more):
    network = network or network_of()
    if variants is None:
        variants = nodal_variants("0", network[0], filters=range(5), at="weights")
    sets = {"clean": IMAGES} if sets is None else sets
    return sweep(network, variants, sets, labels, **{"ablated": ["0"], "say": quiet, **more})


def one(**changes):
    return [Variant(**{"columns": {"n": 0}, "key": 1, **changes})]


MASKED = one(mask=Mask("0", (0,), "weights"))


def replacing(name="0.weight", shape=(5, 4)):
    return one(replace=lambda: {name: torch.zeros(shape)})


class Dict(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        return {"logits": self.head(images)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": LABELS[:3]}, "labels: 3 for 6 images"),
        ({"labels": LABELS - 1}, "labels: hold -1"),
        ({"labels": LABELS + 1}, "labels: hold 3, and the network tells 3 classes apart"),
        ({"labels": nn.functional.one_hot(LABELS)}, r"labels: \[6, 3\].*labels.argmax\(1\)"),
        ({"labels": LABELS + 0.5}, "labels: hold 0.5; expected whole numbers"),
        ({"labels": LABELS.tolist()}, "labels: a list"),
        ({"variants": []}, "variants: there are none"),
        ({"variants": ["conv1"]}, "variants: hold a str"),
        ({"variants": MASKED + one(columns={"m": 0})}, r"columns \['m'\] in one, \['n'\] in"),
        ({"variants": one()}, "neither replace nor mask"),
        ({"variants": one(mask=Mask("0", (0,), "weights"), replace=dict)}, "both replace and mask"),
        ({"variants": one(mask=Mask("0", (0,), "activations"))}, "did you mean 'activation'"),
        ({"variants": one(mask=Mask("0", (5,), "weights"))}, "no filter 5; its 5 are 0 to 4"),
        ({"variants": one(mask=Mask("0", (-1,), "weights"))}, "no filter -1"),
        ({"variants": one(mask=Mask("2", (0,), "weights"))}, "'2' is unknown.*one of: 0"),
        ({"variants": replacing("0.wieght")}, "'0.wieght' is unknown; did you mean '0.weight'"),
        ({"variants": replacing("2.bias", (3,))}, "'2.bias' is unknown"),
        ({"variants": replacing("0.bias", (1,))}, r"replaces 0.bias by \[1\]; expected \[5\]"),
        ({"sets": {}}, "image_sets: there is none"),
        ({"sets": {"clean": IMAGES, "pgd": IMAGES[:5]}}, "labels: 6 for 5 images"),
        ({"sets": {"clean": (255 * IMAGES).byte()}}, "'clean': of type uint8.*floating point"),
        ({"sets": {"clean": IMAGES.numpy()}}, "'clean': a ndarray"),
        ({"sets": {"clean": IMAGES * NAN}}, "'clean': hold NaN"),
        ({"sets": {"clean": IMAGES[:0]}, "labels": LABELS[:0]}, "images: there are none"),
        ({"sets": {"pgd": IMAGES}, "attacks": {"apgd": quiet}}, 'the set "clean"; add it'),
        ({"attacks": {"clean": quiet}}, "'clean' is an image set, too"),
        ({"tops": ()}, "tops: there are none"),
        ({"tops": (1, 0)}, "tops: 0; expected a whole number, at least 1"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"network": network_of(1)}, "the network tells 1 classes apart"),
        ({"network": Dict(), "variants": [Variant({}, None)]}, "the network gives a dict"),
    ],
)
def test_refused(changes, words):
    with pytest.raises(UserError, match=words):
        swept(**changes)


def test_what_a_variant_replaces_is_checked_without_a_graph_too():
    class Loop(nn.Sequential):
        def forward(self, images):
            return super().forward(images if images.sum() > 0 else images + 1)

    network = Loop(*network_of())
    for variants in (replacing("0.wieght"), replacing("0.bias", (1,))):
        with pytest.raises(UserError, match="variants: "):
            swept(network, variants)


def test_whole_numbers_of_any_type_are_labels():
    expected = swept().base["clean"].tolist()
    for labels in (LABELS.int(), LABELS.byte(), LABELS.float()):
        assert swept(labels=labels).base["clean"].tolist() == expected
