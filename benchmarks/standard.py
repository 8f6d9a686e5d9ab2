"""How strong the judge `standard` is, and what it costs, beside AutoAttack's standard version.

    pip install -e .    # once; and pyautoattack
    python benchmarks/standard.py --images 100    # minutes on one core
    python benchmarks/standard.py            # 1,000, an hour or two

Four networks learn scikit-learn's digits (500 training images, 20 epochs): `small_conv` and
`small_resnet`, plainly and by adversarial training in one step. Each is attacked in both norms by
ours and by pyautoattack's (APGD on the cross-entropy, targeted APGD, targeted FAB, Square; 100
steps, 5,000 queries), on the same test images, one after the other on one thread. Told are the
accuracies that are left, ours less theirs with its interval (paired, image by image), the forwards
and backwards of an image through the network, and the CPU time.
"""

import argparse
import time

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import nn

from faultline.attacks.craft import craft
from faultline.base.statistics import paired_difference_interval
from faultline.data.splits import prepare, test_images
from faultline.networks.evaluation import predict
from faultline.run.loading import build_network
from faultline.studies.config import resolve
from faultline.training.epochs import make_optimizer, train_epochs

EPS = {"linf": 0.1, "l2": 0.5}
EPOCHS = 20
COMMON = {"optimizer": "adam", "lr": 0.001, "batch_size": 50, "epochs": [EPOCHS]}
TRAININGS = {
    "standard": COMMON,
    "at-fast": COMMON | {"recipe": "at-fast", "adversarial": {"eps": 0.1}},
}
passes = {"forward": 0, "backward": 0}


class Counted(nn.Module):
    """A network whose passes are counted, by image."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes]."""
        passes["forward"] += len(images)
        logits = self.network(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    @staticmethod
    def _count(gradient: torch.Tensor) -> None:
        passes["backward"] += len(gradient)


def main() -> None:
    """Print a row for each network and norm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--networks", nargs="+", default=["small_conv", "small_resnet"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    config = resolve(
        {
            "datasets": {"digits": {"validation": 297, "test": 1000}},
            "networks": chosen.networks,
            "trainings": TRAININGS,
            "attacks": {"standard": {"method": "standard", "eps": 0.1}},
        }
    )
    dataset = prepare(**config.datasets["digits"].dump())
    images, labels = (part[: chosen.images] for part in test_images(dataset))
    for name in config.networks:
        for training, settings in config.trainings.items():
            network = build_network(name, dataset, seed=0, device=torch.device("cpu"))
            optimizer = make_optimizer(network, settings.dump())
            steps = train_epochs(
                network, optimizer, dataset, settings=settings.dump(), seed=0, epochs=range(EPOCHS)
            )
            list(steps)
            for norm, eps in EPS.items():
                compare(f"{name} {training}", network.eval(), images, labels, norm, eps)


def compare(
    name: str, network: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: str, eps: float
) -> None:
    """Print how ours and theirs do on one network under one norm."""

    def ours(counted: nn.Module) -> torch.Tensor:
        attack = {"method": "standard", "norm": norm}
        return craft(counted, images, labels, attack=attack, eps=eps, bounds=(0.0, 1.0), seed=0)

    def theirs(counted: nn.Module) -> torch.Tensor:
        suite = AutoAttack(
            counted, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, version="standard", seed=0
        )
        found: torch.Tensor = suite.run_standard_evaluation(images, labels, batch_size=500)[0]
        return found

    said, stands, costs = [f"{name} {norm} {eps:g}, n = {len(labels)}:"], [], []
    for who, attack in (("ours", ours), ("AutoAttack", theirs)):
        passes.update(forward=0, backward=0)
        before = time.process_time()
        adversarial = attack(Counted(network).eval())
        costs.append((sum(passes.values()), time.process_time() - before))
        stands.append((predict(network, adversarial).argmax(1) == labels).numpy())
        each = {key: f"{count / len(labels):,.0f}" for key, count in passes.items()}
        said.append(
            f"{who} {100 * stands[-1].mean():.1f} % ({each['forward']} forwards, "
            f"{each['backward']} backwards an image),"
        )
    only = [int(np.sum(a & ~b)) for a, b in (stands, stands[::-1])]
    interval = [
        100 * float(x) for x in paired_difference_interval(*only, len(labels), confidence=0.95)
    ]
    said.append("ours less theirs {:+.1f} [{:.1f}, {:.1f}] points;".format(*interval))
    said.append(
        f"{costs[1][0] / costs[0][0]:.0f} times fewer passes, {costs[1][1] / costs[0][1]:.0f} "
        "times less time"
    )
    print(*said, flush=True)


if __name__ == "__main__":
    main()
