"""Do layers that are decided safe, alone and together, stay safe on images that decided nothing?

    pip install -e .    # once
    python benchmarks/compression.py --networks small_conv --seeds 0 1    # some two minutes
    python benchmarks/compression.py

Fashion-MNIST of Debian's package dataset-fashion-mnist. Each network learns plainly, is decided on
as by `compression` (500 validation and 500 test images, a loss of two points), and then judged on
the 9,500 test images that are left: how many of the networks, and of the single layers, that are
called safe lose more there. At most a share of 1 - confidence of the checkpoints may have any.
"""

import argparse

import torch

from faultline.ablation.compression import forms
from faultline.config.trainings import Training
from faultline.data.splits import DataSet, prepare
from faultline.networks.layers import layers
from faultline.run.loading import build_network
from faultline.studies.compression.compressed import Network, compress, evaluator
from faultline.studies.compression.names import SAFE
from faultline.training.epochs import make_optimizer, train_epochs

LOSS, CONFIDENCE, JUDGED = 0.02, 0.95, 500
FORMS = forms([8, 4, 3, 2], [0.3, 0.5, 0.7])
PLAIN = Training(epochs=[0]).dump() | {"lr": 0.001, "batch_size": 50}


def quiet(*_):
    pass


def parts(whole: DataSet) -> tuple[DataSet, DataSet]:
    """(with the test images that decide, with those that are left)."""
    images, labels = whole.splits["test"]
    first, rest = (
        {**whole.splits, "test": (images[part], labels[part])}
        for part in (slice(JUDGED), slice(JUDGED, None))
    )
    shared = {key: value for key, value in vars(whole).items() if key != "splits"}
    return DataSet(**shared, splits=first), DataSet(**shared, splits=rest)


def main() -> None:
    """Print what is called safe, and what of it loses more than it may."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["small_conv", "small_resnet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--train", type=int, default=2000, help="training images")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = "/usr/share/datasets/fashion-mnist"
    sizes = {"train": chosen.train, "validation": 500, "test": 10_000, "split_seed": 0}
    few, many = parts(prepare("fashion_mnist", folder=folder, **sizes))
    by_name = {form.name: form for form in FORMS}
    total = {"single": [0, 0], "together": [0, 0]}
    wrong = {"single": 0, "together": 0}
    for name in chosen.networks:
        for seed in chosen.seeds:
            network = build_network(name, few, seed=seed, device=torch.device("cpu"))
            how = {"settings": PLAIN, "seed": seed, "epochs": range(10), "say": quiet}
            list(train_epochs(network, make_optimizer(network, PLAIN), few, **how))
            own, asked = layers(network.eval()), []
            decide, check = (evaluator(network, data, own, by_channel=True) for data in (few, many))

            def remembered(networks, split, decide=decide, asked=asked):
                if split == "test":
                    asked += networks
                return decide(networks, split)

            given = {"forms": FORMS, "loss": LOSS, "confidence": CONFIDENCE}
            result = compress(remembered, [*own], **given)
            alone = result.alone[result.alone["verdict"] == SAFE]
            single = [Network({row["layer"]: by_name[row["form"]]}) for _, row in alone.iterrows()]
            safe = (result.together["verdict"] == SAFE).to_numpy()
            together = [asked[index] for index in safe.nonzero()[0]]
            for what, networks in (("single", single), ("together", together)):
                losses = [-of.change.mean() for of in check(networks, "test")] if networks else []
                beyond = sum(loss > LOSS for loss in losses)
                total[what][0] += beyond
                total[what][1] += len(losses)
                wrong[what] += beyond > 0
                most = 100 * max(losses, default=0.0)
                print(
                    f"{name}, seed {seed}, {what}: {len(losses)} safe, {beyond} beyond "
                    f"{100 * LOSS:g} points on the images left; the most {most:.1f}",
                    flush=True,
                )
    count = len(chosen.networks) * len(chosen.seeds)
    for what, (beyond, called) in total.items():
        print(
            f"{what}: of {called} called safe {beyond} beyond; in {wrong[what]} of {count} networks"
        )


if __name__ == "__main__":
    main()
