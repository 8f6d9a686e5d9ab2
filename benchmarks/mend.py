"""What a mend reaches, beside adversarial training from scratch, for how many image passes.

    pip install -e .    # once
    python benchmarks/mend.py --networks small_resnet --seeds 0    # some twenty minutes on one core
    python benchmarks/mend.py | tee mend.txt                       # a night
    python benchmarks/mend.py --draw mend.txt mend.png             # a table and a picture of it
    python benchmarks/mend.py --networks small_cnn --seeds 0 --train 59500 --test 1000 --eps 0.3 \
        --plain-epochs 1 --mend harden_pgd --rates 0.003 --lengths 4 --scratch-epochs 0  # 20 min

Fashion-MNIST of Debian's package dataset-fashion-mnist, eps 0.1 if no other is given. Each network
learns plainly, then is mended by `harden` at several lengths, and judged on test images; signs that
a gradient lies, or that more queries find more, are printed. Beside it the same network from fresh
weights: PGD of 10 steps, and one noisy step, with averaged weights, each once with every learning
rate and the best by validation images, as the mend. Passes: forwards and backwards of an image
through the network, those of the best rate; in brackets those of all rates.
"""

import argparse
import re
from functools import partial
from math import isnan
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from faultline.attacks.run import correct_under, judged
from faultline.base.statistics import mean_interval
from faultline.config.trainings import Training
from faultline.data.splits import prepare
from faultline.networks.registry import REGISTRY, Entry
from faultline.run.loading import build_network
from faultline.studies.mending.cost import counted
from faultline.studies.mending.mended import mend_by, quick
from faultline.training.epochs import make_optimizer, train_epochs
from faultline.training.finetuning import finetune
from faultline.training.registry import adversarial_of

PLAIN = Training(epochs=[0]).dump()

REFERENCE = "from scratch, at-pgd"


def small_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Four convolutions and three linear layers, as in the MNIST experiments of TRADES (Zhang et
    al. 2019)."""
    side = ((shape[1] - 4) // 2 - 4) // 2
    layers = [nn.Conv2d(shape[0], 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * side**2, 200), nn.ReLU()]
    layers += [nn.Dropout(0.5), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, classes)]
    return nn.Sequential(*layers)


REGISTRY["small_cnn"] = Entry(small_cnn, "image", 20)


def quiet(*_):
    pass


def told(what, network, dataset, judge, passes, of_all):
    of = judged({"attack": judge}, network, dataset, seed=0)
    clean, worst = (100 * hits.mean() for hits in of.correct.values())
    cost = f"{passes / 1000:9.0f} ({of_all / 1000:.0f})"
    print(f"  {what:36} {clean:5.1f} {worst:5.1f} {cost}", flush=True)
    if of.masked:
        print(f"    not to be believed: {of.masked}", flush=True)


def read(printed: list[str]) -> pd.DataFrame:
    """What was printed: a row for each network, seed, and what was done for how many epochs."""
    at, rows = ("", ""), []
    for line in "\n".join(Path(file).read_text() for file in printed).splitlines():
        if begins := re.match(r"(\w+), seed (\d+): ", line):
            at = begins[1], begins[2]
        elif of := re.match(r"  (.+?), (\d+) epochs +([\d.]+) +([\d.]+) +(\d+) ", line):
            rows.append((*at, of[1], int(of[2]), float(of[3]), float(of[4]), int(of[5])))
    columns = ["network", "seed", "what", "epochs", "clean", "worst", "passes"]
    return pd.DataFrame(rows, columns=columns)


def compare(table: pd.DataFrame) -> None:
    """Print a Markdown table for each network: means over seeds, and the share of what PGD from
    scratch reaches in the same seeds, with Student's t."""
    for network, of_network in table.groupby("network", sort=False):
        best = of_network[of_network["what"] == REFERENCE].set_index("seed")["worst"]
        print(f"\n{network}\n\n| | seeds | thousand passes | clean | worst case | share |")
        print("|---|---|---|---|---|---|")
        for (what, epochs), rows in of_network.groupby(["what", "epochs"], sort=False):
            shares = (rows.set_index("seed")["worst"] / best).dropna()
            mean, low, high = mean_interval(shares, confidence=0.95)
            share = f"{mean:.2f}" + ("" if isnan(low) else f" [{low:.2f}, {high:.2f}]")
            worst = f"{rows['worst'].min():.1f} to {rows['worst'].max():.1f}"
            print(
                f"| {what}, {epochs} epochs | {len(rows)} | {rows['passes'].mean():.0f} "
                f"| {rows['clean'].mean():.1f} | {rows['worst'].mean():.1f} ({worst}) | {share} |"
            )


