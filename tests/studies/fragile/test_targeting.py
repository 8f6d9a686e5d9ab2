import numpy as np
import pytest
import torch
from support import error_of
from torch import nn

from faultline.base.errors import UserError
from faultline.base.seeds import seed_of
from faultline.networks.registry import build
from faultline.studies.fragile.targeting import feature_maps, kernels, noisy, targeting


class Hand(nn.Module):
    """Two 1x1 filters, 2x and -x + 1, a ReLU, the sum of each map as its logit."""

    def __init__(self, inplace=False):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.conv.weight.data = torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1)
        self.conv.bias.data = torch.tensor([0.0, 1.0])
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x):
        return self.relu(self.conv(x)).sum((2, 3))


DRAWN = {"bounds": (0.0, 1.0), "seed": 0}
CLEAN = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).reshape(2, 1, 1, 2)
ATTACKED = torch.tensor([[1.0, 1.0], [2.0, 1.0]]).reshape(2, 1, 1, 2)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("at", "moved", "norm"),
    [
        # 2x: (0, 2) -> (2, 2), (4, 6) -> (4, 2); 1 - x: (1, 0) -> (0, 0), (-1, -2) -> (-1, 0)
        ("output", [[2, 4], [1, 2]], [[2, 10], [1, 3]]),
        ("activation", [[2, 4], [1, 0]], [[2, 10], [1, 0]]),
    ],
)
def test_by_hand(at, moved, norm, inplace):
    table = targeting(Hand(inplace), ["conv"], CLEAN, {"pgd": ATTACKED}, at=at, **DRAWN)
    moved, norm = np.array(moved, float), np.array(norm, float)
    assert list(table["filter"]) == [0, 1]
    assert np.allclose(table["targeting"], moved.mean(1))
    assert np.allclose(table["std"], moved.std(1, ddof=1))
    assert np.allclose(table["clean_norm"], norm.mean(1))
    assert np.allclose(table["share"], moved.sum(1) / moved.sum())
    assert np.allclose(table["relative"], moved.sum(1) / norm.sum(1))
    assert set(table["n"]) == {2}


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    network = build("small_conv", shape=(1, 8, 8), classes=10, mean=0.3, std=0.4, seed=0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    images = torch.rand(37, 1, 8, 8)
    return network, images, (images + 0.1 * torch.randn(37, 1, 8, 8)).clamp(0, 1)


def naive(small, at):
    """Moved and clean l1 norms [n, filters] of conv2, module by module."""
    network, *sets = small
    body = network.body
    with torch.no_grad():
        maps = [body.conv2(body.relu1(body.bn1(body.conv1(network.normalise(x))))) for x in sets]
        if at == "activation":
            maps = [body.relu2(body.bn2(m)) for m in maps]
    clean, adversarial = (m.double() for m in maps)
    return (
        (adversarial - clean).abs().sum((2, 3)).numpy(),
        clean.abs().sum((2, 3)).numpy(),
    )


@pytest.mark.parametrize("at", ["output", "activation"])
def test_like_a_naive_implementation(small, at):
    network, clean, adversarial = small
    moved, norm = naive(small, at)
    table = targeting(network, ["conv2"], clean, {"a": adversarial}, at=at, batch_size=10, **DRAWN)
    assert np.allclose(table["targeting"], moved.mean(0), rtol=1e-4)
    assert np.allclose(table["std"], moved.std(0, ddof=1), rtol=1e-3)
    alive = norm.mean(0) > 0
    ratios = moved.mean(0)[alive] / norm.mean(0)[alive]
    assert np.allclose(table["relative"][alive], ratios, rtol=1e-4)
    assert table["relative"][~alive].isna().all()
    assert table["share"].sum() == pytest.approx(1)

    # the delta method, from the covariance of a filter's change with the total
    total, n = moved.sum(1), len(moved)
    for i, share in enumerate(moved.mean(0) / total.mean()):
        (tt, tT), (_, TT) = np.cov(moved[:, i], total)
        variance = (tt - 2 * share * tT + share**2 * TT) / total.mean() ** 2 / n
        assert table["share_error"][i] == pytest.approx(np.sqrt(variance), rel=1e-3)


def test_excess_over_noise_like_a_naive_implementation(small):
    network, clean, adversarial = small
    table = targeting(network, ["conv2"], clean, {"a": adversarial}, at="output", **DRAWN)
    seeds = [seed_of("targeting noise", "a", DRAWN["seed"], i) for i in range(len(clean))]
    pairs = zip(clean, adversarial, seeds, strict=True)
    noise = torch.stack([noisy(x, y, bounds=(0, 1), seed=s) for x, y, s in pairs])
    by_attack, norm = naive(small, "output")
    by_noise, _ = naive((network, clean, noise), "output")
    assert np.allclose(table["noise_targeting"], by_noise.mean(0), rtol=1e-4)
    assert np.allclose(table["noise_relative"], by_noise.mean(0) / norm.mean(0), rtol=1e-4)
    assert np.allclose(table["noise_share"], by_noise.mean(0) / by_noise.sum(1).mean(), rtol=1e-4)
    assert np.allclose(table["excess"], table["share"] - table["noise_share"], atol=1e-12)
    assert table["excess"].sum() == pytest.approx(0, abs=1e-9)
    for i in range(len(table)):
        # the delta method: what each image adds to the difference, linearised
        parts = [
            (by[:, i] - share[i] * by.sum(1)) / by.sum(1).mean()
            for by, share in ((by_attack, table["share"]), (by_noise, table["noise_share"]))
        ]
        error = np.std(parts[0] - parts[1], ddof=1) / np.sqrt(len(clean))
        assert table["excess_error"][i] == pytest.approx(error, rel=1e-3)


def test_noise_as_an_attack_has_no_excess(small):
    network, clean, _ = small
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, clean.shape, generator=generator) * 2 - 1
    sets = {"a": (clean + 0.1 * signs).clamp(0, 1)}
    table = targeting(network, ["conv1", "conv2"], clean, sets, at="output", **DRAWN)
    assert (table["excess"].abs() <= 4 * table["excess_error"] + 1e-9).all()


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
@pytest.mark.parametrize("size", [0.1, 0.5, 0.9])
def test_noise_keeps_every_norm_and_the_bounds(size, bounds):
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 6, 6, generator=generator)
    clean[0, :3], clean[1, :3] = 0, 1
    attacked = (clean + size * torch.randn(3, 6, 6, generator=generator)).clamp(0, 1)
    made = noisy(clean, attacked, bounds=bounds, seed=3)
    change, noise = (attacked - clean).abs(), (made - clean).abs()
    assert torch.allclose(noise.flatten().sort().values, change.flatten().sort().values, atol=1e-6)
    if bounds:
        assert made.min() >= 0 and made.max() <= 1
    assert not torch.allclose(made, attacked, atol=0.05)
    assert torch.equal(made, noisy(clean, attacked, bounds=bounds, seed=3))
    assert not torch.equal(made, noisy(clean, attacked, bounds=bounds, seed=4))
    state = torch.get_rng_state()
    noisy(clean, attacked, bounds=bounds, seed=3)
    assert torch.equal(state, torch.get_rng_state())


