"""Policies compared with a reference, in a figure and in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from faultline.base.columns import CONTROL
from faultline.report import canvas, page
from faultline.report.canvas import DARK, GREY, MAX_WIDTH, key, marks
from faultline.report.page import Cell, interval, percent, points, small

ENDS, IMAGE_ENDS = ["ci_low", "ci_high"], ["image_ci_low", "image_ci_high"]

SEED = ("level", "seed", lambda level, seed: "all" if level == "all seeds" else int(seed))
"""The seed of a row of `compare`, in a table."""

TESTED = {
    "difference (points)": ("difference", page.points),
    "interval": ("ci_low", "ci_high", page.interval),
    "p": ("p_value", page.small),
    "corrected": ("q_value", page.small),
    "detectable": ("detectable", page.detectable),
}
"""Its difference and what tests say of it, as columns of a table; see `page.cells`."""


def verdict(row: pd.Series, low: float, high: float, other: str, *, level: float) -> str:
    """What a row and its interval say, corrected for all rows of its kind (q_value below `level`);
    where nothing, from where on it would have. Seeds that agree tell no p-value."""
    least, q = row["detectable"], row["q_value"]
    if (low > 0 or high < 0) and not q >= level:
        alone = " on these images alone" if np.isnan(q) else ""
        return f"{'better' if low > 0 else 'worse'} than {other}{alone}"
    if np.isinf(least):
        return page.cannot_tell(int(row["seeds"]))
    power = "" if np.isnan(least) else f" (80 % power from {page.detectable(least)} points on)"
    corrected = f", as q = {small(q)} once corrected" if low > 0 or high < 0 else ""
    return f"not distinguishable from {other}{corrected}{power}"


def _says(row: pd.Series, other: str, difference: str, *, level: float) -> str:
    """A difference and its verdict; or that it cannot be told, and nothing else."""
    said = verdict(row, *_both(row), other, level=level)
    return said if untold(said) else f"{difference}, {said}"


def untold(said: str) -> bool:
    """Whether a verdict is that none of the differences that are possible would be told."""
    return said.endswith("cannot tell this")


def _both(row: pd.Series) -> tuple[float, float]:
    """The ends of the intervals over seeds and over images together."""
    return (
        np.fmin(row["ci_low"], row["image_ci_low"]),
        np.fmax(row["ci_high"], row["image_ci_high"]),
    )


def with_reference(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that compare with the reference and not with the control."""
    return rows[rows["reference"] != CONTROL]


def compared_sets(rows: pd.DataFrame, policy_name: str, **settings) -> list[str]:
    """`compared`, image set by image set; policy_name: what the policy is called."""
    return [
        f"{'Clean' if images == 'clean' else f'Under {images}'}: {policy_name} "
        + compared(part, **settings)
        for images, part in rows.groupby("images", sort=False)
    ]


def compared(rows: pd.DataFrame, *, policy: str, reference: str, control: str, level: float) -> str:
    """What the comparison of one policy says, in words; reference and control: what they are
    called. level: the largest corrected p-value that tells them apart."""
    rows = rows[rows["policy"] == policy]
    chosen = with_reference(rows)
    if not len(chosen):
        return "nothing to compare."
    whole = chosen[chosen["level"] == "all seeds"].iloc[0]
    seeds = int(whole["seeds"])
    text = percent(whole["accuracy"])
    text += f", {reference} {percent(whole['reference_accuracy'])}: "
    if not whole["accuracy"] and not whole["reference_accuracy"]:
        return text + "both at 0, a floor that says nothing of either."
    if seeds == 1:
        one = chosen[chosen["level"] == "seed"].iloc[0]
        by = f"{points(one['difference'])} points {interval(*one[ENDS])} over images"
        said = _says(one, reference, by, level=level)
        beyond = "" if untold(said) else " for this one seed, which says nothing of others"
        return f"{text}{said}{beyond}."
    flat = np.isnan(whole["ci_low"])  # seeds that agree tell no spread
    over = f"images (the same in {seeds} seeds)" if flat else f"{seeds} seeds"
    by = f"{points(whole['difference'])} points {interval(*whole[IMAGE_ENDS if flat else ENDS])}"
    text += _says(whole, reference, f"{by} over {over}", level=level)
    against = rows[(rows["reference"] == CONTROL) & (rows["level"] == "all seeds")]
    if len(against) and against["seeds"].iloc[0] > 1:
        less = against.iloc[0]
        by = f"{points(less['difference'])} points "
        text += f"; minus {control}, "
        if np.isnan(less["ci_low"]):
            text += f"{by}in every seed"
        else:
            text += _says(less, "it", by + interval(*less[ENDS]), level=level)
    return text + "."


