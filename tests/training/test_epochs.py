import copy
import math

import pytest
import torch
from torch import nn
from trainings import (
    CONSTANT,
    PLAIN,
    assert_same_bits,
    dataset_of,
    network_of,
    quiet,
    settings_of,
    trained,
)

from faultline.base.errors import UserError
from faultline.base.files import load_tensors, save_tensors
from faultline.data.splits import DataSet
from faultline.networks.architectures import Network
from faultline.training.checkpoints import checkpoint, restore
from faultline.training.epochs import (
    HISTORY,
    augment,
    evaluate,
    learning_rate,
    make_optimizer,
    train_epochs,
)

COSINE = {"kind": "cosine", "epochs": 5, "factor": 0.1}
STEP = {"kind": "step", "epochs": 2, "factor": 0.1}
MOVED = {"shift": 2, "flip": True}


@pytest.mark.parametrize(
    ("optimizer", "schedule", "augmentation"),
    [
        ("adam", COSINE, MOVED),
        ("sgd", STEP, MOVED),
        ("adam", CONSTANT, PLAIN),
        ("sgd", COSINE, PLAIN),
    ],
)
def test_a_chain_of_segments_gives_the_bits_of_one_run(optimizer, schedule, augmentation, tmp_path):
    settings = settings_of(optimizer, schedule, augmentation)
    whole, whole_optimizer, whole_rows = trained(range(5), settings=settings)
    rows, path = [], tmp_path / "checkpoint.pt"
    for number, epochs in enumerate((range(2), range(2, 3), range(3, 5))):
        # another process: another initialisation, another global random state, another past
        torch.manual_seed(1000 + number)
        torch.rand(number + 3)
        network = network_of() if number == 0 else network_of(seed=99)
        fresh = make_optimizer(network, settings)
        if number:
            state = load_tensors(path, "a checkpoint")
            assert state["epoch"] == epochs.start
            restore(network, fresh, state)
        _, _, more = trained(epochs, settings=settings, network=network, optimizer=fresh)
        rows += more
        save_tensors(checkpoint(network, fresh, epoch=epochs.stop, seed=0), path)
    state = load_tensors(path, "a checkpoint")
    expected = checkpoint(whole, whole_optimizer, epoch=5, seed=0)
    assert_same_bits(dict(state["network"]), dict(expected["network"]))
    assert_same_bits(state["optimizer"], expected["optimizer"])
    assert str(rows) == str(whole_rows)  # as text, NaN equals NaN
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert list(rows[0]) == HISTORY


def test_what_happens_between_epochs_does_not_matter():
    settings = settings_of()
    whole, *_ = trained(range(3), settings=settings)
    network = network_of()
    optimizer = make_optimizer(network, settings)
    for _ in train_epochs(
        network, optimizer, dataset_of(), settings=settings, seed=0, epochs=range(3), say=quiet
    ):
        network.eval()
        torch.rand(17)  # a reader of the rows may draw what it likes
    assert_same_bits(dict(network.state_dict()), dict(whole.state_dict()))


