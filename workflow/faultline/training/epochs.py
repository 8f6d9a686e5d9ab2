"""Training, epoch by epoch, so that a chain of segments gives the bits of one uninterrupted run.

Everything random in an epoch comes from (seed, epoch) alone, so the random state that a checkpoint
must carry is its seed and its epoch; the learning rate follows from the epoch too.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from faultline.base import memory, pace
from faultline.base.errors import UserError
from faultline.base.inputs import one_of
from faultline.base.memory import halving
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.networks.architectures import body_of, measure
from faultline.networks.evaluation import exact, predicted
from faultline.training.course import Course
from faultline.training.recipes import loss_of

HISTORY = [
    *("epoch", "lr", "train_loss", "train_accuracy", "train_adversarial_accuracy", "regulariser"),
    *("validation_loss", "validation_accuracy"),
]


OPTIMIZERS = ("adam", "sgd")

SCHEDULES = ("constant", "cosine", "step")


def make_optimizer(network: nn.Module, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser that the training settings name, one of OPTIMIZERS, over all parameters."""
    one_of(settings["optimizer"], OPTIMIZERS, "training: optimizer")
    common = {"lr": settings["lr"], "weight_decay": settings["weight_decay"], "fused": True}
    if settings["optimizer"] == "adam":
        return torch.optim.Adam(network.parameters(), **common)
    return torch.optim.SGD(network.parameters(), momentum=settings["momentum"], **common)


