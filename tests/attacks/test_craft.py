import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attacked import Apply
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from faultline.attacks.ascent import Ball, apgd, fgsm, input_gradient, pgd, random_start
from faultline.attacks.checks import CHECK_MEANINGS
from faultline.attacks.craft import attack_curve, craft
from faultline.attacks.methods import METHODS
from faultline.attacks.selfchecks import checks
from faultline.base import pace
from faultline.base.errors import UserError
from faultline.networks.evaluation import evaluation, predict

ATTACKS = {
    "fgsm": {"method": "fgsm", "norm": "linf"},
    "pgd": {"method": "pgd", "norm": "linf", "steps": 10},
    "pgd-l2": {"method": "pgd", "norm": "l2", "steps": 10, "step_size": 0.2},
    "apgd": {"method": "apgd", "norm": "linf", "steps": 10},
    "apgd-l2": {"method": "apgd", "norm": "l2", "steps": 10},
    "apgd_t": {"method": "apgd_t", "norm": "linf", "steps": 5},
    "square": {"method": "square", "norm": "linf", "queries": 30},
    "square-l2": {"method": "square", "norm": "l2", "queries": 30},
    "standard": {"method": "standard", "norm": "linf", "steps": 5, "queries": 10},
    "standard-l2": {"method": "standard", "norm": "l2", "steps": 5, "queries": 10},
}
EPS = {name: 0.8 if attack["norm"] == "l2" else 0.1 for name, attack in ATTACKS.items()}


def accuracy(network, images, labels):
    return float((predict(network, images).argmax(1) == labels).float().mean())


def sizes(delta, norm):
    return delta.flatten(1).norm(dim=1) if norm == "l2" else delta.flatten(1).abs().amax(1)


def state_of(network):
    return (
        {name: value.clone() for name, value in network.state_dict().items()},
        [module.training for module in network.modules()],
        [parameter.requires_grad for parameter in network.parameters()],
    )