def in_short(rows: pd.DataFrame, *, policy: str, reference: str, level: float) -> str:
    """The difference from the reference on each image set, in a sentence."""
    rows = with_reference(rows)
    rows = rows[rows["policy"] == policy]
    if not len(rows):
        return "Nothing to compare."
    said = []
    for images, part in rows.groupby("images", sort=False):
        row, ends, judged = summary(part, level=level)
        where = "clean" if images == "clean" else f"under {images}"
        if not row["accuracy"] and not row["reference_accuracy"]:
            said.append(f"{where}, both at 0")
        elif untold(judged):
            said.append(f"{where}, {judged}")
        else:
            by = f"{points(row['difference'])} points {interval(*ends)}"
            said.append(f"{where}, {by}, {judged}")
    seeds = page.count(range(int(rows["seeds"].max())), "seed")
    return f"Against {reference}, {seeds}: {'; '.join(said)}."


def helped(
    comparison: pd.DataFrame,
    *,
    policy: str,
    reference: str,
    control: str,
    level: float,
    link: str,
    doubt: str = "",
) -> Cell:
    """Whether a policy did better than the reference and the control at the last epoch, as a cell:
    yes, no (worse than one of them) or cannot tell. comparison: of one data set, network and
    training; doubt: why their accuracy under attack is not to be believed. Judged under the attack
    that leaves the reference least, among those that leave either of the two anything."""
    if not len(comparison):
        return page.NOT_RUN
    if doubt:
        return page.cell("not to be believed", small=doubt, link="checks", tone="no")
    rows = canvas.last_epoch(comparison)
    rows = rows[rows["policy"] == policy]
    whole = with_reference(rows)
    whole = whole[whole["level"] == "all seeds"]
    attacked = whole[whole["images"] != "clean"]
    judged = attacked if len(attacked) else whole
    judged = judged[(judged["accuracy"] > 0) | (judged["reference_accuracy"] > 0)]
    if not len(judged):
        return page.cell("cannot tell", small="both at 0 under every attack", link=link)
    one = judged.loc[judged["reference_accuracy"].idxmin()]
    rows = rows[rows["images"] == one["images"]]
    under = "on clean images"
    if one["images"] != "clean":
        clean = whole.loc[whole["images"] == "clean", "difference"]
        under = f"under {one['images']}" + "".join(f" (clean {points(of)})" for of in clean)
    if one["seeds"] == 1:
        seed = with_reference(rows[rows["level"] == "seed"]).iloc[0]
        words = f"{points(seed['difference'])} points {interval(*seed[ENDS])} {under}, one seed"
        return page.cell("cannot tell", small=words, link=link)
    flat = np.isnan(one["ci_low"])
    words = f"{points(one['difference'])} points {interval(*one[IMAGE_ENDS if flat else ENDS])}, "
    words += f"q {_equals(one['q_value'])}, {under}"
    less = rows[(rows["reference"] == CONTROL) & (rows["level"] == "all seeds")]
    pairs = [(one, reference), *((row, control) for _, row in less.iterrows())]
    for row, other in pairs:
        said = verdict(row, *_both(row), other, level=level)
        if untold(said):
            return page.cell("cannot tell", small=said, link=link)
        if said.startswith("worse"):
            return page.cell("no", small=f"{words}; worse than {other}", link=link, tone="no")
        if said.startswith("not"):
            beyond = f"; not told from {control}" if other == control else ""
            return page.cell("cannot tell", small=words + beyond, link=link)
    return page.cell("yes", small=words, link=link, tone="yes")


