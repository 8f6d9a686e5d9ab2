"""The pretended device finds what would fail on a GPU: faults planted in the library and around it,
which all go unnoticed on the CPU."""

import importlib
import types
from pathlib import Path

import numpy as np
import pretend
import pytest
import torch
from pretend import PRETEND
from torch import nn
from trainings import network_of, settings_of, trained

from faultline.attacks.ascent import Ball
from faultline.base.files import load_tensors, save_tensors
from faultline.networks.evaluation import predict
from faultline.training.checkpoints import checkpoint, restore
from faultline.training.epochs import make_optimizer

UNIT = (0.0, 1.0)


def with_fault(module: str, old: str, new: str):
    """A module of the library with one passage of its source, that is there once, replaced."""
    whole = importlib.import_module(f"faultline.{module}")
    source = Path(whole.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{module}: {source.count(old)} times {old!r}"
    faulty = types.ModuleType(whole.__name__)
    faulty.__dict__.update(__file__=whole.__file__, __package__=whole.__package__)
    exec(compile(source.replace(old, new), whole.__file__, "exec"), faulty.__dict__)
    return faulty


def given(device):
    network = network_of().eval()
    images = torch.rand(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = predict(network, images).argmax(1)
    return network.to(device), images.to(device), labels.to(device)


def square(module, device):
    network, images, labels = given(device)
    module.square(network, images, labels, ball=Ball(0.1, "linf", UNIT), queries=3, seed=0)


def units(module, device):
    _, images, _ = given(device)
    module.pixel_units((0.3, 0.2), images) * images


def augment(module, device):
    images, settings = given(device)[1], {"shift": 1, "flip": True}
    module.augment(images, settings, torch.Generator().manual_seed(0))


def random_variants(module, device):
    network = given(device)[0]
    variants = module.random_variants({"0": network[0]}, draws=1, seed=0)
    variants[0].replace()


def bands(module, device):
    module.band_of(given(device)[0][0].weight, np.linspace(-1, 1, 5))


def digest(module, device):
    module._digest(given(device)[1])


def perturb(module, device):
    weight = given(device)[0][0].weight.detach()
    rng = np.random.default_rng(0)
    module.gaussian(weight, 0.5, rng)
    module.synapse_knockout(weight, 0.5, rng)


def trades(module, device):
    network, images, labels = given(device)
    adversarial = {"eps": 0.1, "norm": "linf", "steps": 1, "step_size": None}
    ball = Ball(0.1, "linf", UNIT)
    module._trades(module.Batch(network, images, labels, adversarial, ball, 0))


PLANTED = {
    "a factory without device": (
        *("attacks.square", "torch.inf, device=images.device)", "torch.inf)"),
        square,
    ),
    "a constant of the CPU": (
        *("attacks.craft", "dtype=images.dtype, device=images.device", "dtype=images.dtype"),
        units,
    ),
    "a mask made on the CPU": (
        *(
            "training.epochs",
            "mirrored[:, None, None, None].to(images.device)",
        ),
        *("mirrored[:, None, None, None]", augment),
    ),
    "a drawn mask left behind": (
        *("ablation.variants", "chosen.to(flat.device)", "chosen"),
        random_variants,
    ),
    "edges without device": (
        *("ablation.variants", "/ 2, device=weight.device", "/ 2"),
        bands,
    ),
    "NumPy without cpu()": (
        *("ablation.engines", ".cpu().numpy().tobytes()", ".numpy().tobytes()"),
        digest,
    ),
    "noise of NumPy left behind": (
        *("studies.perturbations.kinds", "(noise * scale).to(value)", "(noise * scale)"),
        perturb,
    ),
    "a generator of the CPU": (
        "training.registry",
        "torch.randn(images.shape, generator=",
        "torch.randn(images.shape, device=images.device, generator=",
        trades,
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_that_is_planted_in_the_library_is_found(fault):
    name, old, new, run = PLANTED[fault]
    module = with_fault(name, old, new)
    run(module, "cpu")
    with pytest.raises((RuntimeError, TypeError)):
        run(module, PRETEND)
    run(importlib.import_module(f"faultline.{name}"), PRETEND)


def images_left_behind(device, folder):
    network, *_ = given(device)
    _, images, _ = given("cpu")
    network(images)


def labels_left_behind(device, folder):
    network, images, _ = given(device)
    nn.functional.cross_entropy(network(images), given("cpu")[2])


def pinned_memory(device, folder):
    if device != "cpu":
        given(device)[1].pin_memory()


class Unregistered(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(1, 2, 1, 1)

    def forward(self, images):
        return images - self.mean


def a_tensor_that_is_no_buffer(device, folder):
    Unregistered().to(device)(given(device)[1])


def state_of_an_optimizer(device, folder):
    """Loaded with the weights, but by hand, so that it stays where the file was read."""
    settings = settings_of()
    network, optimizer, _ = trained(range(1), settings=settings)
    save_tensors(checkpoint(network, optimizer), folder / "state.pt")
    state = load_tensors(folder / "state.pt", "a checkpoint")
    network = network_of().to(device)
    optimizer = make_optimizer(network, settings)
    restore(network, None, state)
    for number, parameter in enumerate(network.parameters()):
        optimizer.state[parameter] = state["optimizer"]["state"][number]
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def weights_of_the_cpu(device, folder):
    network = given(device)[0]
    network[0].weight.data = torch.zeros(4, 2, 3, 3)


def a_file_read_without_device(device, folder):
    save_tensors({"mask": torch.ones(4, 2, 3, 3, dtype=torch.bool)}, folder / "mask.pt")
    mask = load_tensors(folder / "mask.pt", "a mask")["mask"]
    given(device)[0][0].weight.detach().masked_fill(mask, 0.0)


def an_array_of_numpy(device, folder):
    np.asarray(given(device)[2])


def a_number_among_tensors(device, folder):
    torch.stack([given(device)[1].sum(), torch.tensor(0.0)])


def indices_of_the_cpu(device, folder):
    given(device)[1].index_select(0, torch.tensor([0]))


AROUND = [images_left_behind, labels_left_behind, pinned_memory, a_tensor_that_is_no_buffer]
AROUND += [state_of_an_optimizer, weights_of_the_cpu, a_file_read_without_device]
AROUND += [an_array_of_numpy, a_number_among_tensors, indices_of_the_cpu]


@pytest.mark.parametrize("fault", AROUND)
def test_a_fault_around_the_library_is_found(fault, tmp_path):
    fault("cpu", tmp_path)
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        fault(PRETEND, tmp_path)


def test_what_a_gpu_takes_is_taken():
    there = torch.rand(4, 3).to(PRETEND)
    there[torch.tensor([0, 2])], there[:, [0]]  # indices may lie on the CPU
    assert (there * torch.tensor(2.0)).device == there.device  # and a tensor of no dimension
    assert torch.tensor([1, 2], device=PRETEND).tolist() == torch.arange(1, 3).tolist()
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    before = [*map(id, network.parameters())]
    network.to(PRETEND)
    assert [*map(id, network.parameters())] == before  # tied weights stay tied
    assert network.to("cpu")[0].weight.device.type == "cpu"


def test_where_a_gpu_would_keep_the_cpu_waiting_is_counted():
    there, here = torch.rand(4, 3).to(PRETEND), torch.rand(4)
    with pretend.waiting() as counts:
        there.sum().item(), bool(there.any()), there.tolist(), there.nonzero(), there.cpu()
        there[there > 0.5], there[:, [0]], here.to(PRETEND)
    assert counts.total() == 8
    with pretend.waiting() as counts:
        there[there > 0.5] = 0.0
        here.to(PRETEND, non_blocking=True), there[:, 0], there * 2, there.argmax(1)
    assert not counts


def test_a_device_without_room_says_so():
    with pretend.room(4000):
        first = torch.zeros(500, device=PRETEND)
        view = first[3:]
        del first
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(600, device=PRETEND)
        del view
        torch.zeros(600, device=PRETEND)
