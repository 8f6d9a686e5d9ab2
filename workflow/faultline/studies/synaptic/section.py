"""Scores and classes of layers, filters and pulse bands, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.base.columns import CLASSES, PLACE
from faultline.base.columns import transfer as transferred
from faultline.report import canvas, page
from faultline.studies.synaptic import figures as draw
from faultline.studies.synaptic.classes import images_needed, majority
from faultline.studies.synaptic.transfer import moves, pairs

if TYPE_CHECKING:
    from faultline.studies.config import Config

MAX_RANKED_LAYERS = 4

MOST_NAMED = 3  # fragile layers, on the first screen


def chance_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Where a network is no better than chance, so nothing can be scored."""
    for run, part in page.runs(tables["base"]):
        last = canvas.last_epoch(part)
        for images, rows in last[~last["above_chance"]].groupby("images", sort=False):
            text = (
                f"of {page.n(rows, config.ablation.split)}, the network that is not ablated "
                f"classifies {page.span(rows['accuracy'])} correctly "
                f"{'' if images == 'clean' else f'under {images} '}at epoch {rows['epoch'].max()}, "
                f"which is not above chance ({page.percent(rows['chance'].max())}: the commonest "
                f"label). So there is nothing to lose: scores on these images are undefined."
            )
            text = text[0].upper() + text[1:]
            if images != "clean":
                text += f" {lower_eps(tables['accuracy'], rows, config)}."
            yield f"Self-check: at chance, {run}", text


def lower_eps(accuracy: pd.DataFrame, rows: pd.DataFrame, config: Config) -> str:
    """What to lower: the largest smaller eps that was tried and leaves more than chance, in every
    seed; of a stress its severity."""
    images = rows["images"].iloc[0]
    if images in config.ablation.stresses:
        return f"Lower ablation.stresses.{images}, which is {config.ablation.stresses[images]}"
    attack = next(name for name in config.attacks if images in (name, transferred(name)))
    part = canvas.last_epoch(page.of(accuracy, rows))
    part = part[(part["attack"] == attack) & (part["eps"] > 0)]
    part = part[part["eps"] < config.attacks[attack].eps]
    lowest = part.groupby("eps")["ci_low"].min()
    enough = lowest[lowest > rows["chance"].max()]
    key = f"Lower attacks.{attack}.eps"
    if not len(enough):
        return f"{key}; every eps that was tried is too large"
    left = part.loc[part["eps"] == enough.index.max(), "accuracy"]
    return f"{key}: {enough.index.max():g} leaves {page.span(left)} of the test images"


def judged(part: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, str, str]:
    """The rows of the score that judges layers at the last epoch, S_adv where it is defined; what
    that score is, and a sentence where it is not S_adv as asked."""
    part = canvas.last_epoch(part)
    part = part[(part["scope"] == "local") & (part["filter"] == "combined")]
    attack = config.scored_attack
    rows = part[(part["score"] == "S_adv") & (part["attack"] == attack)]
    clean = part[part["score"] == "S_clean"]
    if not config.ablation.attacks:
        return clean, "S_clean", ""
    if rows["value"].isna().all():
        why = "S_adv is undefined here (accuracy under attack is not above chance). "
        return clean, "S_clean", why
    return rows, f"S_adv ({attack})", ""