def _equals(p: float) -> str:
    text = small(p)
    return text if text.startswith(("<", "n")) else f"= {text}"


POLICY_ORDER = ("selective", "random", "fragile_only")


@canvas.styled
def policy_comparison(
    comparison: pd.DataFrame,
    *,
    notes: dict[str, str],
    policies: Sequence[str] = POLICY_ORDER,
    reference: str = "regular",
) -> Figure:
    """Accuracy of each policy minus that of the reference, in percentage points.

    comparison: rows of one checkpoint epoch. Dots: seeds with their interval over images; diamonds:
    the mean over several seeds with its t interval. Each panel has an axis of its own. notes:
    policy -> what it did, in words.
    """
    comparison = with_reference(comparison)
    images = list(dict.fromkeys(comparison["images"]))
    policies = [p for p in policies if p in set(comparison["policy"])]
    seeds = comparison.loc[comparison["level"] == "seed", "seed"].nunique()
    labels = [f"{policy}\n{notes.get(policy, '')}" for policy in policies]
    left = canvas.label_width([part for label in labels for part in label.split("\n")])
    width = min(4.2, (MAX_WIDTH - left - 0.2) / min(len(images), 4) - 0.25)
    points = _in_points(comparison)
    step, label = 0.8 / (seeds + 1.5), f"accuracy minus that of {reference} (points)"
    size = width, len(policies) * (0.16 * seeds + 0.5)
    room = canvas.Room(left=left, bottom=0.95)
    fig, panels = canvas.panels(
        canvas.split(points, "images", images),
        size,
        room,
        columns=4,
        xlabel=label if width > canvas.text_width(label) else f"minus {reference} (points)",
    )
    for ax, (name, part) in panels:
        limit = _limit(part)
        for y, policy in enumerate(policies):
            rows_of = part[part["policy"] == policy]
            each = rows_of[rows_of["level"] == "seed"].sort_values("seed")
            mean = rows_of[rows_of["level"] == "all seeds"].iloc[0]
            at = y - 0.4 + step * (np.arange(len(each)) + 0.75)
            ax.hlines(at, each["ci_low"], each["ci_high"], color="#9ca3af", lw=1)
            says = [f"seed {row['seed']:.0f}: {_said(row)}" for _, row in each.iterrows()]
            marks(ax, each["difference"], at, "o", says=says, ms=3.5, color=GREY)
            if y:
                ax.axhline(y - 0.5, color="#e5e7eb", lw=0.8)
            if seeds == 1:
                continue
            here = y - 0.4 + step * (seeds + 0.85)
            if not np.isnan(mean["ci_low"]):
                ends = max(mean["ci_low"], -limit), min(mean["ci_high"], limit)
                ax.hlines(here, *ends, color=DARK, lw=2.2)
                for end, marker, beyond in (
                    (-limit, "<", mean["ci_low"] < -limit),
                    (limit, ">", mean["ci_high"] > limit),
                ):
                    if beyond:
                        ax.plot(end, here, marker, ms=5, color=DARK, clip_on=False)
            text = f"mean over {seeds} seeds: {_said(mean)}, q {_equals(mean['q_value'])}"
            marks(ax, mean["difference"], here, "D", says=[text], ms=5.5, color=DARK)
        ax.axvline(0, color="#d55e00", lw=0.9, zorder=0.9)
        ax.set_xlim(-limit, limit)
        canvas.rows_axis(ax, labels)
        ax.set_title(canvas.images_title(name))
    handles = [
        key("seed", marker="o", ms=3.5, color="#9ca3af", mfc=GREY, mec=GREY, lw=1),
        key("mean over seeds", marker="D", ms=5, color=DARK, lw=2),
        key(f"as {reference}", color="#d55e00", lw=0.9),
    ]
    if seeds == 1:
        del handles[1]
    canvas.legend(fig, handles, columns=len(handles))
    return fig


