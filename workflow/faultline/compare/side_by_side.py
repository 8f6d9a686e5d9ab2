"""Two finished runs on one page, and as tables."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from faultline.base.columns import RUN
from faultline.base.errors import UserError, printable
from faultline.compare import differences as between
from faultline.compare.differences import FIRST, SECOND
from faultline.compare.finished import Finished, finished
from faultline.compare.listing import fragile
from faultline.report import canvas, page
from faultline.report.comparison import policy_comparison, summary, untold
from faultline.report.pairs import class_pairs, dumbbells
from faultline.report.render import filled

MAX_TRAININGS = 8  # told one by one, else counted
MAX_CHECKPOINTS = 24  # drawn together, else the last of each training
MAX_KEYS, MAX_NAMES = 4, 6  # named in a sentence
MAX_VALUES = 40  # characters of two values that are told beside their key

DESCRIBED = {
    "config": "keys of the config that differ, and versions of packages",
    "accuracy": "accuracies of both runs, side by side",
    "differences": "accuracy of the second run minus the first, with intervals",
    "layers": "classes of layers that changed",
    "filters": "classes of filters that changed",
    "classes": "layers and filters in each pair of classes",
    "costs": "what the jobs of each rule took",
    "only_in_one": "data sets, networks, trainings, seeds, epochs, attacks that one run lacks",
}


def two_runs(folders) -> tuple[Finished, Finished]:
    """The runs in two folders. UserError where they are one, or one is none."""
    first, second = map(finished, folders)
    if first.folder.resolve() == second.folder.resolve():
        raise UserError(f"{first.folder}: is given twice; name two runs")
    return first, second


def names_of(first: Finished, second: Finished) -> tuple[str, str]:
    """What to call two runs: their folders, without what both begin and end with."""
    folders = [run.folder.resolve() for run in (first, second)]
    above = os.path.commonpath([folder.parent for folder in folders])
    parts = [folder.relative_to(above).parts for folder in folders]
    while min(map(len, parts)) > 1 and parts[0][-1] == parts[1][-1]:
        parts = [names[:-1] for names in parts]
    first_name, second_name = (printable("/".join(names)) for names in parts)
    return first_name, second_name


def compared_tables(first: Finished, second: Finished) -> dict[str, pd.DataFrame]:
    """The tables of `DESCRIBED`; columns and values "first" and "second" are the runs."""
    classes = {unit: between.classes(first, second, unit) for unit in between.UNITS}
    counts = [
        between.class_counts(_headline(pairs)).assign(unit=unit) for unit, pairs in classes.items()
    ]
    return {
        "config": between.config_differences(first, second),
        "accuracy": between.accuracies(first, second),
        "differences": between.accuracy_differences(first, second),
        "layers": between.changed(classes["layers"]),
        "filters": between.changed(classes["filters"]),
        "classes": pd.concat(counts, ignore_index=True),
        "costs": between.costs(first, second),
        "only_in_one": between.only_in_one(first, second),
    }


def _headline(pairs: pd.DataFrame) -> pd.DataFrame:
    """Of classes of layers those that the report's maps show: each layer once."""
    if "scope" not in pairs or not len(pairs):
        return pairs
    return pairs[(pairs["scope"] == "local") & (pairs["filter"] == "combined")]


def compared_page(
    first: Finished,
    second: Finished,
    tables: dict[str, pd.DataFrame],
    *,
    folder: Path,
    template: str,
    **parts,
) -> str:
    """The page as HTML; tables: of `compared_tables`; folder: where they lie; template, parts: see
    `report.render.filled`."""
    names = names_of(first, second)
    accuracies = [*_accuracy_findings(tables["differences"], first)]
    verdict = _verdict(tables, (first, second))
    sections = [
        replace(_accuracy(tables, first, second, names), findings=_in_full(accuracies)),
        _classes(tables, names),
        _config(tables["config"], names),
        _costs(tables["costs"], names),
        _alone(tables["only_in_one"], names),
    ]
    configs = {name: run.config for name, run in zip(names, (first, second), strict=True)}
    seeds = sorted({*first.config["seeds"], *second.config["seeds"]})
    return filled(
        template,
        title=f"faultline: {names[0]} and {names[1]}",
        what=f"Two runs side by side: {names[0]} (ended {first.ended()}) and {names[1]} (ended "
        f"{second.ended()}, UTC). Differences are {names[1]} minus {names[0]}. Checkpoints are "
        "matched by data set, network, training, seed and epoch, and judged under attacks of the "
        "same name and eps.",
        verdict=verdict,
        findings=_findings(tables, names, () if verdict else accuracies),
        sections=[section for section in sections if section.blocks],
        config=yaml.safe_dump(configs, sort_keys=False),
        seeds=page.listed(seeds),
        tables=[(f"{folder}/{name}.tsv", text) for name, text in DESCRIBED.items()],
        **parts,
    )