class Recorder(nn.Module):
    """Records the batches that it is trained on."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(1, 2)
        self.batches = []

    def forward(self, x):
        if self.training:
            self.batches.append(x[:, 0].tolist())
        return self.body(x)


def orders(seed, epochs=2, n=20, batch_size=8):
    images = torch.arange(n, dtype=torch.float32)[:, None]
    split = (images, torch.zeros(n, dtype=torch.long))
    splits = dict.fromkeys(("train", "validation", "test"), split)
    dataset = DataSet("made", 2, None, None, (0.0,), (1.0,), splits)
    recorder = Recorder()
    settings = settings_of(batch_size=batch_size, lr=1e-4)
    _, _, rows = trained(
        range(epochs), settings=settings, network=recorder, seed=seed, dataset=dataset
    )
    return recorder.batches, rows


def test_every_image_once_per_epoch_in_a_new_order():
    batches, _ = orders(0)
    assert [len(batch) for batch in batches] == [8, 8, 4, 8, 8, 4]
    first, second = ([i for b in half for i in b] for half in (batches[:3], batches[3:]))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != sorted(first)
    assert orders(0)[0] == batches
    assert orders(1)[0] != batches


def test_a_last_batch_of_one_image_is_left_out():
    batches, rows = orders(0, epochs=1, n=9, batch_size=4)
    assert [len(batch) for batch in batches] == [4, 4]
    assert 0 <= rows[0]["train_accuracy"] <= 1


def test_history_by_hand():
    # a constant loss: the weights are 0 and, with lr next to 0, stay there
    split = (torch.zeros(10, 1), torch.tensor([0] * 7 + [1] * 3))
    splits = dict.fromkeys(("train", "validation", "test"), split)
    dataset = DataSet("made", 2, None, None, (0.0,), (1.0,), splits)
    network = nn.Linear(1, 2)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    settings = settings_of("sgd", batch_size=4, lr=1e-12)
    _, _, (row,) = trained(range(1), settings=settings, network=network, dataset=dataset)
    assert row["train_loss"] == pytest.approx(math.log(2))
    assert row["validation_loss"] == pytest.approx(math.log(2))
    assert row["lr"] == 1e-12
    assert evaluate(network.eval(), dataset, split="test")[0] == pytest.approx(math.log(2))
    with torch.no_grad():
        network.bias.copy_(torch.tensor([1.0, 0.0]))
    loss, accuracy = evaluate(network, dataset, split="test")
    assert accuracy == 0.7
    assert loss == pytest.approx(math.log(1 + math.e) - 0.7)


def test_training_learns():
    dataset = dataset_of()
    images = dataset.splits["train"][0]
    labels = (images.float().mean((1, 2, 3)) > 8).long()
    splits = dict.fromkeys(("train", "validation"), (images, labels))
    dataset = DataSet("made", 3, (0.0, 1.0), 16, (0.5,) * 2, (0.3,) * 2, splits)
    _, _, rows = trained(range(15), settings=settings_of(), dataset=dataset)
    assert rows[-1]["validation_accuracy"] > 0.85
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_learning_rate_by_hand():
    settings = settings_of(schedule={"kind": "cosine", "epochs": 4, "factor": 0.1}, lr=0.2)
    half = 0.1 * (1 + math.sqrt(0.5))
    expected = [0.2, half, 0.1, 0.2 - half, 0, 0]
    assert [learning_rate(settings, e) for e in range(6)] == pytest.approx(expected, abs=1e-15)
    settings = settings_of(schedule={"kind": "step", "epochs": 2, "factor": 0.1}, lr=0.2)
    expected = [0.2, 0.2, 0.02, 0.02, 0.002]
    assert [learning_rate(settings, e) for e in range(5)] == pytest.approx(expected)
    assert learning_rate(settings_of(lr=0.2), 1000) == 0.2


def test_the_learning_rate_reaches_the_optimizer():
    _, optimizer, rows = trained(range(3), settings=settings_of(schedule=STEP))
    assert [row["lr"] for row in rows] == pytest.approx([0.01, 0.01, 0.001])
    assert optimizer.param_groups[0]["lr"] == rows[-1]["lr"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_shift_moves_whole_images_and_fills_with_zeros(channels):
    images = torch.rand(60, channels, 4, 5) + 1
    moved = augment(images, {"shift": 2, "flip": False}, generator())
    assert moved.shape == images.shape
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for before, after in zip(padded, moved, strict=True):
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(before[:, down : down + 4, right : right + 5], after)
        ]
        assert len(fits) == 1
        seen |= set(fits)
    assert {down for down, _ in seen} == {right for _, right in seen} == set(range(5))


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_mirrors_about_half(channels):
    images = torch.rand(400, channels, 3, 4)
    moved = augment(images, {"shift": 0, "flip": True}, generator())
    same = (moved == images).flatten(1).all(1)
    mirrored = (moved == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_augmentation_follows_from_its_generator():
    images = torch.rand(30, 1, 5, 5)
    kept = images.clone()
    one, again = (augment(images, MOVED, generator(4)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, augment(images, MOVED, generator(5)))
    assert torch.equal(images, kept)
    assert augment(images, PLAIN, generator()) is images


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_loss_that_is_not_finite_stops_training(optimizer):
    network = network_of()
    settings = settings_of(optimizer, batch_size=25)
    fitted = make_optimizer(network, settings)
    rows = train_epochs(
        network, fitted, dataset_of(), settings=settings, seed=0, epochs=range(3, 5), say=quiet
    )
    next(rows)
    with torch.no_grad():
        network[5].bias[0] = float("nan")
    with pytest.raises(UserError, match=r"epoch 5, batch 1; .*lr") as caught:
        next(rows)
    assert "\n" not in str(caught.value)


def after_some_epochs(optimizer):
    """A network whose optimiser has momentum, so that a step would move even without gradient."""
    settings = settings_of(optimizer)
    network, fitted, _ = trained(range(2), settings=settings)
    return network, fitted, settings


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_frozen_entries_keep_their_bits(optimizer):
    network, fitted, settings = after_some_epochs(optimizer)
    before = copy.deepcopy(network.state_dict())
    partial = torch.rand(before["5.weight"].shape, generator=generator()) < 0.5
    frozen = {
        "0.weight": torch.ones_like(before["0.weight"], dtype=torch.bool),
        "0.bias": torch.zeros_like(before["0.bias"], dtype=torch.bool),
        "5.weight": partial,
    }
    trained(range(2, 4), settings=settings, network=network, optimizer=fitted, frozen=frozen)
    after = network.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["5.weight"][partial], before["5.weight"][partial])
    assert (after["5.weight"][~partial] != before["5.weight"][~partial]).all()
    for name in ("0.bias", "1.weight", "1.bias", "5.bias", "1.running_mean"):
        assert (after[name] != before[name]).any(), name


def test_a_mask_without_any_entry_is_no_mask():
    plain, fitted, settings = after_some_epochs("adam")
    masked, masked_fitted, _ = after_some_epochs("adam")
    nothing = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in plain.named_parameters()}
    trained(range(2, 4), settings=settings, network=plain, optimizer=fitted)
    trained(range(2, 4), settings=settings, network=masked, optimizer=masked_fitted, frozen=nothing)
    assert_same_bits(dict(plain.state_dict()), dict(masked.state_dict()))


def test_freezing_does_not_disturb_the_order_of_images():
    free, *_ = trained(range(1), settings=settings_of("sgd", lr=1e-9))
    mask = {"5.weight": torch.ones(3, 64, dtype=torch.bool)}
    held, *_ = trained(range(1), settings=settings_of("sgd", lr=1e-9), frozen=mask)
    assert torch.allclose(free[1].running_mean, held[1].running_mean, atol=1e-6)


def test_everything_frozen():
    # fragile_only where no layer is fragile, in a network without normalisation
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    before = copy.deepcopy(network.state_dict())
    frozen = {n: torch.ones_like(p, dtype=torch.bool) for n, p in network.named_parameters()}
    _, _, rows = trained(range(2), settings=settings_of(), network=network, frozen=frozen)
    assert_same_bits(dict(network.state_dict()), dict(before))
    assert rows[0]["validation_loss"] == rows[1]["validation_loss"]


def test_names_are_those_of_the_body():
    network = Network(nn.Identity(), network_of())
    before = network.body[0].weight.detach().clone()
    frozen = {"0.weight": torch.ones_like(before, dtype=torch.bool)}
    trained(range(1), settings=settings_of(), network=network, frozen=frozen)
    assert torch.equal(network.body[0].weight, before)


def test_an_unknown_name_is_a_mistake_of_the_program():
    with pytest.raises(AssertionError, match=r"no such parameters: 9\.weight"):
        trained(range(1), settings=settings_of(), frozen={"9.weight": torch.ones(1).bool()})


def test_a_frozen_training_thaws_in_the_next():
    network, fitted, settings = after_some_epochs("adam")
    frozen = {"0.weight": torch.ones_like(network[0].weight, dtype=torch.bool)}
    trained(range(2, 3), settings=settings, network=network, optimizer=fitted, frozen=frozen)
    before = network[0].weight.detach().clone()
    trained(range(3, 4), settings=settings, network=network, optimizer=fitted)
    assert (network[0].weight != before).any()


def test_training_reseeds_the_global_generator_from_seed_and_epoch():
    drawn = []
    for past in (1, 2):
        torch.manual_seed(past)
        trained(range(1), settings=settings_of(), network=network_of())
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


def test_a_checkpoint_of_another_network_is_refused():
    network, optimizer, _ = trained(range(1), settings=settings_of())
    state = checkpoint(network, optimizer)
    other = nn.Linear(2, 2)
    for bad in (state, {"network": other.state_dict()}, {}):
        with pytest.raises(UserError, match="does not fit its network") as caught:
            restore(other, make_optimizer(other, settings_of()), bad)
        assert "\n" not in str(caught.value)


def test_the_optimizer_that_the_settings_name():
    network = nn.Linear(2, 2)
    adam = make_optimizer(network, settings_of("adam"))
    sgd = make_optimizer(network, settings_of("sgd", momentum=0.7))
    assert isinstance(adam, torch.optim.Adam)
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.7
    for optimizer in (adam, sgd):
        assert optimizer.param_groups[0]["weight_decay"] == 0.001
        assert len(optimizer.param_groups[0]["params"]) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adamw"}, "optimizer: 'adamw' is unknown; did you mean 'adam'"),
        ({"schedule": CONSTANT | {"kind": "cosin"}}, "schedule: 'cosin' is unknown; .* 'cosine'"),
        ({"recipe": "at-pdg"}, "recipe: 'at-pdg' is unknown; did you mean 'at-pgd'"),
    ],
)
def test_unknown_names_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        trained(range(1), settings=settings_of(**changes))


def test_a_training_in_inference_mode_is_the_same():
    network, _, rows = trained(range(2), settings=settings_of())
    inside = network_of()
    with torch.inference_mode():
        _, _, same = trained(range(2), settings=settings_of(), network=inside)
    assert_same_bits(same, rows)
    assert_same_bits(inside.state_dict(), network.state_dict())


def test_a_loss_without_a_gradient_is_told():
    class Detached(nn.Sequential):
        def forward(self, images):
            return super().forward(images).detach()

    with pytest.raises(UserError, match="the loss has no gradient, so nothing would be learned"):
        trained(range(1), settings=settings_of(), network=Detached(*network_of()))