def draw(table: pd.DataFrame, picture: str) -> None:
    """Accuracy under the judge over image passes, a panel per network: mean and range of seeds."""
    networks = table["network"].unique()
    figure = Figure(figsize=(4.2 * len(networks), 3.4), layout="constrained")
    axes = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, networks, strict=True):
        of_network = table[table["network"] == name]
        for what, part in of_network.groupby("what", sort=False):
            groups = part.groupby("epochs")
            at, mean = groups["passes"].mean(), groups["worst"].mean()
            spread = [mean - groups["worst"].min(), groups["worst"].max() - mean]
            ax.errorbar(at, mean, spread, marker="o", ms=4, lw=1, capsize=2, label=what)
        n = of_network["seed"].nunique()
        title = f"{name}, {n} seed{'s' * (n > 1)}"
        ax.set(xscale="log", xlabel="thousand image passes", title=title)
    axes[0].set_ylabel("worst case (%)")
    axes[0].legend(fontsize=8)
    figure.savefig(picture, dpi=90)


def main() -> None:
    """Print a table for each network and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", nargs="+", default=["small_resnet", "small_vit", "small_cnn", "resnet18"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--train", type=int, default=4000, help="training images")
    parser.add_argument("--test", type=int, default=500, help="test images")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.003, 0.01])
    parser.add_argument("--mend", default="harden", help="the candidate")
    parser.add_argument("--lengths", nargs="+", type=int, default=[1, 2, 5, 10], help="its epochs")
    parser.add_argument("--plain-epochs", type=int, default=10)
    parser.add_argument("--scratch-epochs", type=int, default=10, help="0: only the mend")
    parser.add_argument("--eps", type=float, default=0.1)
    files = "printed files, and the picture to draw of them; prints a table, too"
    parser.add_argument("--draw", nargs="+", metavar="FILE", help=files)
    chosen = parser.parse_args()
    if chosen.draw:
        *printed, picture = chosen.draw
        table = read(printed)
        compare(table)
        draw(table, picture)
        return
    judge = {"method": "standard", "norm": "linf", "eps": chosen.eps, "steps": 50, "queries": 100}
    recipes = ("at-nfgsm", "at-pgd") if chosen.scratch_epochs else ()
    torch.set_num_threads(1)
    folder = "/usr/share/datasets/fashion-mnist"
    sizes = {"train": chosen.train, "validation": 500, "test": chosen.test, "split_seed": 0}
    dataset = prepare("fashion_mnist", folder=folder, **sizes)
    for name in chosen.networks:
        for seed in chosen.seeds:
            build = partial(build_network, name, dataset, seed=seed, device=torch.device("cpu"))
            print(f"{name}, seed {seed}: clean and worst case in %, thousand passes", flush=True)
            given = build()
            with counted(given) as passes:
                settings = PLAIN | {"lr": 0.001, "batch_size": 50}
                optimizer = make_optimizer(given, settings)
                common = {"settings": settings, "seed": seed, "epochs": range(chosen.plain_epochs)}
                list(train_epochs(given, optimizer, dataset, say=quiet, **common))
            what = f"given: standard, {chosen.plain_epochs} epochs"
            told(what, given.eval(), dataset, judge, passes.count, passes.count)
            state = {key: value.clone() for key, value in given.state_dict().items()}
            for epochs in chosen.lengths:
                network = build()
                network.load_state_dict(state)
                path, _ = mend_by(
                    *(chosen.mend, network.eval(), dataset),
                    **{"training": PLAIN, "attack": judge, "rates": chosen.rates, "shares": [1]},
                    **{"batch_size": 50, "epochs": epochs, "clean_loss": 1.0, "fragile": None},
                    seed=seed,
                )
                best = path[path["best"]].iloc[0]["passes"]
                what = f"{chosen.mend}, {epochs} epochs"
                told(what, network, dataset, judge, best, path["passes"].sum())
            for recipe in recipes:
                tried = []
                for rate in chosen.rates:
                    network = build()
                    settings = PLAIN | {"recipe": recipe, "lr": rate, "batch_size": 50}
                    settings |= {"adversarial": adversarial_of(judge)}
                    with counted(network) as passes:
                        how = {"epochs": chosen.scratch_epochs, "seed": seed, "say": quiet}
                        finetune(network, dataset, settings=settings, **how)
                    under = {"attack": quick(judge)}
                    hits = correct_under(under, network, dataset, split="validation", seed=0)
                    tried.append((hits["attack"].mean(), passes.count, network))
                _, count, network = max(tried, key=lambda one: one[0])
                of_all = sum(one[1] for one in tried)
                what = f"from scratch, {recipe}, {chosen.scratch_epochs} epochs"
                told(what, network, dataset, judge, count, of_all)


if __name__ == "__main__":
    main()
