"""Seven networks whose gradient lies and ten trained honestly: which do the self-checks refuse?

    pip install -e .                            # once
    python benchmarks/masking.py --quick        # the table of docs/methods.md
    python benchmarks/masking.py --quick --honest 2    # honest networks alone, many, over two seeds

Each network is attacked by PGD of ten steps, the weak attack that a lie deceives, and by the judge,
`standard`. Its accuracy is refused where `faultline.attacks.checks.masked` has something against
it. Honest networks over seeds tell how far from the limits of the checks they stay. With --quick
`standard` has fewer steps and queries, which is the harder case, as it leaves more to find.
"""

import argparse
import contextlib
import copy
import functools
import io
import re

import torch
from torch import Tensor, nn

from faultline.attacks.checks import SIGNS, masked
from faultline.attacks.run import attacked
from faultline.data.splits import DataSet, prepare
from faultline.networks.registry import build
from faultline.training.epochs import make_optimizer, train_epochs

FASHION = "/usr/share/datasets/fashion-mnist"
DATA = {
    "digits": {"validation": 397, "test": 200},
    "fashion_mnist": {"train": 1000, "validation": 10, "test": 200, "folder": FASHION},
    "moons": {"train": 1000, "validation": 10, "test": 200},
    "breast_cancer": {"validation": 10, "test": 200},
}
EPS = {"moons": 0.2}  # elsewhere 0.1
TRAINING = {
    **{"recipe": "standard", "optimizer": "adam", "lr": 0.001, "momentum": 0.9, "batch_size": 50},
    **{"weight_decay": 0.0, "schedule": {"kind": "constant", "epochs": 1, "factor": 1.0}},
    **{"augmentation": {"shift": 0, "flip": False}, "regularisation": {"at": "activation"}},
}
ADVERSARIAL = {"norm": "linf", "steps": 5, "step_size": None, "beta": 6.0}
WEAK = {"method": "pgd", "norm": "linf", "steps": 10, "normalised_units": False}
JUDGE = {"method": "standard", "norm": "linf", "normalised_units": False}
QUICK = {"steps": 30, "queries": 300}

HONEST = [
    ("digits", "small_conv", "standard"),
    ("digits", "small_conv", "at-pgd"),
    ("digits", "small_resnet", "at-fast"),
    ("digits", "small_resnet", "at-trades"),
    ("digits", "small_vit", "standard"),
    ("fashion_mnist", "lsa_mnist", "standard"),
    ("fashion_mnist", "lsa_mnist", "at-pgd"),
    ("fashion_mnist", "small_conv", "at-fast"),
    ("moons", "lsa_moons", "at-trades"),
    ("breast_cancer", "mlp", "at-pgd"),
]
RECIPES = ("standard", "at-fgsm", "at-fast", "at-pgd", "at-trades")
EPOCHS = {"fashion_mnist": 2, "breast_cancer": 12}  # elsewhere 8


@functools.cache
def dataset_of(name: str) -> DataSet:
    return prepare(name, split_seed=0, **DATA[name])


def fresh(data: str, name: str, *, seed: int) -> nn.Module:
    of = dataset_of(data)
    shape = tuple(of.pixels(of.splits["test"][0][:1]).shape[1:])
    return build(name, shape=shape, classes=of.classes, mean=of.mean, std=of.std, seed=seed)


def train(network: nn.Module, data: str, *, epochs: int, seed: int = 0, **others) -> nn.Module:
    """others: in place of what `TRAINING` says."""
    eps = EPS.get(data, 0.1)
    settings = TRAINING | {"adversarial": ADVERSARIAL | {"eps": eps}} | others
    optimizer = make_optimizer(network, settings)
    given = {"settings": settings, "seed": seed, "epochs": range(epochs), "say": lambda _: None}
    for _ in train_epochs(network, optimizer, dataset_of(data), **given):
        pass
    return network.eval()


@functools.cache
def trained(data: str, name: str, recipe: str, seed: int = 0) -> nn.Module:
    lr = 0.003 if name == "small_vit" else 0.001
    epochs = EPOCHS.get(data, 8)
    network = fresh(data, name, seed=seed)
    return train(network, data, epochs=epochs, seed=seed, recipe=recipe, lr=lr)


def swapped(network: nn.Module, make) -> nn.Module:
    """A copy whose ReLUs are replaced by what `make` makes of each."""
    network = copy.deepcopy(network)
    for module in [*network.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.ReLU):
                setattr(module, name, make(child))
    return network


class AroundMean(nn.Module):
    """Values within `width` standard deviations of their channel's mean become that mean, as in
    MeanSparse (arXiv 2406.05927), then ReLU. The first batch, of training images, sets both."""

    def __init__(self, relu: nn.Module, width: float):
        super().__init__()
        self.relu, self.width = relu, width
        self.mean = self.std = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is None:
            others = [axis for axis in range(x.dim()) if axis != 1]
            self.mean = x.detach().mean(others, keepdim=True)
            self.std = x.detach().std(others, keepdim=True)
        near = (x - self.mean).abs() <= self.width * self.std
        return self.relu(torch.where(near, self.mean.expand_as(x), x))


