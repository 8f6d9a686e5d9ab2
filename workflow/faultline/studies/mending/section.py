"""Mends of a network, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from faultline.report import canvas, page
from faultline.report.before_after import before_after, sentence
from faultline.report.comparison import ENDS, IMAGE_ENDS, SEED, TESTED
from faultline.studies.mending import figures as draw
from faultline.studies.mending.names import CHOSEN, GIVEN, WORST

if TYPE_CHECKING:
    from faultline.studies.config import Config


def verdict(tables: dict, config: Config) -> dict:
    """Whether the networks of the last epoch were mended, and at what price."""
    mends = tables["mends"]
    if not len(mends):
        return {"mended?": page.NOT_RUN}
    mends = canvas.last_epoch(mends)
    rows = canvas.last_epoch(tables["mending"])
    seeds, kept = mends["seed"].nunique(), mends[mends["handed_back"].astype(bool)]
    if len(kept) < seeds:
        why = next(filter(None, mends["why"].fillna("")), "no candidate gains within the budget")
        some = f"{len(kept)} of {seeds}" if len(kept) else "no"
        return {"mended?": page.cell(some, small=why, link="mending", tone="no")}
    gain, clean = (difference(rows, images) for images in (WORST, "clean"))
    by = page.listed(dict.fromkeys(kept["candidate"]))
    small = f"{gain[1]} {worst_of(config)}, clean {clean[0]} {clean[1]}, by {by}: mended.pt"
    return {"mended?": page.cell(f"{gain[0]} points", small=small, link="mending", tone="yes")}


def worst_of(config: Config) -> str:
    """What mends are judged under, in words."""
    under = config.mending.under
    return f"under {page.listed(under)}" if under else "under the worst attack"


def findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """What the mend that was chosen gains, network by network and over seeds."""
    for run, mends in page.runs(tables["mends"]):
        mends = canvas.last_epoch(mends)
        rows = canvas.last_epoch(page.of(tables["mending"], mends))
        texts = []
        for seed, part in mends.groupby("seed"):
            chosen = part[part["chosen"].astype(bool)]
            if not len(chosen):
                texts.append(f"Seed {seed}: {_nothing(part, tables, config)}")
                continue
            row = chosen.iloc[0]
            gain, clean = (difference(rows, images, seed) for images in (WORST, "clean"))
            text = f"Seed {seed}, {row['candidate']}: {gain[0]} {gain[1]} points in the worst case"
            text += f", clean {clean[0]} {clean[1]}"
            texts.append(
                f"{text}.{'' if row['handed_back'] else ' Not handed back: ' + row['why']}"
            )
        whole = rows[(rows["policy"] == CHOSEN) & (rows["level"] == "all seeds")]
        over = whole[(whole["images"] == WORST) & (whole["seeds"] > 1)]
        more = ""
        if len(over):
            one = over.iloc[0]
            more = (
                f"Over {int(one['seeds'])} seeds {page.points(one['difference'])} "
                f"{page.interval(*one[ENDS])} points (q {page.small(one['q_value'])})."
            )
        swept = _swept(tables, mends, config)
        yield f"Mending, {run}", " ".join([*texts, *filter(None, [sentence(swept)])]), more


def section(tables: dict, config: Config) -> page.Section:
    """The mends of each checkpoint, and what they cost."""
    mends, blocks, settings = tables["mends"], [], config.mending
    confidence = config.scores.confidence
    for index, (run, of_run) in enumerate(page.runs(mends)):
        for epoch, part in of_run.groupby("epoch"):
            paths, bought, rows = (
                _at(page.of(tables[name], part), epoch)
                for name in ("mending_paths", "mending_bought", "mending")
            )
            many = part["seed"].nunique() > draw.MAX_SEEDS
            figure = page.figure(
                draw.trade_off(part, paths, clean_loss=settings.clean_loss, confidence=confidence),
                name=f"mending-{index}-{epoch}",
                alt=f"Accuracy under attack over clean accuracy of the mends of {run}",
                caption=f"Epoch {epoch}. Large marks: {page.n(part)}, with {confidence:.0%} "
                f"intervals, {_judge(config)}. Thin: the way from the given weights at the "
                f"learning rate that was kept, {page.images(paths, 'validation')}"
                + ("" if settings.under else ", under a quicker form of the attack")
                + (f"; the first {draw.MAX_SEEDS} seeds." if many else "."),
                read="Up is more robust, right is more accurate. Validation images choose the "
                "highest point of a thin line right of the dotted one; large marks are on images "
                "that chose nothing.",
            )
            swept = _layers_table(_swept(tables, part, config))
            tables_of = [_mends_table(part), _rows_table(rows), _bought_table(bought), swept]
            masked = dict.fromkeys(
                f"{row['candidate']}: {row['masked']}"
                for _, row in part.iterrows()
                if isinstance(row["masked"], str) and row["masked"]
            )
            dropped = dict.fromkeys(
                row["candidate"]
                + ("" if pd.isna(row["rate"]) else f", rate {row['rate']:g}")
                + f": {row['note']}."
                for _, row in paths.iterrows()
                if isinstance(row["note"], str) and row["note"]
            )
            blocks.append(
                page.block(
                    f"{run}, epoch {epoch}",
                    figures=[figure],
                    notes=[*masked, *dropped],
                    tables=tables_of,
                )
            )
    return page.Section(
        "mending",
        "Mending",
        intro="Can other weights of the same network hold under "
        f"{page.listed(settings.under) or 'attack'}, for at most {100 * settings.clean_loss:g} "
        "points of clean accuracy? Those that were chosen lie beside the checkpoint as mended.pt, "
        "with a note on how to load them.",
        method="Each candidate trains the given weights on, once with each learning rate, and is "
        "tried at shares of the way between both, statistics of BatchNorm measured anew. "
        "Validation images choose; test images judge against the network that was given, image by "
        f"image, {_judge(config)}. A mend is handed "
        "back where its gain is told, its clean loss is not told to be beyond the budget, and no "
        "sign of a masked gradient stands against it. An image pass is one forward or backward of "
        "one image, those of the attacks in training included.",
        blocks=blocks,
        needs="mending.from_epochs",
    )


def _judge(config: Config) -> str:
    under = config.mending.under
    if faults := config.mending.faults:
        return (
            f"right with weights as they are and under each of {faults['draws']} draws of "
            f"{page.listed(faults['kinds'])} at a rate of {faults['rate']:g} a bit"
        )
    if under:
        return (
            f"right as they are and under {page.listed(under)} at each severity; trained on "
            "images as they are and under these"
        )
    attacks = page.listed(config.mending.judged_under or ())
    return f"in the worst case of {attacks}, crafted on each network and shown to all others"


def _swept(tables: dict, mends: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The layers before and after these mends."""
    given, mended = (page.of(tables[name], mends) for name in ("layers", "mended_layers"))
    if len(mended):
        mended = mended[mended["epoch"] == mends["epoch"].iloc[0]]
    return before_after(given, mended, attack=config.scored_attack)


