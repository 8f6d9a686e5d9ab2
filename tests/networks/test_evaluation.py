import pytest
import torch
from torch import nn

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.base.errors import UserError
from faultline.networks.evaluation import difference, predict, predicted, scale

INF, NAN = float("inf"), float("nan")


def test_the_predicted_class_is_none_where_the_largest_logit_is_not_finite():
    logits = torch.tensor(
        [[1.0, 2, 0], [-INF, 2, -INF], [NAN, 1, 0], [1, INF, 0], [-INF] * 3, [NAN] * 3]
    )
    assert predicted(logits).tolist() == [1, 1, -1, -1, -1, -1]


def test_the_scale_of_logits_and_their_difference_go_by_finite_ones():
    one = torch.tensor([1.0, -INF, INF, NAN, -INF, 3, 0])
    other = torch.tensor([1.5, -INF, INF, NAN, INF, NAN, -INF])
    found = difference(one, other)
    assert found[:5].tolist() == [0.5, 0, 0, 0, INF]
    assert found[5].isnan() and found[6] == INF
    assert scale(torch.tensor([[1.0, -INF], [-3, NAN]])) == 3
    assert scale(torch.tensor([[NAN, INF]])) == 0


class Named(nn.Module):
    def forward(self, images):
        return {"logits": images.flatten(1)}


@pytest.mark.parametrize("network", [Named(), nn.Identity(), nn.Flatten(0)])
def test_what_is_no_logits_is_refused(network):
    with pytest.raises(UserError, match=r"the network gives .* for 3 images; expected logits"):
        predict(network, torch.rand(3, 1, 2))


UNDER = []


class Telling(nn.Linear):
    """Tells what it runs under: autocast, and convolutions by TF32."""

    def forward(self, values):
        UNDER[:] = torch.is_autocast_enabled("cpu"), torch.backends.cudnn.allow_tf32
        return super().forward(values)


def test_numbers_are_not_rounded_to_save_time():
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.conv.fp32_precision
    network = Telling(4, 3).eval()
    images = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    labels = network(images).argmax(1)
    expected = network(images).detach()
    assert UNDER == [False, True]
    with torch.autocast("cpu", dtype=torch.bfloat16), cudnn.flags(enabled=True, deterministic=True):
        assert not torch.equal(network(images), expected)
        assert torch.equal(predict(network, images), expected)
        assert UNDER == [False, False]
        assert cudnn.deterministic and cudnn.allow_tf32
        body = nn.Sequential(network)
        variants = [*nodal_variants("0", network, filters=[0], at="weights")]
        facts = sweep(body, variants, {"clean": images}, labels, ablated=["0"], say=lambda _: None)
        assert UNDER == [False, False] and facts.base["clean"].all()
        network(images)
        assert UNDER == [True, True]
    assert (cudnn.conv.fp32_precision, cudnn.allow_tf32) == (before, True)