def test_features_that_never_change_get_no_noise():
    clean = torch.tensor([0.5, 0.0, 0.5, 0.0, 0.5, 0.5])
    high = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    bounds = torch.zeros(6), high
    attacked = clean + high * torch.tensor([0.1, 0.0, 0.2, 0.0, 0.3, 0.4])
    for seed in range(20):
        change = noisy(clean, attacked, bounds=bounds, seed=seed) - clean
        assert (change[high == 0] == 0).all()
        found = change[high == 1].abs().sort().values
        assert torch.allclose(found, torch.tensor([0.1, 0.2, 0.3, 0.4]))


def test_noise_has_signs_at_random_where_both_fit_and_the_one_that_fits_elsewhere():
    clean = torch.cat([torch.full((1000,), 0.5), torch.zeros(1000), torch.ones(1000)])
    made = noisy(clean, (clean + 0.1).clamp(0, 1), bounds=(0, 1), seed=0) - clean
    assert 250 < (made[:1000] > 0).sum() < 420 and 250 < (made[:1000] < 0).sum() < 420
    assert (made[1000:2000] >= 0).all() and (made[2000:] <= 0).all()
    # an attack that goes out of the bounds, as in normalised units: as far as it does
    outside = noisy(clean, clean + 0.1, bounds=(0, 1), seed=0) - clean
    assert torch.allclose(outside.abs(), torch.tensor(0.1)) and (outside[2000:] > 0).any()
    assert (noisy(clean, clean, bounds=(0, 1), seed=0) == clean).all()


