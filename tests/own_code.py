"""A network, an attack and an ablation as users write them: what the tests give the workflow."""

import torch
from torch import nn

from faultline import Mask, Variant


class Branching(nn.Module):
    """Takes another way for dark images, so torch.fx cannot trace it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.unused = nn.Linear(3, 3)
        self.last = nn.Linear(4 * 6 * 6, 10)

    def forward(self, x):
        out = self.first(x).relu()
        if x.mean() < 0.01:
            out = out * 2
        return self.last(out.view(len(out), -1))


def uphill(network, images, labels, *, attack, eps, bounds, start):
    """Half a random step within eps, then one up the loss."""
    adversarial = (images + start / 2).clamp(*bounds).requires_grad_()
    loss = nn.functional.cross_entropy(network(adversarial), labels)
    (gradient,) = torch.autograd.grad(loss, adversarial)
    step = attack["options"].get("share", 0.5) * eps * gradient.sign()
    return (adversarial + step).clamp(*bounds)


def halve(name, layer, share=0.5):
    """Weights made smaller, and the first filter removed."""
    smaller = layer.weight.detach() * share
    yield Variant({"what": "weights", "share": share}, "w", lambda: {f"{name}.weight": smaller})
    yield Variant({"what": "filter 0", "share": 1.0}, "m", mask=Mask(name, (0,), "weights"))
