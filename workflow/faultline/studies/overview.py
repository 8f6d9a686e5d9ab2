"""What was run, in a sentence, and what came of it, in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.report.page import NOT_RUN
from faultline.studies.order import VERDICTS, functions

if TYPE_CHECKING:
    from faultline.config.trainings import Training
    from faultline.studies.config import Config

MAX_TRAININGS = 6  # named together, else counted

NOTES = {
    "clean": "Accuracy: of test images, mean over seeds, lowest to highest in brackets.",
    "layers": "Layers: by class, decided in every seed.",
    "mended?": "Mended: other weights minus those that were given, in points, mean over these "
    "networks with the interval over test images, which chose nothing; only where that of each "
    "network is above 0 and its clean loss within the budget.",
    "help?": "Helped: minus regular retraining and random freezing, or minus no change and random "
    "gains, in points with the interval over seeds, under the attack that leaves least; yes and no "
    "only where the corrected q-value tells them apart. What it costs in clean accuracy is beside "
    "it.",
    "matters?": "Matters: the best of the criteria that tell better than chance, corrected, what "
    "is lost when a part is removed.",
    "training?": "Worth training: how many of the criteria pick what gains more, or less, than as "
    "many random weights, corrected.",
}
"""Word in a heading of the first table -> what is said of such columns below it."""


def what_was_run(tables: dict, config: Config) -> str:
    """Networks, data, trainings, seeds, images and attacks of a run."""
    alike: dict[str, list[str]] = {}  # trainings with the same checkpoints, by what is said of them
    for name, settings in config.trainings.items():
        said = f"{_weights(settings)}{_checkpoints(settings.epochs)}"
        alike.setdefault(said, []).append(name)
    trained = "; ".join(
        (f"as {page.listed(names)}" if len(names) <= MAX_TRAININGS else f"in {len(names)} ways")
        + f" ({said})"
        for said, names in alike.items()
    )
    n = page.images(tables["accuracy"])
    ablation, chosen = config.ablation, page.listed(config.ablation.attacks)
    once = "once on each checkpoint and reused on its ablated networks (transfer)"
    crafted = {
        "base": f"crafted {once}",
        "ablated": "crafted anew on each ablated network",
        "both": f"crafted anew on each ablated network, and {once}",
    }[ablation.target]
    seeds, layers = config.seeds, tables["layers"]
    swept = page.images(layers, ablation.split)
    judged = n if swept == n or not len(layers) else f"{n} (scores: {swept})"
    return (
        f"{page.count(config.networks, 'network')} ({page.listed(config.networks)}) on "
        f"{page.count(config.datasets, 'data set')} ({page.listed(config.datasets)}), "
        f"trained {trained}, {page.count(seeds, 'seed')} ({page.listed(seeds)}), judged on "
        f"{judged}. Attacks: {page.listed(config.attacks)}. "
        + (
            f"For the scores, adversarial images of {chosen} were {crafted}."
            if chosen
            else "Ablated networks were judged on clean images only."
        )
    )


def _checkpoints(epochs: list[int]) -> str:
    return f"checkpoint{'s' * (len(epochs) > 1)} at epoch{'s' * (len(epochs) > 1)} " + page.listed(
        epochs
    )


def verdict(tables: dict, config: Config) -> page.Table | None:
    """The answers of the first screen: a row per data set, network and training, its columns those
    of `VERDICTS`."""
    by_run = {
        name: (table.iloc[:0], canvas.split(table, RUN))
        for name, table in tables.items()
        if {*RUN} <= {*table.columns}
    }
    makers, rows = functions(VERDICTS), []
    for run, part in page.runs(tables["accuracy"]):
        place = tuple(part.iloc[0][RUN])
        here = tables | {name: of.get(place, none) for name, (none, of) in by_run.items()}
        seeds = page.count(part["seed"].unique(), "seed")
        row = {"network": page.cell(run, small=f"epoch {part['epoch'].max()}, {seeds}")}
        for make in makers:
            row |= make(here, config)
        rows.append(row)
    if not rows:
        return None
    columns = [
        heading for heading in rows[0] if any(row[heading] not in ("", NOT_RUN) for row in rows)
    ]
    texts = [text for word, text in NOTES.items() if any(word in heading for heading in columns)]
    rows = [{heading: row[heading] for heading in columns} for row in rows]
    return page.verdict(rows, read=" ".join(texts))


def _weights(training: Training) -> str:
    by_network = training.weights
    if not by_network:
        return ""
    names = [
        network if isinstance(weights, str) else f"{network} ({weights.key})"
        for network, weights in by_network.items()
    ]
    return f"from given weights of {page.listed(names)}, which all seeds share; "
