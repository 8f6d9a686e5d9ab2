"""Does mending a network for one stress mend or break it for another?

    pip install -e .    # once
    python benchmarks/mend_stresses.py --seeds 0    # some ten minutes on one core
    python benchmarks/mend_stresses.py

Fashion-MNIST of Debian's package dataset-fashion-mnist. Each network learns plainly, then is mended
by `harden`, once for each stress and once against an attack (eps 0.05). For each: accuracy under
each stress, mean over severities, minus that of the given network, in points, mean over seeds with
the interval over these (Student's t), and q (Benjamini-Hochberg over all); under the attack, APGD
of 20 steps, crafted on each network. On test images, which chose nothing.
"""

import argparse
import copy

import numpy as np
import torch

from faultline.attacks.run import correct_under
from faultline.base.statistics import benjamini_hochberg, mean_interval, mean_p_value
from faultline.config.trainings import Training
from faultline.data.splits import prepare
from faultline.run.loading import build_network
from faultline.studies.mending.mended import mend_by
from faultline.studies.mending.under import Stressed
from faultline.studies.stresses.judged import correct_under_stresses, stress_set
from faultline.training.epochs import make_optimizer, train_epochs

ATTACK = {"method": "apgd", "norm": "linf", "eps": 0.05, "steps": 20, "normalised_units": False}
PLAIN = Training(epochs=[0]).dump()


def quiet(*_):
    pass


def accuracies(network, dataset, stored):
    """Column -> share of images right, mean over severities."""
    sets = correct_under_stresses(network, dataset, stored)
    columns = {"clean": sets["clean"].mean()}
    for name in stored:
        of = [hits.mean() for key, hits in sets.items() if key.rpartition("@")[0] == name]
        columns[name] = np.mean(of)
    under = correct_under({"apgd": ATTACK}, network, dataset, split="test", seed=0)
    return columns | {"apgd": under["apgd"].mean()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="small_resnet")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--train", type=int, default=2000, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.003])
    kinds = ["gaussian_noise", "defocus_blur", "fog", "contrast", "pixelate"]
    parser.add_argument("--stresses", nargs="+", default=kinds)
    parser.add_argument("--severities", nargs="+", type=int, default=[1, 3])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = "/usr/share/datasets/fashion-mnist"
    sizes = {"train": chosen.train, "validation": 500, "test": chosen.test, "split_seed": 0}
    dataset = prepare("fashion_mnist", folder=folder, **sizes)
    stored = {
        split: {
            kind: stress_set(
                dataset,
                kind,
                {"kind": kind, "severities": chosen.severities, "options": {}},
                split=split,
            )[0]
            for kind in chosen.stresses
        }
        for split in ("train", "validation", "test")
    }
    changes: dict[tuple[str, str], list[float]] = {}
    before: dict[str, list[float]] = {}
    for seed in chosen.seeds:
        given = build_network(chosen.network, dataset, seed=seed, device=torch.device("cpu"))
        settings = PLAIN | {"lr": 0.001, "batch_size": 50}
        how = {"settings": settings, "seed": seed, "epochs": range(10), "say": quiet}
        list(train_epochs(given, make_optimizer(given, settings), dataset, **how))
        base = accuracies(given.eval(), dataset, stored["test"])
        for column, value in base.items():
            before.setdefault(column, []).append(100 * value)
        for row in [*chosen.stresses, "apgd"]:
            network = copy.deepcopy(given)
            sets = [
                {row: stored[split][row]}
                for split in ("train", "validation")
                if row in stored[split]
            ]
            mend_by(
                *("harden", network, dataset),
                **{"training": PLAIN, "attack": {} if sets else ATTACK},
                **{"stressed": Stressed(*sets) if sets else None, "rates": chosen.rates},
                **{"shares": [0.5, 1.0], "batch_size": 50, "epochs": chosen.epochs},
                **{"clean_loss": 0.05, "fragile": None, "seed": seed},
            )
            for column, value in accuracies(network, dataset, stored["test"]).items():
                changes.setdefault((row, column), []).append(100 * (value - base[column]))
        print(f"seed {seed} done", flush=True)
    p = [mean_p_value(values) for values in changes.values()]
    q = dict(zip(changes, benjamini_hochberg(p), strict=True))
    print(f"{chosen.network}, n = {chosen.test}, {len(chosen.seeds)} seeds, points")
    print("given".ljust(16), *(f"{c}: {np.mean(v):.1f}" for c, v in before.items()), sep="  ")
    for row in [*chosen.stresses, "apgd"]:
        print(f"mended for {row}")
        for column in before:
            mean, low, high = mean_interval(changes[row, column], confidence=0.95)
            print(f"    {column:16} {mean:+6.1f} [{low:+.1f}, {high:+.1f}]  q {q[row, column]:.3f}")


if __name__ == "__main__":
    main()