@canvas.styled
def policies_over_epochs(
    comparison: pd.DataFrame,
    *,
    policies: Sequence[str] = POLICY_ORDER,
    reference: str = "regular",
) -> Figure:
    """Accuracy of each policy minus that of the reference, in percentage points, over the epoch of
    the checkpoint: a panel per image set, a line per policy, side by side.

    The mean over seeds with its t interval; of one seed its own, over images.
    """
    rows = with_reference(comparison)
    seeds = rows.loc[rows["level"] == "seed", "seed"].nunique()
    rows = _in_points(rows[rows["level"] == ("all seeds" if seeds > 1 else "seed")])
    images, epochs = list(dict.fromkeys(rows["images"])), sorted(rows["epoch"].unique())
    policies = [p for p in policies if p in set(rows["policy"])]
    columns = min(len(images), 4)
    size = min(4.6, (MAX_WIDTH - 0.85) / columns - 0.45), 2.2
    room = canvas.Room(bottom=0.95, gap=(0.45, 0.75))
    fig, panels = canvas.panels(
        canvas.split(rows, "images", images),
        size,
        room,
        columns=columns,
        xlabel="from epoch",
        ylabel=f"minus {reference} (points)",
        own_y=True,
    )
    for ax, (name, part) in panels:
        for place, policy in enumerate(policies):
            line = part[part["policy"] == policy].sort_values("epoch")
            x = line["epoch"].map(epochs.index) + 0.16 * (place - (len(policies) - 1) / 2)
            colour = canvas.COLOURS[place]
            ax.vlines(x, line["ci_low"], line["ci_high"], color=colour, lw=1)
            says = [f"{policy}, epoch {row['epoch']}: {_said(row)}" for _, row in line.iterrows()]
            marks(ax, x, line["difference"], "o-", says=says, ms=3.5, lw=0.8, color=colour)
        ax.axhline(0, color=GREY, lw=0.9, zorder=0.9)
        ax.set_xticks(range(len(epochs)), [str(epoch) for epoch in epochs])
        ax.set_title(canvas.images_title(name))
        ax.grid(axis="y", lw=0.5)
    handles = [
        key(policy, color=colour, marker="o", ms=3.5, lw=1)
        for policy, colour in zip(policies, canvas.COLOURS, strict=False)
    ]
    canvas.legend(fig, handles, columns=len(handles))
    return fig


def _in_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences and their ends in points, for an axis."""
    return rows.assign(**{k: 100 * rows[k].astype(float) for k in ("difference", *ENDS)})


def _limit(part: pd.DataFrame) -> float:
    """Of the axis of a panel: all intervals of seeds, and of those over seeds what is near them."""
    ends = np.abs(part[ENDS].to_numpy())
    reach = np.nanmax(ends[part["level"] == "seed"], initial=0.1)
    return 1.08 * min(np.nanmax(ends, initial=reach), 2.5 * reach)


def _said(row: pd.Series) -> str:
    """A difference that is in points already."""
    interval = "" if np.isnan(row["ci_low"]) else f" [{row['ci_low']:+.2f}, {row['ci_high']:+.2f}]"
    return page.minus(f"{row['difference']:+.2f} points{interval}, n = {row['n']:,}")


def summary(rows: pd.DataFrame, *, level: float) -> tuple[pd.Series, tuple[float, float], str]:
    """What rows of one policy and image set say together: the row of all seeds, or of the only one;
    an interval of it, over seeds where there is one; and the verdict: "not told apart", "... seeds
    cannot tell this", or "better" or "worse", perhaps "on these images alone"."""
    whole = rows[rows["level"] == "all seeds"].iloc[0]
    if whole["seeds"] == 1:
        whole = rows[rows["level"] == "seed"].iloc[0]
    ends = IMAGE_ENDS if np.isnan(whole["ci_low"]) else ENDS
    said = verdict(whole, *_both(whole), "it", level=level).replace(" than it", "")
    return whole, tuple(whole[ends]), "not told apart" if said.startswith("not") else said
