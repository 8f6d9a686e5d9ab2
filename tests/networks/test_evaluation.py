import pytest
import torch
from torch import nn

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