def in_words(first: Finished, second: Finished, tables: dict[str, pd.DataFrame]) -> str:
    """What the top of the page says, for a terminal."""
    accuracies = _accuracy_findings(tables["differences"], first)
    findings = _findings(tables, names_of(first, second), accuracies)
    return "\n".join(f"{heading}: {text}" for heading, text in findings)


def _verdict(tables: dict[str, pd.DataFrame], both: tuple[Finished, Finished]) -> page.Table | None:
    """The first screen: what became of each training at the last epoch that both runs have."""
    rows, level = [], 1 - both[0].config["scores"]["confidence"]
    for name, part in page.runs(tables["differences"]):
        last = canvas.last_epoch(part)
        whole = last[last["level"] == "all seeds"]
        attacked = whole[whole["images"] != "clean"]
        cells = {
            "network": page.cell(name, small=f"epoch {last['epoch'].max()}, {page.n(last)}"),
            "clean": _changed_cell(last[last["images"] == "clean"], level=level),
            "under the worst attack": "",
        }
        if len(attacked):
            worst = attacked.loc[attacked["reference_accuracy"].idxmin(), "images"]
            cells["under the worst attack"] = _changed_cell(
                last[last["images"] == worst], worst, level=level
            )
        counts = [fragile(page.of(run.table("layers"), last), run.config) for run in both]
        if any(counts):
            cells["fragile layers"] = _fragile_cell(*counts)
        rows.append(cells)
    if not rows or len(rows) > MAX_TRAININGS:
        return None
    return page.verdict(
        rows,
        read="Accuracy of the second run minus the first, in points, mean over seeds, with the "
        "interval over seeds, of one seed over images; better and worse only where the corrected "
        "q-value tells the runs apart. Worst: the attack at its eps that leaves the first run "
        "least. Fragile layers: decided in every seed, as each run's report says, at its own last "
        "epoch and by its own thresholds.",
    )


def _fragile_cell(first: dict, second: dict) -> page.Cell:
    """How many layers are fragile in either run, see `listing.fragile`."""
    told = [f"{of['fragile']} of {of['layers']}" if of else "none judged" for of in (first, second)]
    scores = page.listed(dict.fromkeys(of["score"] for of in (first, second) if of))
    return page.cell(" to ".join(dict.fromkeys(told)), small=f"by {scores}", link="classes")


def _changed_cell(rows: pd.DataFrame, where: str = "", *, level: float) -> page.Cell | str:
    """The difference on one image set."""
    if not len(rows):
        return ""
    row, ends, said = summary(rows, level=level)
    before, after = page.percent(row["reference_accuracy"]), page.percent(row["accuracy"])
    if untold(said):
        small = [f"{before} to {after}", said, where]
        return page.cell("cannot tell", small=", ".join(filter(None, small)), link="accuracy")
    small = [f"{before} to {after}", page.interval(*ends), said, where]
    tone = {"better": "yes", "worse": "no"}.get(said.split()[0], "")
    return page.cell(
        f"{page.points(row['difference'])} points",
        small=", ".join(filter(None, small)),
        link="accuracy",
        tone=tone,
    )