def _at(table: pd.DataFrame, epoch: int) -> pd.DataFrame:
    return table[table["epoch"] == epoch]


def difference(rows: pd.DataFrame, images: str, seed: int | None = None) -> tuple[str, str]:
    """(points, interval over test images) of the chosen mend minus the given network: of a seed, or
    of the mean of these very networks."""
    rows = rows[(rows["policy"] == CHOSEN) & (rows["images"] == images)]
    if seed is None:
        row, ends = rows[rows["level"] == "all seeds"].iloc[0], IMAGE_ENDS
    else:
        row, ends = rows[(rows["level"] == "seed") & (rows["seed"] == seed)].iloc[0], ENDS
    return page.points(row["difference"]), page.interval(*row[ends])


def _nothing(part: pd.DataFrame, tables: dict, config: Config) -> str:
    """What a larger budget would have bought where nothing was chosen."""
    bought = page.of(tables["mending_bought"], part, ("dataset", "network", "training"))
    bought = bought[(bought["seed"] == part["seed"].iloc[0]) & (bought["candidate"] != "")]
    within = f"nothing gains within {100 * config.mending.clean_loss:g} points of clean accuracy"
    more = bought[bought["budget"] > config.mending.clean_loss]
    if not len(more) or more["candidate"].isna().all():
        return f"{within}."
    row = more.iloc[0]
    return (
        f"{within}; with {100 * row['budget']:g} it would be {row['candidate']}, "
        f"{page.percent(row['adversarial'])} under attack (validation)."
    )


def _mends_table(part: pd.DataFrame) -> page.Table | None:
    columns = {
        **page.same("seed", "candidate"),
        "clean": ("clean", page.percent),
        "worst case": ("worst", page.percent),
        "learning rate": "rate",
        "share of the way": "share",
        "image passes": ("passes", lambda count: f"{int(count):,}"),
        "chosen": ("chosen", page.yes),
        "handed back": ("handed_back", page.yes),
        "n": "n",
    }
    return page.table("The networks", part, columns, shown=True, source="mends.tsv")


def _rows_table(rows: pd.DataFrame) -> page.Table | None:
    rows = rows[rows["policy"] != CHOSEN]
    columns = {
        **page.same("images"),
        "candidate": "policy",
        "seed": SEED,
        "accuracy": ("accuracy", page.percent),
        "minus": "reference",
        "its accuracy": ("reference_accuracy", page.percent),
        **TESTED,
        **page.same("n"),
    }
    others = rows.loc[rows["reference"] != GIVEN, "reference"].unique()
    title = f"Minus the {GIVEN} network" + "".join(f", and minus {name}" for name in others)
    return page.table(title, rows, columns, source="mending.tsv")


def _bought_table(bought: pd.DataFrame) -> page.Table | None:
    rows = []
    for seed, part in bought.groupby("seed"):
        row = {"seed": seed}
        for _, at in part.iterrows():
            by = at["candidate"] if isinstance(at["candidate"], str) and at["candidate"] else ""
            row[f"{100 * at['budget']:g} point{'s' * (at['budget'] != 0.01)}"] = (
                f"{page.percent(at['adversarial'])} ({by})" if by else "nothing"
            )
        rows.append(row)
    title = "What so many points of clean accuracy buy (validation images)"
    return page.table(title, pd.DataFrame(rows), shown=True, source="mending_bought.tsv")


def _layers_table(swept: pd.DataFrame) -> page.Table | None:
    columns: dict = page.same("seed", "layer", "score", "attack")
    for side, prefix in (("given", ""), ("mended", "mended_")):
        columns |= {
            side: (f"{prefix}value", page.number),
            f"interval, {side}": (f"{prefix}ci_low", f"{prefix}ci_high", page.bracket),
            f"class, {side}": f"{prefix}class",
            f"decided, {side}": (f"{prefix}decided", page.yes),
        }
    title = "Layers before and after"
    return page.table(title, swept, columns | {"n": "n"}, source="mended_layers.tsv")