class Sign(nn.Module):
    """The sign, learned with the gradient of a clamp (straight through), which then is gone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x.sign()
        passed = x.clamp(-1, 1)
        return passed + (x.sign() - passed).detach()


class Detached(nn.Module):
    """A residual block that tells the gradient of its skip alone."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        of = self.block
        branch = of.bn2(of.conv2(of.relu1(of.bn1(of.conv1(x)))))
        return of.relu2(branch.detach() + of.downsample(x))


class Around(nn.Module):
    """Something before and something behind a network; `behind` knows whether it is in training."""

    def __init__(self, network: nn.Module, before=lambda x: x, behind=lambda z, training: z):
        super().__init__()
        self.network, self.before, self.behind = network, before, behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.network(self.before(x)), self.training)


def around_mean(width: float = 0.3) -> nn.Module:
    network = swapped(trained("digits", "small_resnet", "standard"), lambda r: AroundMean(r, width))
    of = dataset_of("digits")
    with torch.no_grad():
        network(of.pixels(of.splits["train"][0]))
    return network


def quantised() -> nn.Module:
    """Pixels rounded to five values."""
    network = trained("digits", "small_conv", "standard")
    return Around(network, before=lambda x: (4 * x).round() / 4).eval()


def scaled() -> nn.Module:
    network = trained("digits", "small_conv", "standard")
    return Around(network, behind=lambda z, training: 1000 * z).eval()


def signs() -> nn.Module:
    network = swapped(fresh("digits", "small_conv", seed=0), lambda relu: Sign())
    return train(network, "digits", epochs=8)


def noisy() -> nn.Module:
    network = trained("digits", "small_conv", "standard")
    return Around(network, before=lambda x: x + 0.1 * torch.randn_like(x)).eval()


def cooled() -> nn.Module:
    network = fresh("digits", "small_conv", seed=0)
    network = Around(network, behind=lambda z, training: z / 100 if training else z)
    return train(network, "digits", epochs=20, lr=0.003)


def detached() -> nn.Module:
    network = copy.deepcopy(trained("digits", "small_resnet", "standard"))
    for name in ("layer1", "layer2", "layer3"):
        setattr(network.body, name, Detached(getattr(network.body, name)))
    return network


PLANTED = {
    "activations cut around their mean": around_mean,
    "input quantised": quantised,
    "logits times 1,000": scaled,
    "sign activation": signs,
    "noise in eval mode": noisy,
    "temperature of 100 in training": cooled,
    "residual branches detached": detached,
}


def judged(network: nn.Module, data: str, attack: dict) -> tuple[float, list[dict]]:
    """(accuracy under an attack, rows of its self-checks), on the test images."""
    attack = attack | {"eps": EPS.get(data, 0.1)}
    with contextlib.redirect_stdout(io.StringIO()):
        under = attacked(network, dataset_of(data), attack=attack, name="judge", seed=0)
    return under.accuracy[-1]["accuracy"], under.checks


def line(name: str, network: nn.Module, data: str) -> str:
    """A row of the table."""
    weak, _ = judged(network, data, WEAK)
    strong, rows = judged(network, data, JUDGE)
    warned = [row["check"] for row in rows if row["status"] == "warning" and row["check"] in SIGNS]
    cells = [name, f"{100 * weak:.1f} %", f"{100 * strong:.1f} %"]
    cells.append(", ".join(f"`{check}`" for check in warned) or "none")
    return f"| {' | '.join([*cells, 'refused' if masked(rows) else 'no'])} |"


def many(seeds: int) -> None:
    """Honest networks over seeds: the largest share that each check saw, and what was refused."""
    places = list(dict.fromkeys((data, name) for data, name, _ in HONEST))
    seen, refused, count = dict.fromkeys(SIGNS, (0.0, "")), [], 0
    for seed in range(seeds):
        for data, name in places:
            for recipe in RECIPES:
                where = f"{data}, {name}, {recipe}, seed {seed}"
                accuracy, rows = judged(trained(data, name, recipe, seed), data, JUDGE)
                count += 1
                for row in rows:
                    share = re.search(r"([\d.]+)%", row["detail"])
                    if row["check"] in SIGNS and share:
                        found = float(share[1]), where
                        seen[row["check"]] = max(seen[row["check"]], found)
                text = masked(rows)
                refused += [where] * bool(text)
                print(f"{where}: {100 * accuracy:.1f} % {text}", flush=True)
    print(f"{count} honest networks, refused: {len(refused)} {'; '.join(refused)}")
    for check, (share, where) in seen.items():
        print(f"{check}: at most {share:.2f} % ({where})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--honest", type=int, metavar="SEEDS", help="honest networks over seeds")
    parser.add_argument("--quick", action="store_true", help=f"100 images, {QUICK}")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the noise in eval mode
    if chosen.quick:
        JUDGE.update(QUICK)
        for of in DATA.values():
            of["test"] = 100
    if seeds := chosen.honest:
        return many(seeds)
    print("| network | PGD, 10 steps | `standard` | signs | refused |\n|---|---|---|---|---|")
    for name, make in PLANTED.items():
        print(line(name, make(), "digits"), flush=True)
    for data, network, recipe in HONEST:
        name = f"{data}, `{network}`, `{recipe}`"
        print(line(name, trained(data, network, recipe), data), flush=True)
    return None


if __name__ == "__main__":
    main()