def test_batches_and_order_change_nothing(small):
    network, clean, adversarial = small
    sets = {"a": adversarial, "b": clean.flip(3)}
    layers = ["conv1", "fc"]
    whole = targeting(network, layers, clean, sets, at="activation", **DRAWN)
    parts = targeting(network, layers, clean, sets, at="activation", batch_size=7, **DRAWN)
    assert list(whole["layer"].unique()) == layers and len(whole) == 2 * (16 + 10)
    numbers = whole.columns[3:]
    assert np.allclose(whole[numbers], parts[numbers], rtol=1e-4, atol=1e-6, equal_nan=True)
    alone = targeting(network, ["fc"], clean, {"b": sets["b"]}, at="activation", **DRAWN)
    chosen = whole[(whole["layer"] == "fc") & (whole["attack"] == "b")]
    assert np.allclose(alone[numbers], chosen[numbers], rtol=1e-4, atol=1e-6, equal_nan=True)


def test_an_attack_that_changes_nothing(small):
    network, clean, _ = small
    table = targeting(network, ["conv1"], clean, {"a": clean}, at="activation", **DRAWN)
    assert (table["targeting"] == 0).all() and (table["relative"].dropna() == 0).all()
    assert table["share"].isna().all()


@pytest.mark.parametrize("at", ["output", "activation"])
def test_the_network_stays_as_it_is(small, at):
    network, clean, adversarial = small
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    targeting(network, ["conv1"], clean, {"a": adversarial}, at=at, **DRAWN)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(RuntimeError), feature_maps(network, ["conv1"], clean, at=at) as maps:
        maps(torch.rand(3, 2, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())
    network.eval()


def test_layer_that_is_not_there(small):
    network, clean, adversarial = small
    with pytest.raises(UserError, match="'conv9' is not in the network; there are: conv1, conv2"):
        targeting(network, ["conv9"], clean, {"a": adversarial}, at="output", **DRAWN)


class Untraceable(Hand):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def test_network_that_cannot_be_traced():
    table = targeting(Untraceable(), ["conv"], CLEAN, {"a": ATTACKED}, at="output", **DRAWN)
    assert list(table["targeting"]) == [3, 1.5]
    with pytest.raises(UserError, match="config key targeting"):
        targeting(Untraceable(), ["conv"], CLEAN, {"a": ATTACKED}, at="activation", **DRAWN)


class Routed(Hand):
    def forward(self, x):
        bright = x.mean((1, 2, 3)) > 1
        out = x.new_zeros(len(x), 2)
        out[bright] = super().forward(x[bright])
        return out


def test_a_layer_that_is_given_some_images_only_is_refused():
    clean, moved = (torch.cat([images, images[:1]]) for images in (CLEAN, ATTACKED))
    said = error_of(targeting, Routed(), ["conv"], clean, {"a": moved}, at="output", **DRAWN)
    assert "layer conv is given some of the images only" in said


# Units of other kinds


class Sequence(nn.Module):
    """Signals [n, 2, 6] through a convolution, an attention, a recurrent layer and a norm."""

    def __init__(self, first=True):
        super().__init__()
        self.first = first
        self.conv = nn.Conv1d(2, 6, 3, padding=1)
        self.mlp = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=first)
        self.norm = nn.LayerNorm(6)
        self.lstm = nn.LSTM(6, 2, batch_first=first, bidirectional=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x).relu()
        x = x.permute(0, 2, 1) if self.first else x.permute(2, 0, 1)
        x = self.norm(self.mlp(x).tanh() + self.attention(x, x, x)[0])
        x, _ = self.lstm(x)
        return self.fc(x.mean(1 if self.first else 0))


