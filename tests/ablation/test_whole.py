"""Sweeps where there is no graph, or where it fails."""

import pytest
import torch
from sweeps import assert_as_naive, naive_logits, some_variants
from torch import nn
from trainings import quiet

from faultline.ablation.engines import Engine, engine_of
from faultline.ablation.sweep import sweep
from faultline.ablation.tracing import Traced
from faultline.ablation.whole import Loop, Resumed
from faultline.networks.layers import layers


class Counted(nn.Linear):
    """Counts how often it is called."""

    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return super().forward(x)


class Odd(nn.Module):
    """torch.fx cannot follow it: what it is given decides. write: whether it works in place on what
    a module gave. read: whether its first module reads the weights of its last one."""

    def __init__(self, *, write=False, read=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again, self.last = Counted(12, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.write, self.read = write, read

    def forward(self, x):
        x = self.first(x.flatten(1))
        if self.read:
            x = x + self.last.weight.mean()
        x = self.again(x.mul_(2) if self.write else x)
        return self.last(self.again(x.tanh()) if x.sum() > -1e9 else x)


IMAGES, LABELS = torch.rand(6, 1, 3, 4), torch.arange(6) % 4


@pytest.mark.parametrize("given", [{}, {"write": True}, {"read": True}])
@pytest.mark.parametrize("layer", ["again", "last"])
def test_without_a_graph_as_the_naive_implementation(given, layer):
    network = Odd(**given).eval()
    variants = some_variants(network, layer, places=False)
    assert_as_naive(network, variants, IMAGES, LABELS, ablated=[layer], ways=({"batch_size": 4},))
    engine = engine_of(network, variants, [layer], IMAGES, quiet)
    assert type(engine.way) is (Loop if layer == "last" and "read" in given else Resumed)


def test_what_comes_before_a_layer_is_run_once_for_each_batch():
    network = Odd().eval()
    variants = some_variants(network, "last", places=False)
    with torch.no_grad():
        evaluate = engine_of(network, variants, ["last"], IMAGES, quiet).fixed(IMAGES)
        Counted.calls = 0
        assert len([*evaluate([None, *variants])]) == 1 + len(variants)
    assert Counted.calls == 1


class Failing:
    """A way that fails at the second variant."""

    def __init__(self, loop):
        self.loop = loop

    def fixed(self, images, batch_size):
        evaluate = self.loop.fixed(images)

        def failing(variants):
            yield from evaluate(variants[:1])
            raise KeyError("relu_1")

        return failing


def test_where_a_shortcut_fails_the_next_way_goes_on_and_it_is_told_once():
    network, said = Odd().eval(), []
    variants = some_variants(network, "last", places=False)
    loop = Loop(network, variants, ["last"], IMAGES[:1])
    engine = Engine([lambda: Failing(loop), lambda: [][0], lambda: loop], said.append)
    distinct = [variant for variant in variants if variant.key is not None]
    with torch.no_grad():
        found = [logits for _, logits in engine.fixed(IMAGES)(distinct)]
    for variant, logits in zip(distinct, found, strict=True):
        torch.testing.assert_close(logits, naive_logits(network, variant, IMAGES))
    assert [line.split(")")[0] for line in said] == [
        "a shortcut fails here (KeyError: 'relu_1'",
        "a shortcut fails here (IndexError: list index out of range",
    ]
    alone = Engine([lambda: Failing(loop)], said.append).fixed(IMAGES)
    with pytest.raises(KeyError):
        [*alone([None, None])]


class Sized(nn.Module):
    """A size that comes of what lies before the layer is read after it."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)
        self.table, self.head = nn.Parameter(torch.randn(1, 4, 2, 2)), nn.Linear(4, 3)

    def forward(self, x):
        n, _, h, w = x.shape
        x = self.stem(x)
        table = nn.functional.interpolate(self.table, (h, w)).to(self.stem.weight.device)
        x = torch.relu(self.conv(x)) + table
        return self.head(x.reshape(n, 4, h * w).mean(2))


@pytest.mark.parametrize("layer", ["stem", "conv", "head"])
def test_sizes_of_what_lies_before_a_layer(layer):
    torch.manual_seed(0)
    network, images = Sized().eval(), torch.rand(6, 1, 4, 4)
    variants = some_variants(network, layer, places=False)
    assert type(engine_of(network, variants, [layer], images, quiet).way).__name__ == "Graph"
    said = []
    sweep(network, variants, {"": images}, LABELS % 3, ablated=[layer], say=said.append)
    assert not any("fails" in line for line in said)
    assert_as_naive(network, variants, images, LABELS % 3, ablated=[layer], ways=({},))


class Optional(nn.Module):
    """Takes more than one input, of which the others have a default that decides."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 3)

    def forward(self, x, mask=None, *, double=False):
        x = self.fc(x.flatten(1))
        if mask is not None:
            x = x * mask
        return 2 * x if double else x


def test_inputs_with_a_default_are_not_traced():
    assert Traced(Optional().eval(), ["fc"], IMAGES).direct == {"fc"}


class Volumes(nn.Module):
    """A parameter of five dimensions beside convolutions that a CPU runs channels last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bias = nn.Parameter(torch.randn(1, 1, 4, 3, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head((self.conv(x)[:, None] + self.bias)[:, 0].mean((2, 3)))


def test_parameters_of_five_dimensions_stay_as_they_lie():
    network = Volumes().eval()
    assert Traced(network, [*layers(network)], IMAGES).laid_out