def of_class(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Layer -> mean score and whether it is of a class, decided in every seed; lowest first."""
    groups = rows.assign(sure=rows["decided"] & (rows["class"] == name)).groupby("layer")
    layers = pd.DataFrame({"mean": groups["value"].mean(), "sure": groups["sure"].all()})
    return layers.sort_values("mean", kind="stable")


def verdict(tables: dict, config: Config) -> dict:
    """How many layers are of each class, decided in every seed."""
    cells: dict[str, str | page.Cell] = dict.fromkeys(
        ("fragile layers", "robust", "antifragile"), ""
    )
    if not len(tables["layers"]):
        return cells
    rows, what, _ = judged(tables["layers"], config)
    for heading in cells if len(rows) else ():
        layers = of_class(rows, heading.removesuffix(" layers"))
        names = list(layers.index[layers["sure"]])
        small = ""
        if heading == "fragile layers":
            named = f": {page.first_of(names, MOST_NAMED)}" if names else ""
            small = f"of {len(layers)} by {what}{named}"
        cells[heading] = page.cell(str(len(names)), small=small, link="classes")
    return cells


def layer_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Which layers are fragile."""
    for run, part in page.runs(tables["layers"]):
        rows, what, prefix = judged(part, config)
        if not len(rows):
            continue
        layers = of_class(rows, "fragile")
        fragile, total = layers[layers["sure"]], len(layers)
        seeds = rows["seed"].nunique()
        every = f"in every one of {seeds} seeds" if seeds > 1 else "in the one seed"
        if len(fragile):
            names = [f"{layer} ({canvas.signed(m)})" for layer, m in fragile["mean"].items()]
            text = (
                f"{len(fragile)} of {total} layers are fragile by {what}, decided {every}, "
                f"the most fragile first: {page.first_of(names, 5)}."
            )
        else:
            lowest = layers["mean"].first_valid_index()
            text = f"No layer of {total} is fragile by {what}, decided {every}"
            if lowest is not None:
                mean = canvas.signed(layers.loc[lowest, "mean"])
                text += f"; the lowest score is that of {lowest} ({mean})"
            text += "."
        yield f"Fragile layers, {run}", prefix + text


def decided_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """How many filters and bands are decided."""
    layers = tables["layers"]
    if not len(layers):
        return
    parts = pd.concat([canvas.last_epoch(part) for _, part in page.runs(layers)])
    parts = parts[(parts["scope"] == "local") & (parts["filter"] == "combined")]
    tested = parts[~parts["class"].isin(["untouched", "undefined"])]
    without = len(parts) - len(tested)
    text = (
        f"{tested['decided'].sum()} of {len(tested)} classes of layers at the last epoch are "
        f"decided ({page.percent(tested['decided'].mean())}): the interval of the score that holds "
        f"for all layers of the network at once lies within the class; each taken alone, "
        f"{tested['decided_alone'].sum()} would be."
    )
    if without:
        text += f" {without} more are untouched or undefined."
    yield "Decided", text


# Sections


def _tau(config: Config, unit: str) -> str:
    tau = getattr(config.classes.tau, unit).dump()
    return ", ".join(f"{score} {tau[score]:g}" for score in ("S_clean", "S_adv", "S_diff"))


def _choices(config: Config, unit: str) -> str:
    return (
        f"Ours: tau ({_tau(config, unit)}) and the baseline ({config.scores.baseline}); "
        f"intervals are at {config.scores.confidence:.0%} over {config.ablation.split} "
        "images."
    )


def against(config: Config) -> str:
    """What scores of layers and bands are compared with, in words."""
    return {
        "unfiltered": "the unfiltered network has",
        "kept_fraction": "the share of weights kept",
        "random": "removing as many weights of the layer at random",
    }[config.scores.baseline]


def _crafted(config: Config) -> str:
    reused = "crafted on the unablated network and reused (transfer)"
    return {
        "ablated": "re-crafted on each ablated network",
        "base": reused,
        "both": f"re-crafted on each ablated network, and beside it {reused}",
    }[config.ablation.target]


def class_maps(tables: dict, config: Config) -> page.Section:
    """Classes of the layers."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        last = canvas.last_epoch(part)
        figure = page.figure(
            draw.class_map(part),
            name=f"classes-{index}",
            alt=f"Classes of the layers of {run}, by score and seed",
            caption=f"Classes at epoch {last['epoch'].max()}, by the mean of the synaptic filters "
            f"(combined). {page.n(last, config.ablation.split)}.",
            read="One cell is one layer of one seed. Strong colours are decided, pale ones with a "
            "question mark are not: their interval, that for all layers at once, reaches into "
            "another class.",
        )
        chosen = last[last["filter"] == "combined"]
        columns = {
            "layer": "layer",
            "score": chosen["score"] + page.suffix(chosen["attack"]),
            "seed": "seed",
            "value": ("value", page.number),
            "interval": ("ci_low", "ci_high", page.bracket),
            "for all at once": ("family_low", "family_high", page.bracket),
            "q-value": ("q_value", page.small),
            "class": "class",
            "decided": ("decided", page.yes),
        }
        table = page.table("The numbers", chosen, columns, source="layers.tsv")
        return page.block(run, figures=[figure], tables=[_ranked(tables, part, config), table])

    return page.Section(
        "classes",
        "The classes at a glance",
        intro="A layer is fragile where removing its weights, threshold by threshold, leaves less "
        f"relative accuracy than {against(config)}, by more than tau; antifragile where it leaves "
        "more; robust between.",
        method="A layer is untouched where no weight or no output changed. S_clean is "
        f"about clean images, S_adv about adversarial ones, {_crafted(config)}; S_diff is their "
        "difference. " + _choices(config, "layers"),
        blocks=page.by_run(tables["layers"], block),
        needs="synaptic_filtering.layers",
    )


def _ranked(tables: dict, part: pd.DataFrame, config: Config) -> page.Table | None:
    """The layers, the most fragile first, each with the filter that costs most."""
    rows, what, _ = judged(part, config)
    filters = page.of(tables["filters"], part)
    if len(filters) and len(rows):
        filters = canvas.last_epoch(filters)
        first = rows.iloc[0]
        filters = filters[(filters[["score", "attack"]] == first[["score", "attack"]]).all(axis=1)]
    ranked = []
    for layer, of in rows.groupby("layer", sort=False):
        name, _ = majority(of.to_dict("records"))
        sure = int((of["decided"].astype(bool) & (of["class"] == name)).sum())
        cell = {"layer": layer, "mean": of["value"].mean(), what: page.span_of_scores(of["value"])}
        cell |= {"class": name, "decided in": f"{sure} of {page.count(of, 'seed')}"}
        if len(filters):
            cell["worst filter alone"] = _worst(filters[filters["layer"] == layer])
        ranked.append(cell)
    table = pd.DataFrame(ranked)
    if not len(table):
        return None
    table = table.sort_values("mean", kind="stable").drop(columns="mean")
    return page.table("Layers, the most fragile first", table, shown=True, source="layers.tsv")


def _worst(filters: pd.DataFrame) -> str:
    """The filter whose removal costs most in any seed."""
    if not filters["value"].notna().any():
        return ""
    row = filters.iloc[filters["value"].argmin()]
    seed = f", seed {row['seed']}" if len(filters["seed"].unique()) > 1 else ""
    sure = "" if row["decided"] else ", not decided"
    return f"{page.number(row['value'])} ({row['filter']}{seed}{sure})"


def transfer(tables: dict, config: Config) -> page.Section:
    """Transfer beside re-crafted attacks, where `ablation.target` is both."""
    title, needs = "Transfer beside re-crafted attacks", "ablation.target"
    if config.ablation.target != "both":
        return page.Section("transfer", title, needs=needs)
    attack = config.retraining.attack
    assert attack  # filled in with the config's check
    confidence = f"{config.scores.confidence:.0%}"
    kinds = (
        ("layers", draw.transfer_by_layer, "A diamond and the dot linked to it are one layer."),
        (
            "bands",
            draw.transfer_by_band,
            "A dot is one band: its edge has the colour of the class under transfer, its inside "
            "that of the class when re-crafted. Intervals are cut off at the edge of the panel.",
        ),
    )

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        parts = {unit: page.of(tables[unit], part) for unit, *_ in kinds}
        last = {unit: canvas.last_epoch(rows) for unit, rows in parts.items() if len(rows)}
        figures, counts = [], []
        for unit, figure, read in kinds:
            if unit not in last or not len(both := pairs(last[unit], attack)):
                continue
            figures.append(
                page.figure(
                    figure(both),
                    name=f"transfer-{index}-{unit}",
                    alt=f"S_adv of the {unit} of {run} under transfer and re-crafted",
                    caption=f"S_adv ({attack}) of {len(both)} {unit} at epoch "
                    f"{both['epoch'].max()}, counted over seeds. "
                    f"{page.n(both, config.ablation.split)}; {confidence} intervals.",
                    read=read,
                )
            )
        for name in config.ablation.attacks or []:
            for unit, table in last.items():
                counts.append(moves(pairs(table, name)).assign(unit=unit, attack=name))
        columns = {"attack": "attack", "of": "unit", "under transfer": "transfer", "n": "units"}
        columns |= {name: name for name in CLASSES}
        table = page.table(
            "Classes under transfer (rows) and when re-crafted (columns), counted over seeds",
            pd.concat(counts),
            columns,
            shown=True,
        )
        return page.block(run, figures=figures, tables=[table])

    return page.Section(
        "transfer",
        title,
        intro="Adversarial images that were crafted on the unablated network fit the ablated one "
        "less, so a layer may look robust or antifragile because the attack has missed. Here the "
        "same networks are judged on such images (transfer) and on images re-crafted on each of "
        "them.",
        method=_choices(config, "layers"),
        blocks=page.by_run(tables["layers"], block),
        needs="synaptic_filtering.layers",
    )


def threshold_curves(tables: dict, config: Config) -> page.Section:
    """Accuracy over the thresholds."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        last = canvas.last_epoch(part)
        count = last["layer"].nunique()
        notes = []
        if count > draw.MAX_PANELS:
            notes.append(
                f"Of {count} panels the {draw.MAX_PANELS} whose accuracy falls most are shown; all "
                "are in curves.tsv."
            )
        if not (last["scope"] == "global").any():
            notes.append("There is no global sweep in this run (synaptic_filtering.global).")
        several = len(last["seed"].unique()) > 1
        band = "band: range over seeds" if several else "one seed, so no band"
        figure = page.figure(
            draw.threshold_curves(part),
            name=f"thresholds-{index}",
            alt=f"Accuracy over the threshold of the synaptic filters, by layer, for {run}",
            caption=f"Accuracy under synaptic filters at epoch {last['epoch'].max()}. "
            f"{page.n(last, config.ablation.split)}; line: mean over seeds; {band}.",
            read="The threshold goes from the layer's smallest weight (0) to its largest (1). "
            "high_pass removes all weights up to it, low_pass all from it on, pulse those around "
            "it. A layer whose lines stay on the dotted base accuracy is not missed.",
        )
        return page.block(run, figures=[figure], notes=notes)

    return page.Section(
        "thresholds",
        "Threshold curves",
        intro="What the scores are computed from: accuracy while the weights of one layer are "
        "removed. The global sweep filters all layers at once, over one range of weights.",
        blocks=page.by_run(tables["curves"], block),
        needs="synaptic_filtering.layers",
    )


def score_maps(tables: dict, config: Config) -> page.Section:
    """Scores of the layers over checkpoints."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        notes = []
        if len(part["epoch"].unique()) == 1:
            notes.append("There is one checkpoint epoch only, so nothing develops here.")
        if (undefined := (part["class"] == "undefined").mean()) > 0:
            notes.append(
                f"{page.percent(undefined)} of the scores are undefined: the accuracy of the "
                "unablated network is not above chance there."
            )
        figure = page.figure(
            draw.score_map(part),
            name=f"scores-{index}",
            alt=f"Scores of the layers of {run} at every checkpoint epoch",
            caption="Scores (combined over the synaptic filters), mean over seeds. "
            f"{page.n(part, config.ablation.split)}.",
            read="Orange: the filtered layer leaves less relative accuracy than "
            f"{against(config)}; blue: more; both colours share one scale, centred at 0. S_diff: "
            "less on adversarial images than on clean ones.",
        )
        return page.block(run, figures=[figure], notes=notes)

    return page.Section(
        "scores",
        "Scores over layers and epochs",
        intro="How the score of each layer develops as the network trains.",
        method=_choices(config, "layers"),
        blocks=page.by_run(tables["layers"], block),
        needs="synaptic_filtering.layers",
    )


def baselines(tables: dict, config: Config) -> page.Section:
    """What the baseline changes."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block | None:
        last = canvas.last_epoch(part)
        last = last[last["scope"] == "local"]
        if not last["value"].notna().any():
            return None
        layers = last["layer"].nunique()
        figure = page.figure(
            draw.fragile_over_tau(last, tau=config.classes.tau.layers.dump()),
            name=f"baselines-{index}",
            alt=f"Number of fragile layers of {run} over tau, by baseline",
            caption=f"How many of {layers} layers are fragile at epoch {last['epoch'].max()} "
            f"(combined over the synaptic filters), mean over seeds. "
            f"{page.n(last, config.ablation.split)}; line: decided, thin: by the score alone.",
            read="unfiltered: below the network that nothing is removed from. kept_fraction: below "
            "the share of weights that is kept. random: below what is left when as many weights "
            "of the layer, drawn at random, are removed, so these very weights matter more than "
            "their number. Dotted: the tau of this run.",
        )
        return page.block(run, figures=[figure])

    return page.Section(
        "baselines",
        "Fragile, compared with what",
        intro="Nearly every layer loses accuracy as all of its weights are removed step by step. "
        "Which layers count as fragile depends on what that is compared with, and on tau. Classes "
        f"of layers and bands elsewhere are against the baseline {config.scores.baseline}.",
        blocks=page.by_run(tables["baselines"], block),
        needs="synaptic_filtering.layers",
    )


def with_needed(tables: dict, part: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Rows of filters or bands with a column `needed`: the images that it takes to decide any that
    is robust. NaN where there is nothing to decide."""
    images = part["attack"].where(part["score"] != "S_clean", "clean")
    base = tables["base"].rename(columns={"accuracy": "base_accuracy"})
    of = ["images", "base_accuracy", *PLACE]
    part = part.assign(images=images).merge(base[of], "left", on=["images", *PLACE])
    needed = images_needed(
        part["tau"],
        accuracy=part["base_accuracy"],
        compared=part["compared"],
        confidence=config.scores.confidence,
    )
    asked = ~part["class"].isin(["untouched", "undefined"]) & (part["score"] != "S_diff")
    return part.assign(needed=np.where(asked, needed, np.nan))


def _too_few(part: pd.DataFrame, what: str, *, least: str = "about") -> list[str]:
    """What is said once where there are fewer images than it takes; part: as `_with_needed`."""
    few = part[part["needed"] > part["n"]]
    if not len(few):
        return []
    said = []
    for _, rows in few.groupby(["score", "attack"], sort=False):
        needed = rows["needed"].max()
        count = f"{least} {rounded(needed):,}" if np.isfinite(needed) else "more than any number"
        score = rows["score"] + page.suffix(rows["attack"])
        said.append(f"{count} for {score.iloc[0]}")
    return [
        f"{what} need more images here: {', '.join(said)}; {few['n'].max():,} are "
        "judged: with fewer, not even one that changes nothing is decided as robust, as the "
        f"interval for all {few['compared'].max()} at once is wider than tau. So those that are "
        "not decided are shown without a class."
    ]


def rounded(number: float) -> int:
    """A whole number to two digits, upwards."""
    step = 10 ** max(int(np.log10(number)) - 1, 0)
    return int(np.ceil(number / step) * step)


def filter_rankings(tables: dict, config: Config) -> page.Section:
    """Filters by what their removal costs."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        last = with_needed(tables, canvas.last_epoch(part), config)
        names = list(dict.fromkeys(last["layer"]))
        notes, figures = _too_few(last, "Single filters"), []
        if len(names) > MAX_RANKED_LAYERS:
            notes.append(
                f"The first {MAX_RANKED_LAYERS} of {len(names)} layers are shown; all are in "
                "filters.tsv."
            )
        for layer in names[:MAX_RANKED_LAYERS]:
            of_layer = last[last["layer"] == layer]
            count = of_layer["filter"].nunique()
            unit = page.unit(tables, part, layer)
            if count > draw.MAX_FILTERS:
                notes.append(
                    f"{layer} has {count} {unit}s: the {draw.MAX_FILTERS // 2} lowest and the "
                    f"{draw.MAX_FILTERS // 2} highest by S_clean are shown."
                )
            figures.append(
                page.figure(
                    draw.filter_ranking(of_layer, unit=unit),
                    name=f"filters-{index}-{layer}",
                    alt=f"{unit.capitalize()}s of {layer} of {run}, ranked by S_clean",
                    caption=f"{layer}: its {count} {unit}s at epoch {last['epoch'].max()}, one "
                    f"removed at a time. {page.n(of_layer, config.ablation.split)}; bars: "
                    f"{config.scores.confidence:.0%} intervals over images, paired; thin: "
                    f"for all {unit}s of the layer at once.",
                    read="Left is what the network misses most. The panels of one row share their "
                    "order, so a matching slope means that clean and adversarial accuracy depend "
                    f"on the same {unit}s. Hollow markers are not decided.",
                )
            )
        return page.block(run, figures=figures, notes=notes, folded=True)

    return page.Section(
        "filters",
        "Filters ranked",
        intro="Nodal dropout: each filter of a layer removed on its own "
        f"(at: {config.nodal_dropout.at}). The score is the relative change of accuracy.",
        method=f"Ours: tau ({_tau(config, 'filters')}).",
        blocks=page.by_run(tables["filters"], block),
        needs="nodal_dropout.layers",
    )


def band_splits(tables: dict, config: Config) -> page.Section:
    """Classes of the pulse bands."""
    attack = config.scored_attack

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block | None:
        last = canvas.last_epoch(part)
        chosen = last[(last["score"] == "S_adv") & (last["attack"] == attack)]
        if not len(chosen):
            return None
        chosen = with_needed(tables, chosen, config)
        if chosen["value"].isna().all():
            note = (
                f"S_adv ({attack}) is undefined: the accuracy of the unablated network under it "
                "is not above chance."
            )
            return page.block(run, notes=[note])
        figure = page.figure(
            draw.band_split(chosen, score="S_adv", attack=attack),
            name=f"bands-{index}",
            alt=f"Share of each layer's weights by class of their pulse band, for {run}",
            caption=f"Weights by the class of their pulse band at epoch {last['epoch'].max()}, "
            f"S_adv ({attack}). {page.n(chosen, config.ablation.split)}.",
            read="A bar is one layer, its parts the shares of its non-zero weights that lie in "
            "bands of each class; the few weights between two neighbouring bands are left out.",
        )
        notes = _too_few(chosen, "Single bands", least="at least")
        return page.block(run, figures=[figure], notes=notes)

    return page.Section(
        "bands",
        "Parameters by pulse band",
        intro="A weight takes the class of the pulse band that it lies in, so a layer splits into "
        "fragile, robust and antifragile parameters (ours).",
        method=_choices(config, "bands"),
        blocks=page.by_run(tables["bands"], block),
        needs="synaptic_filtering.filters",
    )


def invariance(tables: dict, config: Config) -> page.Section:
    """How far classes agree over seeds and checkpoints."""
    table, blocks = tables["invariance"], []
    if len(table):
        table = table.assign(
            said=table["score"] + page.suffix(table["attack"]), note=table["note"].fillna("")
        )
        columns = {
            "network": "network",
            "synaptic filter": "filter",
            "score": "said",
            "over": "over",
            "keep their class": ("unchanged", page.percent),
            "pairs agree": ("agreement", page.percent),
            "kappa": ("kappa", page.number),
            **page.same("units", "raters"),
            "left out": "dropped",
            "note": "note",
        }
        combined = table["filter"] == "combined"
        few = {k: v for k, v in columns.items() if k != "synaptic filter"}
        title, source = "Combined over the synaptic filters", "invariance.tsv"
        main = page.table(title, table[combined], few, shown=True, source=source)
        rest = page.table("Each synaptic filter", table[~combined], columns, source=source)
        blocks.append(page.block("", tables=[main, rest]))
    return page.Section(
        "invariance",
        "Invariance",
        intro="How far layers keep their class when only the seed, the epoch or the data set "
        "changes, and across networks, where layers are matched by kind and relative depth (ours).",
        method="A unit is a layer with everything else held fixed, the raters are what changes; "
        "kappa (Fleiss) is agreement beyond chance, 1 at best, 0 as by chance. Classes that are "
        "not decided count like others here.",
        blocks=blocks,
        needs="synaptic_filtering.layers, seeds, trainings.*.epochs",
    )