def heads_by_hand(attention, x):
    """What each of three heads of two numbers gives, [n, heads, tokens, 2]; x: [n, tokens, 6]."""
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = ((x @ w.T + b).unflatten(2, (3, 2)).transpose(1, 2)
               for w, b in zip(weights, biases, strict=True))  # fmt: skip
    return (q @ k.transpose(2, 3) / 2**0.5).softmax(3) @ v


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("at", ["output", "activation"])
def test_maps_of_every_kind_of_unit(at, first):
    torch.manual_seed(0)
    network, x = Sequence(first).eval(), torch.rand(5, 2, 6)
    network.attention.dropout = 0.5  # which eval mode is without
    nn.init.normal_(network.attention.in_proj_bias)
    layers = ["conv", "attention", "mlp", "lstm", "fc"]
    with feature_maps(network, layers, x, at=at) as maps:
        found = maps(x)
    with torch.no_grad():
        out = network.conv(x)
        tokens = out.relu().transpose(1, 2)
        heads = heads_by_hand(network.attention, tokens)
        attended = heads.transpose(1, 2).flatten(2) @ network.attention.out_proj.weight.T
        attended = attended + network.attention.out_proj.bias
        mlp = network.mlp(tokens)
        normed = network.norm(mlp.tanh() + attended)
        hidden, _ = network.lstm(normed if first else normed.transpose(0, 1))
        hidden = hidden if first else hidden.transpose(0, 1)
    expected = {
        "conv": out.relu() if at == "activation" else out,
        "attention": heads.flatten(2),
        "mlp": (mlp.tanh() if at == "activation" else mlp).transpose(1, 2),
        "lstm": hidden.transpose(1, 2),
        "fc": network.fc(hidden.mean(1))[..., None],
    }
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer])
    with feature_maps(network, ["norm"], x, at="output") as maps:
        torch.testing.assert_close(maps(x)["norm"], normed.transpose(1, 2))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_row_per_head_and_none_for_what_is_not_seen():
    torch.manual_seed(0)
    network, x = Sequence().eval(), torch.rand(5, 2, 6)
    sets = {"a": (x + 0.1).clamp(0, 1)}
    table = targeting(network, ["attention", "lstm"], x, sets, at="activation", **DRAWN)
    assert table.groupby("layer")["filter"].apply(list).to_dict() == {
        "attention": [0, 1, 2],
        "lstm": [0, 1, 2, 3],
    }
    assert (table["targeting"] > 0).all()
    network.lstm = nn.LSTM(6, 4, num_layers=2, batch_first=True)
    projected = nn.LSTM(6, 5, proj_size=4, batch_first=True)
    for given, reason in ((network.lstm, "of its 2 depths only"), (projected, "by its projection")):
        network.lstm = given
        with pytest.raises(UserError, match=reason) as error:
            targeting(network, ["lstm"], x, sets, at="output", **DRAWN)
        assert "config key targeting.layers" in str(error.value) and "\n" not in str(error.value)


def test_only_images_filters_are_drawn():
    network = nn.Sequential(nn.ConvTranspose2d(2, 2, 3), nn.Conv1d(1, 2, 3), nn.Embedding(3, 2))
    network.append(nn.MultiheadAttention(2, 1))
    assert not len(kernels(network, ["0", "1", "2", "3"]))


def test_kernels():
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Conv2d(4, 3, 2), nn.Flatten(), nn.Linear(3, 2))
    table = kernels(network, ["0", "1", "3"])
    assert set(table["layer"]) == {"0"} and len(table) == 24
    weight = network[0].weight
    for row in table.sample(5, random_state=0).itertuples():
        assert row.weight == weight[row.filter, row.channel, row.row, row.column].item()
    assert not len(kernels(network, ["3"]))