def assert_same_state(network, before):
    values, modes, wanted = state_of(network)
    assert all(torch.equal(value, before[0][name]) for name, value in values.items())
    assert (modes, wanted) == before[1:]
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("model", ["conv", "linear", "mlp"])
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_on_every_model(models, name, model):
    network, images, labels, bounds = models[model]
    attack, eps = ATTACKS[name], EPS[name]
    settings = {"attack": attack, "bounds": bounds, "seed": 3}
    network.train()
    network[1].eval()
    next(network.parameters()).requires_grad_(False)
    before, random_state = state_of(network), torch.get_rng_state()
    originals = images.clone()

    adversarial = craft(network, images, labels, eps=eps, **settings)
    clean = accuracy(network, images, labels)
    attacked = accuracy(network, adversarial, labels)

    assert_same_state(network, before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(images, originals)
    assert not adversarial.requires_grad
    assert adversarial.dtype == images.dtype
    assert clean > 0.85
    assert attacked < clean - 0.02
    largest = float(sizes(adversarial - images, attack["norm"]).max())
    assert 0.9 * eps < largest <= eps * (1 + 1e-5) + 1e-6
    if bounds is not None:
        assert adversarial.min() >= bounds[0]
        assert adversarial.max() <= bounds[1]
    assert torch.equal(craft(network, images, labels, eps=0, **settings), images)


@pytest.mark.parametrize("model", ["conv", "linear", "mlp"])
@pytest.mark.parametrize("name", ATTACKS)
def test_batching_changes_nothing(models, name, model):
    network, images, labels, bounds = models[model]
    # Double precision: in single, the sign of a gradient near zero depends on the order of sums.
    network, images, labels = network.double(), images[:30].double(), labels[:30]
    settings = {"attack": ATTACKS[name], "eps": EPS[name], "bounds": bounds, "seed": 3}
    one, seven, whole = (
        craft(network, images, labels, batch_size=size, **settings) for size in (1, 7, 30)
    )
    logits = [predict(network, images, batch_size=size) for size in (1, 7, 30)]
    torch.testing.assert_close(one, whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(seven, whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(logits[0], logits[2])
    torch.testing.assert_close(logits[1], logits[2])


def test_fgsm_agrees_with_foolbox(models):
    foolbox = pytest.importorskip("foolbox")
    network, images, labels, bounds = models["conv"]
    # in double: of a gradient below 1e-6, theirs is what rounding leaves of softmax less one
    reference = foolbox.PyTorchModel(copy.deepcopy(network).double().eval(), bounds=bounds)
    for eps in (0.05, 0.1, 0.2):
        _, theirs, _ = foolbox.attacks.FGSM()(reference, images.double(), labels, epsilons=eps)
        ours, theirs = fgsm(network, images, labels, ball=Ball(eps, bounds=bounds)), theirs.float()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        assert accuracy(network, ours, labels) == accuracy(network, theirs, labels)


@pytest.mark.parametrize(
    ("norm", "attack", "grid"),
    [("linf", "LinfPGD", (0.02, 0.05, 0.1)), ("l2", "L2PGD", (0.2, 0.4, 0.8))],
)
def test_pgd_agrees_with_foolbox(models, norm, attack, grid):
    foolbox = pytest.importorskip("foolbox")
    network, images, labels, bounds = models["conv"]
    reference = foolbox.PyTorchModel(network.eval(), bounds=bounds)
    for eps in grid:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            method = getattr(foolbox.attacks, attack)(abs_stepsize=eps / 8, steps=20)
            _, theirs, _ = method(reference, images, labels, epsilons=eps)
        ours = craft(
            network,
            images,
            labels,
            attack={"method": "pgd", "norm": norm, "steps": 20, "step_size": 1 / 8},
            eps=eps,
            bounds=bounds,
            seed=0,
        )
        difference = accuracy(network, ours, labels) - accuracy(network, theirs, labels)
        assert abs(difference) <= 0.02


def loss_of(network, images, labels):
    return F.cross_entropy(predict(network, images), labels, reduction="none")


@pytest.mark.parametrize(
    ("norm", "theirs", "grid"),
    [("linf", "Linf", (0.03, 0.1)), ("l2", "L2", (0.4, 0.8))],
)
def test_apgd_agrees_with_the_authors(models, norm, theirs, grid):
    library = pytest.importorskip("pyautoattack.autopgd_base")
    network, images, labels, bounds = models["conv"]
    attack = {"method": "apgd", "norm": norm, "steps": 25}
    for eps in grid:
        ours = craft(network, images, labels, attack=attack, eps=eps, bounds=bounds, seed=0)
        with torch.random.fork_rng():
            other = library.APGDAttack(
                network.eval(), n_iter=25, norm=theirs, eps=eps, device="cpu"
            )
            fooling = other.perturb(images, labels)
            worst = other.perturb(images, labels, best_loss=True)
        difference = accuracy(network, ours, labels) - accuracy(network, fooling, labels)
        assert abs(difference) <= 0.02
        reached = loss_of(network, ours, labels).mean() / loss_of(network, worst, labels).mean()
        assert 0.98 < reached < 1.02


def naive_apgd(network, image, label, *, eps, norm, steps, bounds, start):
    """One image [1, ...], as the paper's algorithm reads."""

    def inside(x):
        delta = x - image
        delta = delta.clamp(-eps, eps) if norm == "linf" else delta * min(1, eps / delta.norm())
        return image + delta if bounds is None else (image + delta).clamp(*bounds)

    def look(x):
        x = x.detach().requires_grad_()
        logits = network(x)
        loss = F.cross_entropy(logits, label)
        (gradient,) = torch.autograd.grad(loss, x)
        ways = {"linf": gradient.sign(), "l2": gradient / gradient.norm()}
        return loss.item(), x.detach(), ways[norm], bool(logits.argmax() != label)

    checkpoints, period = [], max(int(0.22 * steps), 1)
    while sum(checkpoints) < steps:
        checkpoints.append(period)
        period = max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    size, now = 2 * eps, look(inside(image + start))
    visited, old, best = [now], now[1], now
    last_best, last_size, taken = now[0], size, 0
    for window in checkpoints:
        rises = 0
        for _ in range(min(window, steps - taken)):
            loss, x, way, _ = now
            ahead, share = inside(x + size * way), 0.75 if taken else 1.0
            now = look(inside(x + share * (ahead - x) + (1 - share) * (x - old)))
            old, taken = x, taken + 1
            rises += now[0] > loss
            visited.append(now)
            best = max(best, now, key=lambda point: point[0])
        stuck = size == last_size and best[0] == last_best
        last_size, last_best = size, best[0]
        if stuck or rises < 0.75 * window:
            size, now = size / 2, best
    return max(visited, key=lambda point: (point[3], point[0]))[1]


@pytest.mark.parametrize("model", ["conv", "mlp"])
@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_against_the_algorithm_image_by_image(models, norm, steps, model):
    network, images, labels, bounds = models[model]
    network, images, labels = network.double().eval(), images[:25].double(), labels[:25]
    eps = 0.06 if norm == "linf" else 0.4
    given = {"eps": eps, "norm": norm, "steps": steps, "bounds": bounds}
    start = random_start(images.shape, eps=eps, norm=norm, seed=4).double()
    ball = Ball(eps, norm, bounds)
    ours = apgd(network, images, labels, ball=ball, steps=steps, start=start)
    for i, row in enumerate(ours):
        part = slice(i, i + 1)
        expected = naive_apgd(network, images[part], labels[part], **given, start=start[part])
        torch.testing.assert_close(row[None], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_until_fooled_fools_the_same_images_at_less_cost(models, norm):
    network, images, labels, bounds = models["conv"]
    network, images = network.double().eval(), images.double()
    eps = 0.12 if norm == "linf" else 0.8
    given = {"ball": Ball(eps, norm, bounds), "steps": 20}
    given["start"] = random_start(images.shape, eps=eps, norm=norm, seed=4).double()
    before = pace.images()
    whole = apgd(network, images, labels, **given)
    between = pace.images()
    ours = apgd(network, images, labels, **given, until_fooled=True)
    assert pace.images() - between < 0.8 * (between - before)
    right = predict(network, whole).argmax(1) == labels
    assert 0 < right.sum() < len(labels)
    assert torch.equal(predict(network, ours).argmax(1) == labels, right)
    torch.testing.assert_close(ours[right], whole[right], rtol=0, atol=1e-9)
    assert (sizes(ours - images, norm) <= eps + 1e-9).all()
    # whatever becomes of the others
    for i in (~right).nonzero().flatten()[:5].tolist():
        part = slice(i, i + 1)
        alone = given | {"start": given["start"][part]}
        found = apgd(network, images[part], labels[part], **alone, until_fooled=True)
        torch.testing.assert_close(found, ours[part], rtol=0, atol=1e-9)
    # all images fooled at the start
    wrong = predict(network, whole).argmax(1)
    began = pace.images()
    apgd(network, whole, (wrong + 1) % 10, **given | {"start": 0 * whole}, until_fooled=True)
    assert pace.images() - began == len(whole)


def test_apgd_is_never_worse_than_its_start_and_better_with_steps(models):
    network, images, labels, bounds = models["conv"]
    ball = Ball(0.08, "linf", bounds)
    start = random_start(images.shape, eps=0.08, norm="linf", seed=1)
    begun = (images + start).clamp(*bounds)
    found = []
    for steps in (1, 2, 30):
        ours = apgd(network, images, labels, ball=ball, steps=steps, start=start)
        right = predict(network, begun).argmax(1) == labels
        still = predict(network, ours).argmax(1) == labels
        assert not (still & ~right).any()
        same = still == right
        assert (loss_of(network, ours, labels) >= loss_of(network, begun, labels) - 1e-6)[
            same
        ].all()
        found.append(accuracy(network, ours, labels))
    assert found == sorted(found, reverse=True)


def test_apgd_takes_one_gradient_a_step(models):
    network, images, labels, _ = models["conv"]
    start = torch.zeros_like(images[:5])
    with BackwardMasks() as backward:
        apgd(network, images[:5], labels[:5], ball=Ball(0.1), steps=4, start=start)
    assert len(backward.masks) == 4 * 2  # two convolutions; the last point needs no gradient


@pytest.fixture
def plane():
    """Logits (3 x0 - 4 x1, 0): for class 0 the loss rises along (-3, 4) / 5."""
    network = nn.Linear(2, 2)
    network.weight.data = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    network.bias.data = torch.zeros(2)
    return network


def test_linear_model_by_hand(plane):
    images, labels = torch.tensor([[0.5, 0.5], [0.95, 0.5]]), torch.tensor([0, 1])
    # Class 0 at logit difference -0.5: p0 - 1 = -0.6225; class 1 at 0.85: p0 = 0.7006.
    expected = torch.tensor([[-0.6225 * 3, 0.6225 * 4], [0.7006 * 3, -0.7006 * 4]])
    torch.testing.assert_close(input_gradient(plane, images, labels), expected, rtol=0, atol=1e-3)

    result = fgsm(plane, images, labels, ball=Ball(0.1, bounds=(0.0, 1.0)))
    torch.testing.assert_close(result, torch.tensor([[0.4, 0.6], [1.0, 0.4]]))

    free, inside = Ball(0.1, "l2"), Ball(0.1, "l2", (0.0, 1.0))
    common = {"step_size": 0.5, "start": torch.zeros(2, 2)}
    result = pgd(plane, images, labels, ball=free, steps=1, **common)
    torch.testing.assert_close(result, torch.tensor([[0.47, 0.54], [0.98, 0.46]]))
    result = pgd(plane, images, labels, ball=free, steps=9, **common)
    torch.testing.assert_close(result, torch.tensor([[0.44, 0.58], [1.01, 0.42]]))
    result = pgd(plane, images, labels, ball=inside, steps=3, **common)
    assert result[1, 0] == 1.0

    # the worst points of a linear model are known; under linf one step finds them
    for steps in (1, 2, 10):
        given = {"steps": steps, "start": torch.tensor([[0.02, 0.01], [0.0, -0.05]])}
        result = apgd(plane, images, labels, ball=Ball(0.1, "linf", (0.0, 1.0)), **given)
        torch.testing.assert_close(result, torch.tensor([[0.4, 0.6], [1.0, 0.4]]))
    result = apgd(plane, images, labels, ball=free, **given)
    worst = torch.tensor([[0.44, 0.58], [1.01, 0.42]])
    torch.testing.assert_close(result, worst, rtol=0, atol=1e-4)


def test_normalised_units_by_hand(plane):
    images, labels = torch.tensor([[0.5, 0.05]]), torch.tensor([0])
    for attack in (
        {"method": "fgsm", "norm": "linf"},
        {"method": "pgd", "norm": "linf", "steps": 20},
    ):
        result = craft(
            plane,
            -images,
            labels,
            attack={**attack, "normalised_units": True},
            eps=0.5,
            bounds=(0.0, 1.0),
            seed=0,
            std=(0.2, 0.4),
        )
        # 0.5 * 0.2 in the first channel, 0.5 * 0.4 in the second, and below zero.
        torch.testing.assert_close(result, torch.tensor([[-0.6, 0.15]]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start(norm):
    state = torch.get_rng_state()
    start = random_start((4000, 1, 2, 3), eps=0.3, norm=norm, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(start, random_start((4000, 1, 2, 3), eps=0.3, norm=norm, seed=5))
    assert not torch.equal(start, random_start((4000, 1, 2, 3), eps=0.3, norm=norm, seed=6))
    radius = sizes(start, norm) / 0.3
    assert radius.max() <= 1 + 1e-6
    # Uniform in a ball of 6 dimensions: the share of points within radius r is r ** 6.
    for r in (0.6, 0.8, 0.9):
        assert float((radius < r).float().mean()) == pytest.approx(r**6, abs=0.03)
    assert start.mean(0).abs().max() < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_and_tiny_gradients(norm):
    settings = {"attack": {"method": "pgd", "norm": norm, "steps": 3}, "bounds": None, "seed": 0}
    points, labels = torch.rand(5, 2), torch.zeros(5, dtype=torch.long)
    flat = nn.Linear(2, 2)
    flat.weight.data.zero_()
    severed = Apply(lambda x: (x > 0.5).float())
    for network in (flat, severed):
        assert torch.equal(input_gradient(network, points, labels), torch.zeros(5, 2))
        assert craft(network, points, labels, eps=0.1, **settings).isfinite().all()
    faint = nn.Linear(2, 2)
    faint.weight.data = torch.tensor([[0.0, 0.0], [3e-30, 4e-30]])
    moved = craft(faint, points, labels, eps=0.1, **settings)
    assert float(sizes(moved - points, norm).min()) > 0.099


class BackwardMasks(TorchDispatchMode):
    """Records which gradients (input, weight, bias) each convolution is asked for."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution_backward.default:
            self.masks.append(list(args[-1]))
        return function(*args, **(kwargs or {}))


def test_input_gradient_computes_no_parameter_gradient(models):
    network, images, labels, _ = models["conv"]
    with BackwardMasks() as backward:
        input_gradient(network, images, labels)
    assert backward.masks == [[True, False, False]] * 2


def test_evaluation_restores_after_an_error(models):
    network = models["conv"][0].train()
    before = state_of(network)
    with pytest.raises(ZeroDivisionError), evaluation(network):
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
        raise ZeroDivisionError
    assert_same_state(network, before)


def test_the_curve_holds_the_stored_images(models):
    network, images, labels, bounds = models["conv"]
    done = []
    correct, adversarial = attack_curve(
        network,
        images,
        labels,
        attack=ATTACKS["pgd"],
        eps_grid=[0.1, 0.0, 0.02],
        eps=0.05,
        bounds=bounds,
        seed=3,
        batch_size=150,
        progress=done.append,
    )
    assert list(correct) == [0.0, 0.02, 0.05, 0.1]
    assert sum(done) == 3 * len(images)
    stored = (predict(network, adversarial).argmax(1) == labels).numpy()
    assert np.array_equal(correct[0.05], stored)
    accuracies = [values.mean() for values in correct.values()]
    assert accuracies == sorted(accuracies, reverse=True)
    assert correct[0.0].mean() == pytest.approx(accuracy(network, images, labels))


class Raw(nn.Module):
    """A network of shares of ranges, as one of the values themselves."""

    def __init__(self, network, low, width):
        super().__init__()
        self.network, self.low, self.width = network, low, width

    def forward(self, values):
        return self.network((values - self.low) / self.width)


@pytest.fixture
def table(models):
    """(network of shares, shares, labels, network of raw values, lowest of each, widths): moons
    in units of their own, as a data set of features puts them into shares of their range."""
    network, points, labels, _ = models["mlp"]
    low, high = points.amin(0).double(), points.amax(0).double()
    width = (high - low) * torch.tensor([3.0, 0.01]).double()
    shares = (points.double() - low) / (high - low)
    units = Apply(lambda x: low.to(x) + x * (high - low).to(x))
    of_shares = nn.Sequential(units, network.double()).eval()
    return of_shares, shares, labels, Raw(of_shares, low, width), low, width


def steps_in_raw_units(raw, values, labels, *, low, width, eps, norm, steps, step_size, start):
    """PGD on the values themselves, eps and steps scaled by the width of each feature."""
    adversarial = (values + width * start).clamp(low, low + width)
    for _ in range(steps):
        gradient = width * input_gradient(raw, adversarial, labels)
        way = gradient.sign() if norm == "linf" else F.normalize(gradient)
        delta = (adversarial + step_size * width * way - values) / width
        if norm == "linf":
            delta = delta.clamp(-eps, eps)
        else:
            delta = delta * (eps / delta.norm(dim=1, keepdim=True)).clamp(max=1)
        adversarial = (values + width * delta).clamp(low, low + width)
    return adversarial


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.4), ("l2", 0.6)])
def test_an_attack_on_shares_is_that_on_values_with_bounds_and_steps_per_feature(table, norm, eps):
    network, shares, labels, raw, low, width = table
    start = random_start(shares.shape, eps=eps, norm=norm, seed=0).double()
    ball, given = Ball(eps, norm, (0.0, 1.0)), {"steps": 10, "start": start}
    ours = pgd(network, shares, labels, ball=ball, step_size=1 / 4, **given)
    given |= {"low": low, "width": width, "eps": eps, "norm": norm, "step_size": eps / 4}
    theirs = steps_in_raw_units(raw, low + width * shares, labels, **given)
    torch.testing.assert_close(low + width * ours, theirs, rtol=0, atol=1e-8)
    assert ours.min() == 0 or ours.max() == 1  # some are clipped
    if norm == "linf":
        values = low + width * shares
        expected = values + eps * width * input_gradient(raw, values, labels).sign()
        ours = fgsm(network, shares, labels, ball=ball)
        expected = expected.clamp(low, low + width)
        torch.testing.assert_close(low + width * ours, expected, rtol=0, atol=1e-8)


def test_foolbox_attacks_shares_as_we_do(table):
    foolbox = pytest.importorskip("foolbox")
    network, shares, labels, *_ = table
    network, shares = network.float(), shares.float()
    reference = foolbox.PyTorchModel(network.eval(), bounds=(0, 1))
    _, theirs, _ = foolbox.attacks.FGSM()(reference, shares, labels, epsilons=0.1)
    ball = Ball(0.1, bounds=(0.0, 1.0))
    ours = fgsm(network, shares, labels, ball=ball)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    method = foolbox.attacks.LinfPGD(abs_stepsize=0.0125, steps=20, random_start=False)
    _, theirs, _ = method(reference, shares, labels, epsilons=0.1)
    given = {"ball": ball, "steps": 20, "step_size": 0.125}
    ours = pgd(network, shares, labels, start=torch.zeros_like(shares), **given)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_feature_that_never_changes_stays(table, name):
    network, shares, labels, *_ = table
    network, shares = network.float(), shares.float()
    shares[:, 1] = 0.0
    bounds = torch.zeros(2), torch.tensor([1.0, 0.0])
    settings = {"attack": ATTACKS[name], "eps": 0.2, "bounds": bounds}
    correct, moved = attack_curve(network, shares, labels, eps_grid=[0], seed=0, **settings)
    assert (moved[:, 1] == 0).all() and (moved[:, 0] != shares[:, 0]).any()
    assert moved.min() >= 0 and moved.max() <= 1
    found = checks(network, shares, labels, adversarial=moved, correct=correct, **settings)
    assert {row["check"]: row["status"] for row in found}["inside_ball"] == "ok"
    moved[0, 1] = 0.1
    found = checks(network, shares, labels, adversarial=moved, correct=correct, **settings)
    assert {row["check"]: row["status"] for row in found}["inside_ball"] == "warning"


def test_attack_mistakes_are_user_errors(models):
    network, images, labels, bounds = models["conv"]
    for attack, word in (
        ({"method": "pgdd", "norm": "linf"}, "method"),
        ({"method": "fgsm", "norm": "l2"}, "norm"),
        ({"method": "pgd", "norm": "linf"}, "steps"),
        ({"method": "pgd", "norm": "l2", "steps": 2, "normalised_units": True}, "normalised"),
        ({"method": "fgsm", "norm": "linf", "normalised_units": True}, "std"),
    ):
        with pytest.raises(UserError, match=word) as error:
            craft(network, images, labels, attack=attack, eps=0.1, bounds=bounds, seed=0)
        assert "\n" not in str(error.value)


def rows_for(network, images, labels, bounds, *, name="pgd", change=lambda x: x, **more):
    settings = {"attack": {**ATTACKS[name], **more}, "bounds": bounds, "std": [0.4]}
    eps = EPS[name]
    correct, adversarial = attack_curve(
        network, images, labels, eps_grid=[0.0, eps / 2], eps=eps, seed=3, **settings
    )
    rows = checks(
        network,
        images,
        labels,
        eps=eps,
        adversarial=change(adversarial),
        correct=correct,
        **settings,
    )
    assert {row["check"] for row in rows} <= set(CHECK_MEANINGS)
    assert all(set(row) == {"check", "status", "detail"} for row in rows)
    return rows


def warnings_of(*args, **kwargs):
    return {row["check"] for row in rows_for(*args, **kwargs) if row["status"] == "warning"}


@pytest.mark.parametrize("model", ["conv", "linear", "mlp"])
@pytest.mark.parametrize("name", ATTACKS)
def test_honest_networks_pass_every_check(models, name, model):
    network, *data = models[model]
    before = state_of(network)
    rows = rows_for(network, *data, name=name)
    assert [row for row in rows if row["status"] != "ok"] == []
    assert len(rows) == (10 if name.startswith("standard") else 9)
    assert_same_state(network, before)


def test_normalised_units_pass_every_check(models):
    assert warnings_of(*models["conv"], normalised_units=True) == set()


def test_each_check_fires(models):
    network, images, labels, bounds = models["conv"]
    data = (images, labels, bounds)

    softmax = nn.Sequential(network, Apply(lambda z: z.softmax(1)))
    assert "softmax_outputs" in warnings_of(softmax, *data)

    noisy = nn.Sequential(network, Apply(lambda z: F.dropout(z, 0.5, training=True)))
    with torch.random.fork_rng():
        assert "randomised_outputs" in warnings_of(noisy, *data)

    masked = nn.Sequential(Apply(lambda x: (x > 0.5).float()), network)
    assert "zero_gradients" in warnings_of(masked, *data)

    huge = nn.Sequential(network, Apply(lambda z: 1e4 * z))
    assert {"saturated_logits", "zero_gradients"} <= warnings_of(huge, *data)
    large = nn.Sequential(network, Apply(lambda z: 5 * z))
    assert warnings_of(large, *data) == set()  # its gradients are small, but not lost

    assert warnings_of(network, *data, change=lambda x: x + 0.01) == {"inside_ball"}
    assert warnings_of(network, *data, change=lambda x: x * torch.nan) == {"inside_ball"}
    outside, right = images - 0.1, np.ones(len(labels), bool)  # which `craft` refuses
    given = {"attack": ATTACKS["pgd"], "eps": 0.1, "bounds": bounds, "adversarial": outside}
    rows = checks(network, outside, labels, **given, correct=dict.fromkeys([0.0, 0.1], right))
    assert {"check": "eps_zero_identity", "status": "warning"}.items() <= rows[0].items()


def test_the_gradient_of_confident_images_is_not_lost(models):
    network, images, labels, _ = models["conv"]
    confident = nn.Sequential(network, Apply(lambda z: 8 * z))
    exact = input_gradient(copy.deepcopy(confident).double(), images.double(), labels)
    found = input_gradient(confident, images, labels)
    plain = images.clone().requires_grad_()
    F.cross_entropy(confident.eval()(plain), labels, reduction="sum").backward()

    def agreement(gradient):
        return (gradient.sign() == exact.sign()).double().mean().item()

    assert agreement(found) > 0.99
    assert agreement(plain.grad) < 0.95  # what autograd's rounding would have cost


def test_a_curve_that_rises_is_flagged(models):
    network, images, labels, bounds = models["conv"]
    n = len(images)
    rows = checks(
        network,
        images,
        labels,
        attack=ATTACKS["fgsm"],
        eps=0.1,
        bounds=bounds,
        adversarial=images,
        correct={0.0: np.ones(n, bool), 0.1: np.zeros(n, bool), 0.2: np.ones(n, bool)},
    )
    assert [row["check"] for row in rows if row["status"] == "warning"] == ["accuracy_monotone"]


def test_every_method_is_tried_here():
    assert set(METHODS) == {attack["method"] for attack in ATTACKS.values()}
