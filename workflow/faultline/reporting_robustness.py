"""The report's section that compares trainings, and what regularising layers adds. No torch."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from faultline import page, plots, plots_robustness
from faultline.checks import WEAKEST_FIRST
from faultline.plots_robustness import SCORE

TABLES = {
    "robustness": "accuracy and R&G score of every training over seeds, beside published numbers",
    "robustness_differences": "regularised trainings less their bases, over seeds",
    "tuning": "every candidate of the searches for settings, on the validation split",
}


def sections(tables: dict[str, pd.DataFrame], config: dict) -> list[dict]:
    """The section, as a list; empty where there is but one training and no published number."""
    table = tables["robustness"]
    if not len(table):
        return []
    if table["training"].nunique() < 2 and table["published"].isna().all():
        return []
    confidence, blocks = config["scores"]["confidence"], []
    for index, (name, part) in enumerate(_runs(table)):
        part = plots.last_epoch(part)
        changes = _of(tables["robustness_differences"], part)
        seeds, attacks = int(part["seeds"].max()), _weakest_first(part, config)
        over = f"{confidence:.0%} intervals over {seeds} seeds (Student's t)"
        n = f"n = {int(part['n'].iloc[0]):,} test images, {page.count(range(seeds), 'seed')}"
        figures = []
        if len(changes):
            figures.append(
                page.figure(
                    plots_robustness.gains(changes),
                    name=f"gains-{index}",
                    alt=f"What regularising layers adds to the R&G score, {name}",
                    caption=f"{n}; dots: mean of the differences by seed; bars: {over}.",
                    read="Right of the line regularising helps; a bar that reaches over it does "
                    "not tell it from the base.",
                )
            )
        figures.append(
            page.figure(
                plots_robustness.scores(part),
                name=f"scores-{index}",
                alt=f"R&G score of every training, {name}",
                caption=f"{n}; bars: {over}.",
                read="The further right, the more robust over the whole range of eps. Where FGSM "
                "lies right of the stronger attacks, it flatters.",
            )
        )
        for attack in dict.fromkeys((attacks[0], attacks[-1])):
            figures.append(
                page.figure(
                    plots_robustness.groups_over_eps(part, _groups(config, part), attack=attack),
                    name=f"groups-{index}-{attack}",
                    alt=f"Accuracy over eps under {attack}, a panel per base training, {name}",
                    caption=f"Under {attack}. {n}; lines: mean over seeds, bands: {over}.",
                    read="Where coloured lines lie on the black one, regularising changes nothing.",
                )
            )
        blocks.append(
            page.block(
                name,
                figures=figures,
                tables=[
                    _difference_table(changes, confidence),
                    *(_accuracy_table(part, attack, confidence) for attack in attacks),
                    _tuning_table(_of(tables["tuning"], part)),
                ],
            )
        )
    intro = (
        "Every training, at its last checkpoint, over seeds. The R&G score is the sum of the "
        "accuracies in % over eps, eps 0 included (Khalooei et al. 2022); what is published is "
        "under FGSM. A recipe with -lr is compared with its base, paired by seed. Settings that "
        "were searched for were chosen on the validation split."
    )
    return [page.section("trainings", "Trainings compared", intro=intro, blocks=blocks)]


def findings(tables: dict[str, pd.DataFrame], config: dict) -> Iterator[tuple[str, str]]:
    """(heading, text) of what was found, base by base, for the top of the report."""
    for name, part in _runs(tables["robustness_differences"]):
        part = plots.last_epoch(part)
        part = part[part["eps"] == SCORE]
        said = []
        for base, rows in part.groupby("base", sort=False):
            words = []
            for attack, of_attack in rows.groupby("attack", sort=False):
                helps = of_attack["training"][of_attack["ci_low"] > 0]
                harms = of_attack["training"][of_attack["ci_high"] < 0]
                unclear = len(of_attack) - len(helps) - len(harms)
                best = of_attack.loc[of_attack["value"].idxmax()]
                words.append(
                    f"{attack}: {len(helps)} help, {len(harms)} harm, {unclear} cannot be told "
                    f"apart (highest {_points(best['value'])} {_bracket(best)}, {best['training']})"
                )
            said.append(f"{base} ({page.count(set(rows['training']), 'variant')}): ")
            said[-1] += "; ".join(words) + "."
        seeds = int(part["seeds"].max())
        yield (
            f"Regularising layers, {name}",
            f"R&G score less that of the base, {page.count(range(seeds), 'seed')}. "
            + " ".join(said),
        )


def _runs(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if len(table):
        for (dataset, network), part in table.groupby(["dataset", "network"], sort=False):
            yield f"{dataset} \u00b7 {network}", part


def _weakest_first(part: pd.DataFrame, config: dict) -> list[str]:
    methods = {name: config["attacks"][name]["method"] for name in dict.fromkeys(part["attack"])}
    ranks = {method: rank for rank, method in enumerate(WEAKEST_FIRST)}
    return sorted(methods, key=lambda name: ranks.get(methods[name], len(ranks)))


def _of(table: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """The rows of another table that are of the same data set and network, at its last epoch."""
    if not len(table):
        return table
    keys = ["dataset", "network"]
    same = table[(table[keys] == part.iloc[0][keys]).all(axis=1)]
    return plots.last_epoch(same) if "epoch" in same and len(same) else same


def _groups(config: dict, part: pd.DataFrame) -> dict[str, list[str]]:
    """base -> trainings that regularise it, of those in the table."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(part["training"]):
        if base := config["trainings"][name].get("base"):
            groups.setdefault(base, []).append(name)
    return groups