def learning_rate(settings: Mapping[str, Any], epoch: int) -> float:
    """Learning rate of an epoch, counted from 0."""
    lr: float = settings["lr"]
    schedule = settings["schedule"]
    one_of(schedule["kind"], SCHEDULES, "training: schedule")
    if schedule["kind"] == "cosine":
        done = min(epoch / schedule["epochs"], 1.0)
        lr = lr * 0.5 * (1 + math.cos(math.pi * done))
    if schedule["kind"] == "step":
        lr = lr * schedule["factor"] ** (epoch // schedule["epochs"])
    return lr


def augment(images: Tensor, settings: Mapping[str, Any], generator: torch.Generator) -> Tensor:
    """Shift images [n, c, h, w] by up to `shift` pixels, filled with 0, and mirror half of them."""
    n, _, height, width = images.shape
    shift = settings["shift"]
    if shift:
        padded = nn.functional.pad(images, (shift,) * 4)
        down, right = torch.randint(0, 2 * shift + 1, (2, n), generator=generator)
        rows = (down[:, None] + torch.arange(height)).to(images.device)
        columns = (right[:, None] + torch.arange(width)).to(images.device)
        each = torch.arange(n, device=images.device)[:, None, None]
        images = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if settings["flip"]:
        mirrored = torch.rand(n, generator=generator) < 0.5
        images = torch.where(
            mirrored[:, None, None, None].to(images.device), images.flip(3), images
        )
    return images


@torch.inference_mode(False)
def train_epochs(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: DataSet,
    *,
    settings: Mapping[str, Any],
    seed: int,
    epochs: range,
    frozen: dict[str, Tensor] | None = None,
    regularised: Mapping[str, float] | None = None,
    course: Course | None = None,
    disturbed: Callable[[int], AbstractContextManager[None]] | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[dict[str, float]]:
    """Train in place, yielding one history row after each epoch.

    settings: one training of the config. epochs: the epochs to
    run, counted from 0. frozen: parameter name, as the layers are named -> bool mask of the entries
    that keep their value. regularised: probe -> gamma, for recipes with -lr. course: of learning
    rate, eps and average, in place of the settings' schedule. disturbed: a seed -> in which the
    loss of a step and its gradient are found. PyTorch's global
    generator is seeded anew for every epoch. Raises UserError when a loss is not finite, before it
    is learned from.

    train_loss is what the recipe minimises, regulariser its part beside J. The accuracies on
    clean and on adversarial training images are those of the forwards that the recipe needs
    anyway. NaN where there is none.
    """
    images, labels = dataset.splits["train"]
    held = _hold(network, frozen or {})
    measure(network)
    for epoch in pace.each(epochs):
        began = time.monotonic()
        lr = learning_rate(settings, epoch)
        for group in optimizer.param_groups:
            group["lr"] = lr
        generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
        torch.manual_seed(seed_of("noise", seed, epoch))
        loss_sum, regulariser, correct, resisted, seen = 0.0, 0.0, 0.0, 0.0, 0
        network.train()
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        for number, chosen in enumerate(torch.split(order, settings["batch_size"])):
            if len(chosen) < 2 <= len(labels):
                continue  # BatchNorm cannot normalise a single sample
            batch, target = dataset.pixels(images[chosen]), labels[chosen]
            if course:
                settings = course.before_step(optimizer)
            if settings["augmentation"]["shift"] or settings["augmentation"]["flip"]:
                batch = augment(batch, settings["augmentation"], generator)
            step_seed = seed_of("adversarial", seed, epoch, number)
            with disturbed(step_seed) if disturbed else nullcontext():
                loss, clean, adversarial, extra = loss_of(
                    network,
                    batch,
                    target,
                    settings=settings,
                    bounds=dataset.bounds,
                    seed=step_seed,
                    regularised=regularised,
                )
                loss_value = loss.item()
                _check_loss(loss_value, f"epoch {epoch + 1}, batch {number + 1}", extra is not None)
                optimizer.zero_grad(set_to_none=True)
                if loss.requires_grad:  # unless all that a network has is frozen
                    loss.backward()
            if loss.requires_grad:
                optimizer.step()
            elif any(parameter.requires_grad for parameter in network.parameters()):
                raise UserError(
                    "training: the loss has no gradient, so nothing would be learned; look for "
                    "torch.no_grad() or detach() in the network's forward"
                )
            for parameter, mask, value in held:
                parameter.data[mask] = value
            if course:
                course.after_step(network)
            loss_sum += loss_value * len(chosen)
            regulariser += math.nan if extra is None else extra.item() * len(chosen)
            correct += _hits(clean, target)
            resisted += _hits(adversarial, target)
            seen += len(chosen)
            pace.passed(len(chosen))
        network.eval()
        measure(network)
        validation_loss, validation_accuracy = evaluate(network, dataset, split="validation")
        _check_loss(validation_loss, f"epoch {epoch + 1}, on validation images", bool(regularised))
        row = {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            "train_adversarial_accuracy": resisted / seen,
            "regulariser": regulariser / seen,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
        }
        say(
            f"epoch {epoch + 1}/{epochs.stop}: loss {row['train_loss']:.4f}, validation accuracy "
            f"{validation_accuracy:.4f}, {seen / (time.monotonic() - began):.0f} images/s"
        )
        yield row


def _check_loss(value: float, where: str, regularised: bool) -> None:
    if not math.isfinite(value):
        also = " or regularisation.gamma" if regularised else ""
        raise UserError(
            f"training diverged: the loss is {value} at {where}; lower the learning rate (config "
            f"key trainings.*.lr){also}"
        )


def _hits(logits: Tensor | None, target: Tensor) -> float:
    """How many are classified correctly; NaN without logits."""
    return math.nan if logits is None else (predicted(logits) == target).sum().item()


def _hold(
    network: nn.Module, frozen: dict[str, Tensor]
) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
    """Switch off wholly frozen parameters; for the others (parameter, mask, values to restore)."""
    held, frozen = [], dict(frozen)
    for name, parameter in body_of(network).named_parameters():
        mask = frozen.pop(name, None)
        parameter.requires_grad_(mask is None or not mask.all())
        if mask is not None and mask.any() and not mask.all():
            held.append((parameter, mask, parameter.data[mask].clone()))
    assert not frozen, f"no such parameters: {', '.join(frozen)}"
    return held


@halving
def evaluate(
    network: nn.Module, dataset: DataSet, *, split: str, batch_size: int = 1000
) -> tuple[float, float]:
    """(mean cross-entropy, accuracy) on a split of the data; the network is in eval mode."""
    images, labels = dataset.splits[split]
    loss = correct = 0.0
    with torch.inference_mode(), exact():
        most = memory.batch_size(batch_size, images.shape[1:])
        for chosen in torch.split(torch.arange(len(labels), device=labels.device), most):
            logits = network(dataset.pixels(images[chosen]))
            loss += cross_entropy(logits, labels[chosen], reduction="sum").item()
            correct += (predicted(logits) == labels[chosen]).sum().item()
    return loss / len(labels), correct / len(labels)