def _findings(tables: dict, names: tuple[str, str], accuracies) -> Iterator[tuple[str, str]]:
    """All that is found; accuracies: of `_accuracy_findings`, or none."""
    yield "Config", _config_words(tables["config"])
    yield from accuracies
    counts = tables["classes"]
    for unit, part in counts.groupby("unit", sort=False):
        moved = part[part[FIRST] != part[SECOND]]
        text = f"of {part['count'].sum():,} (each score, seed and checkpoint) changed"
        if len(moved):
            sure = moved["decided"].sum()
            text = f"{moved['count'].sum():,} {text}, {f'{sure:,}' if sure else 'none'} of them "
            yield f"Classes of {unit}", f"{text}decided in both runs."
        else:
            yield f"Classes of {unit}", f"None {text}."
    if not len(counts):
        yield "Classes", "No layer and no filter was classified in both runs."
    for row in tables["costs"].tail(1).to_dict("records"):
        spent = [row[f"cpu_seconds_{which}"] for which in (FIRST, SECOND)]
        if not np.isnan(spent).any():
            text = f"The jobs took {spent[0]:,.0f} and {spent[1]:,.0f} CPU seconds"
            text += f" ({spent[1] / spent[0]:.2f} times)."
            kept = [row[f"found_{which}"] for which in (FIRST, SECOND)]
            if any(kept):
                text += f" The work of {kept[0]:,.0f} and {kept[1]:,.0f} jobs was kept from before."
            yield "Costs", text
    if len(tables["only_in_one"]):
        yield "Only in one run", _alone_words(tables["only_in_one"], names)