def _points(value: float) -> str:
    return page.points(value / 100)


def _bracket(row) -> str:
    low, high = row["ci_low"], row["ci_high"]
    return "[n/a]" if np.isnan(low) else f"[{_points(low)}, {_points(high)}]"


def _cell(row: pd.Series) -> str:
    text = f"{row['value']:.2f}"
    if not np.isnan(row["ci_low"]):
        text += f" \u00b1 {(row['ci_high'] - row['ci_low']) / 2:.2f}"
    return text if np.isnan(row["published"]) else f"{text} ({row['published']:.2f})"


def _accuracy_table(part: pd.DataFrame, attack: str, confidence: float) -> dict | None:
    rows = part[part["attack"] == attack]
    cells = rows.assign(cell=[_cell(row) for _, row in rows.iterrows()])
    wide = cells.pivot_table(index="training", columns="eps", values="cell", aggfunc="first")
    order = list(dict.fromkeys(rows["training"]))
    wide = wide.loc[order, list(dict.fromkeys(rows["eps"]))]
    wide.columns = ["R&G" if eps == SCORE else f"eps {eps}" for eps in wide.columns]
    published = rows["published"].notna().any()
    title = f"Under {attack}: accuracy in %, mean \u00b1 half of the {confidence:.0%} interval"
    title += " (published)" if published else ""
    return page.table(title, wide.reset_index(), shown=published, source="robustness.tsv")


def _difference_table(changes: pd.DataFrame, confidence: float) -> dict | None:
    rows = changes[changes["eps"] == SCORE] if len(changes) else changes
    if not len(rows):
        return None
    shown = pd.DataFrame(
        {
            "training": rows["training"],
            "base": rows["base"],
            "attack": rows["attack"],
            "R&G of the base": [f"{v:.2f}" for v in rows["base_value"]],
            "difference (points)": [_points(v) for v in rows["value"]],
            f"{confidence:.0%} interval": [_bracket(row) for _, row in rows.iterrows()],
            "p (t test)": [page.small(p) for p in rows["p_value"]],
            "seeds": rows["seeds"],
        }
    )
    title = "Regularised less its base; p is not corrected for the number of rows"
    return page.table(title, shown, shown=True, source="robustness_differences.tsv")


def _tuning_table(rows: pd.DataFrame) -> dict | None:
    if not len(rows):
        return None
    settings = [c for c in rows if "." in c or c == "lr"]
    found = (
        rows.groupby(["training", *settings], sort=False, dropna=False)
        .agg(rg=("rg_score", "mean"), trainings=("seed", "nunique"), chosen=("chosen", "first"))
        .reset_index()
    )
    counts = found.groupby("training", sort=False).size()
    chosen = found[found["chosen"].astype(bool)]
    shown = pd.DataFrame(
        {
            "training": chosen["training"],
            **{name: ["" if np.isnan(v) else f"{v:g}" for v in chosen[name]] for name in settings},
            "R&G on validation": [f"{v:.1f}" for v in chosen["rg"]],
            "candidates": [counts[name] for name in chosen["training"]],
            "seeds each": chosen["trainings"],
        }
    )
    return page.table("What the searches chose", shown, source="tuning.tsv")
