"""The report's section on the robustness of trainings over seeds. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.attacks.doubt import doubt
from faultline.attacks.methods import weakest_first
from faultline.attacks.worst import worst_cases
from faultline.report import page
from faultline.studies.robustness import figures as draw

if TYPE_CHECKING:
    from faultline.studies.config import Config

PLACE = ["dataset", "network"]

EQUAL = " [\u2013]"
"""In place of an interval over seeds that are all equal."""


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """The section, without a block where one training alone has nothing to be compared with."""
    title, needs = "Robustness of the trainings", "trainings"
    robust, confidence = tables["robustness"], config.scores.confidence
    if not len(robust) or not _compared(robust):
        return page.Section("trainings", title, needs=needs)
    level, blocks = 1 - confidence, []
    for index, (place, part, changes) in enumerate(_places(tables, config)):
        families = _families(part, config)
        n = f"n = {page.images(part)}, {_seeds(part)}"
        standard = [t for t in families if config.trainings[t].recipe == "standard"]
        interval = f"{confidence:.0%} interval over seeds (Student's t)"
        drawn = _without(families, standard) or families
        figures = [
            page.figure(
                draw.accuracy_curves(part, drawn, reference=standard[0] if standard else None),
                name=f"trainings-{index}",
                alt=f"Accuracy over eps of the trainings on {place}",
                caption=f"Accuracy on attacked test images at each training's last epoch. {n}; "
                f"line: mean, band: {interval}.",
                read="The higher the line, the more robust. A line that is high under FGSM and low "
                "under APGD has only learned to mislead FGSM. Dashed: standard training. The axis "
                "need not start at 0.",
            ),
            page.figure(
                draw.rg_scores(part, families),
                name=f"trainings-rg-{index}",
                alt=f"R&G score of the trainings on {place}, by attack",
                caption=f"R&G scores. {n}; bar: {interval}.{_published_words(part, config)}",
                read="The score is the sum of the accuracies in % over the eps grid, eps = 0 "
                "included. Scores of different grids cannot be compared.",
            ),
        ]
        if len(changes):
            figures += [
                page.figure(
                    draw.difference_forest(changes, families, level=level),
                    name=f"trainings-differences-{index}",
                    alt=f"R&G score of regularised trainings minus their bases on {place}",
                    caption=f"What regularising layers adds. {n}, paired by seed; bar: {interval}.",
                    read="To the right of the line, regularising helps. Hollow: no more than "
                    "chance may give, corrected for the number of trainings compared "
                    "(Benjamini-Hochberg).",
                ),
                page.figure(
                    draw.difference_map(changes, families, level=level),
                    name=f"trainings-map-{index}",
                    alt=f"Accuracy of regularised trainings minus their bases on {place}, by eps",
                    caption=f"The same at each eps, in points of accuracy. {n}, paired by seed.",
                    read="Blue: more accurate than the base; brown: less.",
                ),
            ]
        searched = page.of(tables["tuning"], part, PLACE)
        shown = [
            _rg_table(part, families, confidence),
            _accuracy_table(part, families, confidence),
            _difference_table(changes, families, level, confidence),
            _chosen_table(searched, part, config),
            _search_table(searched),
        ]
        notes = [*_doubts(tables, part).values(), _masking_note(tables["checks"], part)]
        blocks.append(page.block(place, figures=figures, notes=notes, tables=shown))
    return page.Section(
        "trainings",
        title,
        intro="Every training under the same attacks, over seeds, and each regularised one (-lr) "
        "beside its base: the same recipe without the regulariser, paired by seed.",
        method="R&G score: the sum of the accuracies in % over the eps grid (Khalooei et al. "
        "2022). Their table is for FGSM only, which gradient masking can deceive, so PGD and APGD "
        "judge as well where they are run, and the worst case: correct under every attack of a "
        "norm that shares the eps. Ours: optimiser, epochs, training eps and gamma, as none of "
        "them is published, and the intervals and tests.",
        blocks=blocks,
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """(heading, text) of what was found, for the top of the report."""
    level = 1 - config.scores.confidence
    for place, part, changes in _places(tables, config):
        doubts = _doubts(tables, part)
        for attack in _judges(part, config):
            rows = changes[(changes["attack"] == attack) & (changes["eps"] == "rg_score")]
            if not len(rows):
                continue
            doubted = rows["training"].isin(doubts) | rows["base"].isin(doubts)
            rows = rows[~doubted]
            if not len(rows):
                text = ""
            elif rows["seeds"].max() < 2:
                text = f"{len(rows)} regularised trainings, one seed, which says nothing of others."
            else:
                sure = rows["q_value"] < level
                better, worse = (sure & (rows["value"] > 0)), (sure & (rows["value"] < 0))
                unsure = rows[~sure & ~rows["floor"]]
                told = (
                    f"of {page.count(rows, 'regularised training')} {_several(rows[better])} a "
                    f"higher R&G score than the base, {_several(rows[worse])} a lower one, "
                    f"{len(unsure)} cannot be told from it (q < {level:g}, "
                    f"{_seeds(part)}).{_detectable_words(unsure)}{_floor_words(changes, attack)}"
                )
                if not sure.any() and len(unsure) and np.isinf(unsure["detectable"]).all():
                    told = f"{page.cannot_tell(rows['seeds'].max())}."
                text = told[0].upper() + told[1:]
            text = " ".join(filter(None, [*doubts.values(), text]))
            yield f"Regularising layers, {place}, under {attack}", text
        rows = part[part["published"].notna()]
        if len(rows):
            yield f"Beside published numbers, {place}", _repeated(rows, changes, config)


def _doubts(tables: dict, part: pd.DataFrame) -> dict[str, str]:
    """Training -> that its accuracy under attack is not to be believed, and why: of those of which
    it is not."""
    doubts = {name: doubt(tables, rows) for name, rows in part.groupby("training", sort=False)}
    return {name: f"{name}: {why}" for name, why in doubts.items() if why}


def _compared(robust: pd.DataFrame) -> bool:
    return len(set(robust["training"])) > 1 or robust["published"].notna().any()


def _places(tables: dict, config: Config) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """(name, robustness, differences) of each data set and network, trainings at their last
    epoch, attacks from the weakest to the strongest, those of unknown strength behind, and then the
    worst cases."""
    robust, changes = tables["robustness"], tables["robustness_differences"]
    if not len(robust) or not _compared(robust):
        return
    if not len(changes):  # no training is regularised
        changes = robust.iloc[:0].assign(base="", q_value=0.0, floor=False)
    ranked, unranked = weakest_first(config.attack_settings)
    rank = [*ranked, *unranked, *worst_cases(config.attack_settings)].index
    robust, changes = (
        t.sort_values("attack", kind="stable", key=lambda c: c.map(rank)) if len(t) else t
        for t in (robust, changes)
    )
    for (dataset, network), part in robust.groupby(PLACE, sort=False):
        last = part["epoch"] == part.groupby("training")["epoch"].transform("max")
        part, of_place = part[last], page.of(changes, part, PLACE)
        if len(of_place):
            epochs = part.groupby("training")["epoch"].first()
            of_place = of_place[of_place["epoch"] == of_place["training"].map(epochs)]
        yield f"{dataset} · {network}", part, of_place


def _families(part: pd.DataFrame, config: Config) -> dict[str, list[str]]:
    """base -> it and what regularises it; standard trainings first."""
    there, trainings = set(part["training"]), config.trainings
    base_of = {name: trainings[name].base for name in trainings if name in there}
    bases = [name for name, base in base_of.items() if base not in there]
    bases.sort(key=lambda name: trainings[name].recipe != "standard")
    return {b: [b, *(name for name, base in base_of.items() if base == b)] for b in bases}


def _without(families: Mapping, names) -> dict:
    return {base: of for base, of in families.items() if base not in names}


def _judges(part: pd.DataFrame, config: Config) -> list[str]:
    """The worst cases or else the strongest attack, the weakest, and those of unknown strength, for
    which none stands."""
    there, attacks = set(part["attack"]), config.attack_settings
    ranked, unranked = ([a for a in of if a in there] for of in weakest_first(attacks))
    strongest = [worst for worst in worst_cases(attacks) if worst in there] or ranked[-1:]
    return list(dict.fromkeys([*strongest, *ranked[:1], *unranked]))


def _seeds(part: pd.DataFrame) -> str:
    low, high = part["seeds"].min(), part["seeds"].max()
    return f"{low} seed{'' if high == 1 else 's'}" if low == high else f"{low} to {high} seeds"


def _several(rows: pd.DataFrame) -> str:
    if not len(rows):
        return "none has"
    rows = rows.reindex(rows["value"].abs().sort_values(ascending=False, kind="stable").index)
    named = [
        f"{name} {_signed(value)}"
        for name, value in rows[["training", "value"]].head(4).itertuples(index=False)
    ]
    more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
    return f"{len(rows)} {'has' if len(rows) == 1 else 'have'} ({', '.join(named)}{more})"


def _detectable_words(unsure: pd.DataFrame) -> str:
    """From where on differences would have been told that were not."""
    sizes = unsure["detectable"].dropna()
    if not len(sizes):
        return ""
    if np.isinf(sizes).all():
        return f" Of these, {page.cannot_tell(unsure['seeds'].max())}."
    low, high = f"{sizes.min():.1f}", f"{sizes.max():.1f}"
    more = "" if low == high else f" (of some trainings from {high})"
    if np.isinf(sizes).any():
        more = " (of some trainings none that is possible)"
    return f" With 80 % power, this run tells differences from {low} points on{more}."


def _floor_words(changes: pd.DataFrame, attack: str) -> str:
    """At which eps there is nothing left to compare."""
    each = changes[(changes["attack"] == attack) & (changes["eps"] != "rg_score")]
    floor = each.loc[each["floor"], "eps"]
    if not len(floor):
        return ""
    return (
        f" In {len(floor)} of {len(each)} comparisons at one eps both are at 0, a floor that says "
        f"nothing of either (eps {page.listed(sorted(set(floor), key=float))})."
    )


def _repeated(rows: pd.DataFrame, changes: pd.DataFrame, config: Config) -> str:
    each, whole = rows[rows["eps"] != "rg_score"], rows[rows["eps"] == "rg_score"]
    attack = rows["attack"].iloc[0]
    away = (each["value"] - each["published"]).abs()
    text = (
        f"Under {attack}, {len(each)} accuracies of {page.count(whole, 'training')} are "
        f"{away.mean():.1f} points from the published ones on average, at most {away.max():.1f}."
    )
    varying = each[each["ci_low"].notna()]
    if len(varying):
        within = varying["published"].between(varying["ci_low"], varying["ci_high"]).sum()
        which = f" (of {len(varying)}; else all seeds are equal)" * (len(varying) < len(each))
        text += f" {within} of the published ones are within our intervals over seeds{which}."
    published = whole.groupby("training")["published"].first()
    pairs = changes[(changes["attack"] == attack) & (changes["eps"] == "rg_score")]
    theirs = pairs["training"].map(published) - pairs["base"].map(published)
    pairs, theirs = pairs[theirs.notna()], theirs.dropna()
    if len(pairs):
        same = (np.sign(theirs) == np.sign(pairs["value"])).sum()
        text += (
            f" Regularising changes the R&G score in the published direction in {same} of "
            f"{page.count(pairs, 'training')}, be it beyond chance or not."
        )
    return text + _other_data(rows, config)


def _other_data(rows: pd.DataFrame, config: Config) -> str:
    """A warning where the published numbers are for other data."""
    source = config.datasets[rows["dataset"].iloc[0]].source
    others = sorted({str(d) for d in rows["published_dataset"].dropna() if d and d != source})
    return f" The published numbers are for {page.listed(others)}, not {source}." * bool(others)


def _published_words(part: pd.DataFrame, config: Config) -> str:
    rows = part[part["published"].notna()]
    if not len(rows):
        return ""
    return f" Crosses: {config.published}.{_other_data(rows, config)}"


def _masking_note(checks: pd.DataFrame, part: pd.DataFrame) -> str:
    checks = page.of(checks, part, PLACE)
    if not len(checks):
        return ""
    checks = checks[checks["check"] == "fgsm_near_apgd"]
    warned = checks[checks["status"] == "warning"]
    if not len(warned):
        return ""
    names = page.listed(dict.fromkeys(warned["training"]))
    return (
        f"FGSM flatters {len(warned)} of {len(checks)} checkpoints by far ({names}): judge these "
        "by APGD. See the self-checks."
    )


# Tables


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else page.minus(text)


def _mean(row) -> str:
    if np.isnan(row.ci_low):
        return f"{row.value:.1f}" + EQUAL * (row.seeds > 1)
    return f"{row.value:.1f} [{row.ci_low:.1f}, {row.ci_high:.1f}]"


def _interval(low: float, high: float, floor: bool, seeds: int) -> str:
    if floor:
        return "both at 0"
    if np.isnan(low):
        return "n/a" if seeds == 1 else "equal in all seeds"
    return f"[{_signed(low)}, {_signed(high)}]"


def _detectable(points: float) -> str:
    return "\u2013" if np.isnan(points) else "none" if np.isinf(points) else f"{points:.1f}"


def _beyond_chance(q: float, value: float, floor: bool, *, level: float) -> str:
    if floor:
        return "both at 0"
    return ("helps" if value > 0 else "harms") if q < level and value else "no"


def _ordered(table: pd.DataFrame, families: Mapping) -> pd.DataFrame:
    order = [name for names in families.values() for name in names]
    return table.sort_values("training", kind="stable", key=lambda c: c.map(order.index))


def _rg_table(part: pd.DataFrame, families: Mapping, confidence: float) -> page.Table | None:
    rows = _ordered(part[part["eps"] == "rg_score"], families)
    cells: dict[str, dict] = {}
    for row in rows.itertuples():
        cell = cells.setdefault(row.training, {"training": row.training})
        cell[row.attack] = _mean(row)
        if not np.isnan(row.published):
            cell[f"published ({row.attack})"] = f"{row.published:.1f}"
            cell["ours minus published"] = _signed(row.value - row.published)
    title = f"R&G score, mean over seeds [{confidence:.0%} interval;{EQUAL}: all seeds equal]"
    table = pd.DataFrame([*cells.values()]).fillna("")
    return page.table(title, table, shown=True, source="robustness.tsv")


def _accuracy_table(part: pd.DataFrame, families: Mapping, confidence: float) -> page.Table | None:
    rows = _ordered(part[part["eps"] != "rg_score"], families)
    cells: dict[tuple, dict] = {}
    for row in rows.itertuples():
        head = {"training": row.training, "attack": row.attack}
        ours = cells.setdefault((row.training, row.attack, 0), head | {"": "ours"})
        ours[row.eps] = _mean(row)
        if not np.isnan(row.published):
            theirs = cells.setdefault((row.training, row.attack, 1), head | {"": "published"})
            theirs[row.eps] = f"{row.published:.1f}"
    title = (
        f"Accuracy in % at each eps, mean over seeds [{confidence:.0%} interval;{EQUAL}: all seeds "
        "equal]"
    )
    table = pd.DataFrame([*cells.values()]).fillna("")
    return page.table(title, table, source="robustness.tsv")


def _difference_table(
    changes: pd.DataFrame, families: Mapping, level: float, confidence: float
) -> page.Table | None:
    if not len(changes):
        return None
    rows = _ordered(changes, families)
    whole = rows["eps"] == "rg_score"
    rows = pd.concat([rows[whole], rows[~whole]])
    columns = {
        **page.same("training", "base", "attack"),
        "eps": rows["eps"].replace("rg_score", "R&G"),
        "of the base": ("base_value", "{:.1f}".format),
        "difference": ("value", _signed),
        f"{confidence:.0%} interval": ("ci_low", "ci_high", "floor", "seeds", _interval),
        "detectable": ("detectable", _detectable),
        "p": ("p_value", page.small),
        "q": ("q_value", page.small),
        "seeds": "seeds",
        "beyond chance": ("q_value", "value", "floor", partial(_beyond_chance, level=level)),
    }
    title = (
        "Regularised minus its base, paired by seed; R&G scores first, then points at each eps "
        "(detectable: with 80 % power, after correction)"
    )
    return page.table(title, rows, columns, source="robustness_differences.tsv")


def _chosen_table(searched: pd.DataFrame, part: pd.DataFrame, config: Config) -> page.Table | None:
    trainings = [t for t in config.trainings if t in set(part["training"])]
    tuned = {t: tune for t in trainings if (tune := config.trainings[t].tune)}
    sizes = {name: (searched["training"] == name).sum() if len(searched) else 0 for name in tuned}
    rows = []
    for name, tune in tuned.items():
        base = config.trainings[name].base
        row: dict[str, object] = {"training": name}
        if sizes[name]:
            of = searched[searched["training"] == name]
            best = of[of["chosen"]]
            goal = "near the published row" if tune.towards else "highest R&G score"
            before = tuned[tune.like].grid.dump() if tune.like else {}
            settings = [*before, *tune.grid.dump()]
            row["chosen"] = ", ".join(f"{s} {best[s].iloc[0]:g}" for s in dict.fromkeys(settings))
            row["by"] = f"{goal} under {tune.attack}"
            row["R&G on validation images"] = f"{best['rg_score'].mean():.1f}"
        else:
            row |= {"chosen": f"as {tune.like or 'given'}", "by": ""}
            row["R&G on validation images"] = ""
        row["trainings tried"] = sizes[name]
        row["its base's"] = sizes.get(base, "") if base else ""
        rows.append(row)
    title = "Chosen settings; a comparison is fair where both sides tried equally many"
    return page.table(title, pd.DataFrame(rows), shown=True, source="tuning.tsv")


def _search_table(searched: pd.DataFrame) -> page.Table | None:
    if not len(searched):
        return None
    skipped = {*PLACE, "training", "seed", "error", "loss", "chosen", "rg_score"}
    settings = [c for c in searched if c not in skipped and not c.startswith("eps_")]
    shown = searched[["training", *settings, "seed"]].astype(object)
    shown = shown.where(shown.notna(), "")
    shown["R&G on validation images"] = [f"{v:.1f}" for v in searched["rg_score"]]
    shown["chosen"] = np.where(searched["chosen"].astype(bool), "yes", "")
    if "error" in searched and searched["error"].notna().any():
        shown["failed"] = searched["error"].fillna("")
    return page.table("Every training of the searches", shown, source="tuning.tsv")