def _in_full(findings: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Findings that are there to be opened."""
    return [(heading, "", text) for heading, text in findings]


def _accuracy_findings(rows: pd.DataFrame, first: Finished) -> Iterator[tuple[str, str]]:
    trainings = [*page.runs(rows)]
    for name, part in trainings if len(trainings) <= MAX_TRAININGS else ():
        yield f"Accuracy, {name}", _accuracy_words(canvas.last_epoch(part), first)
    if len(trainings) > MAX_TRAININGS:
        yield "Accuracy", f"That of {len(trainings)} trainings is in the figures below."
    if not len(rows):
        yield "Accuracy", "There is nothing to compare: no checkpoint is in both runs."


def _accuracy_words(last: pd.DataFrame, first: Finished) -> str:
    """What became of each image set at one epoch, in the order of the rows."""
    paired = "paired image by image" if last["paired"].all() else "unpaired"
    start = f"At epoch {last['epoch'].max()} ({page.n(last)}, {paired}) "
    equal, left = _equal(last), []
    if len(equal) == last["images"].nunique():
        return start + f"both runs have the same accuracy, {_where(equal)}."
    texts, unsure = [], []
    for images, rows in last[~last["images"].isin(equal)].groupby("images", sort=False):
        row, ends, said = summary(rows, level=1 - first.config["scores"]["confidence"])
        if untold(said):
            left.append(f"{said} {_where([images])}")
            continue
        by = page.points(row["difference"])
        if said == "not told apart":
            unsure.append(f"{_where([images])} ({by} points)")
            continue
        before, after = page.percent(row["reference_accuracy"]), page.percent(row["accuracy"])
        by += f" points {page.interval(*ends)}"
        if not np.isnan(row["q_value"]):
            by += f", q = {page.small(row['q_value'])}"
        texts.append(f"the second is {said} {_where([images])}: {before} to {after}, {by}")
    if unsure:
        texts.append(f"the runs are not told apart {page.listed(unsure)}")
    if equal:
        texts.append(f"both have the same accuracy {_where(equal)}")
    return start + "; ".join([*texts, *left]) + "."


def _where(images: Iterable[str]) -> str:
    """On which image sets, in words."""
    return page.listed("on clean images" if one == "clean" else f"under {one}" for one in images)


def _equal(rows: pd.DataFrame) -> list[str]:
    """The image sets on which no accuracy of these rows differs and no image is known to."""
    differs = rows["difference"].ne(0) | rows["changed"].fillna(0).gt(0)
    some = set(rows.loc[differs, "images"])
    return [images for images in dict.fromkeys(rows["images"]) if images not in some]


def _config_words(config: pd.DataFrame) -> str:
    keys = list(config["key"])
    if not keys:
        return "The configs are the same, and so are the versions of packages."
    more = f" and {len(keys) - MAX_KEYS} more" if len(keys) > MAX_KEYS else ""
    verb = "differs" if len(keys) == 1 else "differ"
    named = [
        f"{key} ({one} to {other})" if len(f"{one}{other}") <= MAX_VALUES else key
        for key, one, other in config[["key", FIRST, SECOND]].head(MAX_KEYS).to_numpy().tolist()
    ]
    return f"{page.count(keys, 'key')} {verb}: {page.listed(named)}{more}."


def _config(config: pd.DataFrame, names: tuple[str, str]) -> page.Section:
    columns = {"key": "key", names[0]: FIRST, names[1]: SECOND}
    table = page.table("Keys that differ", config, columns, shown=True, source="config.tsv")
    return page.Section(
        "config",
        "Config differences",
        intro="Keys whose values differ, every default filled in; lists are compared as a whole. "
        "not set: the run has no such key.",
        blocks=[page.block("", tables=[table])] if table else [],
    )


def _accuracy(tables, first: Finished, second: Finished, names: tuple[str, str]) -> page.Section:
    rows, blocks = tables["differences"], []
    for dataset, part in rows.groupby("dataset", sort=False):
        part, left_out = _drawn(part)
        notes = [_images_words(first, second, dataset, part), *_set_otherwise(tables, part)]
        if left_out:
            notes.append("Drawn are the last common checkpoints; the table has all.")
        if equal := _equal(part):
            notes.append(f"Not drawn, as both runs have the same accuracy: {_where(equal)}.")
            part = part[~part["images"].isin(equal)]
        figures = [
            figure
            for index, labels in enumerate(_alike(part))
            for figure in _figures(part[part["label"].isin(labels)], names, f"{dataset}-{index}")
        ]
        blocks.append(
            page.block(
                dataset,
                figures=figures,
                notes=notes,
                tables=_tables(rows[rows["dataset"] == dataset], names),
            )
        )
    return page.Section(
        "accuracy",
        "Accuracies",
        intro=f"Test accuracy of {names[1]} set against {names[0]}, clean and under each attack at "
        "the eps that either run sets it to, crafted on the very network that it is tried on.",
        method="Intervals over images are those of Agresti & Min (2005) where paired, else "
        "of Newcombe (1998); over seeds Student's t. p-values (McNemar's, Fisher's, t) are "
        "corrected (Benjamini-Hochberg) for all comparisons of a kind on this page.",
        blocks=blocks,
    )


def _drawn(part: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The rows to draw, with a label for each checkpoint, and whether others are left out."""
    several = len(set(part["training"])) > 1
    labels = part["network"] + (" · " + part["training"] if several else "")
    labels += ", epoch " + part["epoch"].astype(str)
    part = part.assign(label=labels)
    if labels.nunique() <= MAX_CHECKPOINTS:
        return part, False
    return pd.concat(canvas.last_epoch(rows) for _, rows in part.groupby(RUN, sort=False)), True


def _alike(part: pd.DataFrame) -> list[list[str]]:
    """Labels of checkpoints that were judged on the same image sets."""
    groups: dict[tuple, list[str]] = {}
    for label, rows in part.groupby("label", sort=False):
        groups.setdefault(tuple(sorted(set(rows["images"]))), []).append(label)
    return list(groups.values())


def _figures(part: pd.DataFrame, names: tuple[str, str], name: str) -> list[page.Figure]:
    labels = list(dict.fromkeys(part["label"]))
    whole = part[part["level"] == "all seeds"]
    ns = whole.groupby("label")["n"].min()
    seeds = whole.groupby("label")["seeds"].min()
    notes = {
        label: f"{page.count(range(seeds[label]), 'seed')}, n = {ns[label]}" for label in labels
    }
    how = "paired, image by image" if part["paired"].all() else "unpaired where notes say so"
    accuracies = page.figure(
        dumbbells(whole, names=names),
        name=f"dumbbells-{name}",
        alt=f"Accuracies of {names[0]} and {names[1]}, joined by lines",
        caption=f"Test accuracy in both runs, mean over seeds. {page.n(part)}.",
        read="The longer the line, the larger the difference; whether it is more than chance, the "
        "next figure says.",
    )
    intervals = page.figure(
        policy_comparison(
            part.assign(policy=part["label"]),
            notes=notes,
            policies=labels,
            reference=_short(names[0]),
        ),
        name=f"differences-{name}",
        alt=f"Accuracy of {names[1]} minus that of {names[0]}, with intervals",
        caption=f"Accuracy of {names[1]} minus that of {names[0]}. {page.n(part)}; dot: one seed "
        f"with its interval over images ({how}); diamond: mean over seeds with its t interval (an "
        "arrow where it leaves the axis).",
        read=f"Right of the line {names[1]} is better. An interval that reaches over the line does "
        "not tell the runs apart. Intervals are not corrected for the number of comparisons.",
    )
    return [accuracies, intervals]


def _short(name: str) -> str:
    """What stands below axes that are side by side."""
    return name if len(name) <= 14 else "the first"


def _images_words(first: Finished, second: Finished, dataset: str, part: pd.DataFrame) -> str:
    """Why differences are paired or not."""
    one, other = (run.test_images(dataset) for run in (first, second))
    if one is None or other is None:
        lacks = first if one is None else second
        return (
            f"Unpaired: {lacks.folder}/{dataset}/data.pt is not there, so whether the test images "
            "are the same cannot be told."
        )
    if one != other:
        return "Unpaired: the runs judged on different test images."
    if not part["paired"].all():
        return (
            "The test images are the same, but of some checkpoints what became of each image is "
            "no longer stored (correct.npz): these are unpaired."
        )
    return f"Paired: the test images are the same (SHA-256 {one[:12]})."


def _set_otherwise(tables, part: pd.DataFrame) -> Iterator[str]:
    """What goes by one name in both runs, but is not the same."""
    attacks = {name.split(",")[0] for name in part["images"]}
    named = {"datasets": set(part["dataset"]), "trainings": set(part["training"])}
    named["attacks"] = attacks
    keys = [
        key
        for key in tables["config"]["key"]
        for kind, *rest in [key.split(".")]
        if kind in named and len(rest) > 1 and rest[0] in named[kind] and rest[-1] != "eps_grid"
    ]
    if keys:
        yield f"Of the same name, but set differently: {page.listed(keys)}."


def _tables(rows: pd.DataFrame, names: tuple[str, str]) -> list[page.Table | None]:
    over_images = {
        "over images": ("image_ci_low", "image_ci_high", page.interval),
        "seeds": "seeds",
    }
    tables = []
    for title, level, own in (
        ("Mean over seeds", "all seeds", over_images),
        ("Seed by seed", "seed", {"seed": "seed"}),
    ):
        columns = {
            **page.same("network", "training", "epoch", "images"),
            names[0]: ("reference_accuracy", page.percent),
            names[1]: ("accuracy", page.percent),
            "difference (points)": ("difference", page.points),
            "interval": ("ci_low", "ci_high", page.interval),
            **own,
            "p": ("p_value", page.small),
            "corrected": ("q_value", page.small),
            "detectable": ("detectable", page.detectable),
            "images that changed": ("changed", _whole),
            "n": "n",
            "paired": ("paired", page.yes),
        }
        of_level = rows[rows["level"] == level].sort_values([*RUN, "epoch"], kind="stable")
        tables.append(page.table(title, of_level, columns, source="differences.tsv"))
    return tables


def _classes(tables, names: tuple[str, str]) -> page.Section:
    blocks = []
    for unit, counts in tables["classes"].groupby("unit", sort=False):
        panels = counts.assign(panel=counts["score"] + page.suffix(counts["attack"]))
        moved = set(panels.loc[panels[FIRST] != panels[SECOND], "panel"])
        of_panel = panels.groupby("panel", sort=False)["count"].sum()
        still = [f"{panel} ({n:,})" for panel, n in of_panel.items() if panel not in moved]
        notes = [f"No class changed by {page.listed(still)}."] if still else []
        if not moved:
            blocks.append(page.block(unit.capitalize(), notes=notes))
            continue
        figure = page.figure(
            class_pairs(panels[panels["panel"].isin(moved)], names=names),
            name=f"classes-{unit}",
            alt=f"How many {unit} are in each pair of classes",
            caption=f"Classes of {unit} in both runs, all common checkpoints together; in brackets "
            "how many were decided in both.",
            read="Off the diagonal the class changed. Where it was not decided in both runs, that "
            "may be chance.",
        )
        changed = _headline(tables[unit])
        columns = [c for c in between.UNITS[unit] if c != "dataset" or len(set(changed[c])) > 1]
        shown: dict[str, Any] = dict(zip(columns, columns, strict=True))
        for name, which in zip(names, (FIRST, SECOND), strict=True):
            shown |= {
                name: [
                    f"{kind}{'' if decided else ' (not decided)'}"
                    for kind, decided in zip(
                        changed[f"class_{which}"], changed[f"decided_{which}"], strict=True
                    )
                ],
                f"score, {name}": (f"value_{which}", page.number),
                f"interval, {name}": (
                    f"family_low_{which}",
                    f"family_high_{which}",
                    page.bracket,
                ),
            }
        title = f"{page.count(changed, 'class').replace('classs', 'classes')} that changed"
        table = page.table(title, changed, shown, source=f"{unit}.tsv")
        blocks.append(page.block(unit.capitalize(), figures=[figure], notes=notes, tables=[table]))
    return page.Section(
        "classes",
        "Classes that changed",
        intro="Layers and filters of the checkpoints that both runs have, each judged by its run's "
        "own thresholds. Counted and listed of layers is the mean over the synaptic filters; "
        "layers.tsv has those that changed by each filter, too.",
        blocks=blocks,
    )


def _costs(costs: pd.DataFrame, names: tuple[str, str]) -> page.Section:
    def tenth(value):
        return "" if np.isnan(value) else f"{value:,.1f}"

    columns: dict[str, Any] = {"rule": "rule"}
    for column, heading, write in (
        ("jobs", "jobs", _whole),
        ("found", "found", _whole),
        ("cpu_seconds", "CPU seconds", tenth),
        ("seconds", "seconds", tenth),
        ("gpu_seconds", "GPU seconds", tenth),
        ("peak_mb", "peak MB", _whole),
    ):
        for name, which in zip(names, (FIRST, SECOND), strict=True):
            if column not in ("found", "gpu_seconds") or costs[f"{column}_{which}"].any():
                columns[f"{heading}, {name}"] = (f"{column}_{which}", write)
    table = page.table("What the jobs took", costs, columns, shown=True, source="costs.tsv")
    return page.Section(
        "costs",
        "Costs",
        intro="Added up over the jobs of each rule, from what each noted beside its log the last "
        "time that it ran (peak MB: the largest). Seconds by the clock grow with what else the "
        "machine did; jobs that ran beside each other are counted each. Found: jobs whose work was "
        "kept from before, which cost next to nothing.",
        blocks=[page.block("", tables=[table])] if table else [],
    )


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}"


def _alone(alone: pd.DataFrame, names: tuple[str, str]) -> page.Section:
    where = dict(zip((FIRST, SECOND), names, strict=True))
    columns = {"what": "what", "name": "name", "only in": alone["only_in"].map(where)}
    table = page.table(
        "Without a counterpart", alone, columns, shown=True, source="only_in_one.tsv"
    )
    return page.Section(
        "alone",
        "Only in one run",
        intro="What is under the accuracies of one run and nowhere under those of the other.",
        blocks=[page.block("", tables=[table])] if table else [],
    )


def _alone_words(alone: pd.DataFrame, names: tuple[str, str]) -> str:
    where = dict(zip((FIRST, SECOND), names, strict=True))
    texts = [
        f"{where[which]} alone has "
        + ", ".join(
            f"{what} {page.listed(part['name'])}"
            if len(part) <= MAX_NAMES
            else page.count(part, what)
            for what, part in rows.groupby("what", sort=False)
        )
        for which, rows in alone.groupby("only_in", sort=False)
    ]
    return "; ".join(texts) + "."
