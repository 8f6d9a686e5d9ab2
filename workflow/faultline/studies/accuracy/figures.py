"""The figures of accuracy under attack and of training."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from faultline.report.canvas import (
    MAX_WIDTH,
    axes_grid,
    by_seed,
    epoch_colours,
    legend,
    share_axis,
    styled,
    tips,
)
from faultline.report.page import count, said_of_seeds, span


@styled
def robustness_curves(accuracy: pd.DataFrame, *, norms: dict[str, str]) -> Figure:
    """Accuracy against eps: a panel per attack and worst case, a line per checkpoint epoch, thin
    lines per seed.

    norms: attack or worst case -> its norm; panels of one norm share their eps axis.
    """
    attacks = sorted(accuracy["attack"].unique(), key=lambda a: list(norms).index(a))
    epochs = sorted(accuracy["epoch"].unique())
    colours = epoch_colours(epochs)
    columns = min(4, len(attacks))
    rows = -(-len(attacks) // columns)
    width = min(3.4, (MAX_WIDTH - 0.9) / columns - 0.3)
    fig, axes = axes_grid(
        [[width] * columns, [2.4] * rows],
        left=0.65,
        bottom=0.8 + 0.16 * -(-len(epochs) // 6),
        top=0.35,
        gap=(0.3, 0.75),
        least=6.6,
    )
    for index, ax in enumerate(axes.flat):
        if index >= len(attacks):
            ax.set_axis_off()
            continue
        attack = attacks[index]
        part = accuracy[accuracy["attack"] == attack]
        for epoch in epochs:
            lines = by_seed(part[part["epoch"] == epoch], x="eps", y="accuracy")
            if lines.shape[1] > 1:
                ax.plot(lines.index, lines, color=colours[epoch], lw=0.6, alpha=0.45)
            mean = lines.mean(axis=1)
            drawn = ax.plot(mean.index, mean, color=colours[epoch], lw=1.8, marker="o", ms=3)
            n = f"n = {part['n'].max():,}, {count(lines.columns, 'seed')}"
            told = [
                f"{attack}, epoch {epoch}, eps {eps:g}: {span(lines.loc[eps])}, {n}"
                for eps in lines.index
            ]
            tips(drawn[0], told)
        same = accuracy[accuracy["attack"].map(norms) == norms[attack]]["eps"]
        ax.set_xlim(0, same.max() * 1.02)
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(attack if norms[attack] in attack else f"{attack} ({norms[attack]})")
        ax.set_xlabel(f"eps ({norms[attack]})")
        share_axis(ax, "accuracy" if index % columns == 0 else None)
    handles = [Line2D([], [], color=colours[e], lw=2, label=f"epoch {e}") for e in epochs]
    legend(fig, handles, columns=min(6, len(handles)))
    return fig


TRAINING_LINES = {
    "train": ("#0072b2", "training"),
    "train_adversarial": ("#cc79a7", "training, attacked images"),
    "validation": ("#d55e00", "validation"),
}


@styled
def training_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy over the epochs, training and validation; thin lines are seeds.

    Adversarial training has no clean training images, or not only: what there is is drawn.
    """
    fig, axes = axes_grid([[4.3, 4.3], [2.2]], left=0.65, bottom=0.95, top=0.3, gap=(0.85, 0))
    handles = {}
    for ax, what in zip(axes[0], ("loss", "accuracy"), strict=True):
        for split, (colour, label) in TRAINING_LINES.items():
            column = f"{split}_{what}"
            if column not in history or history[column].isna().all():
                continue
            handles[split] = Line2D([], [], color=colour, lw=2, label=label)
            lines = by_seed(history, x="epoch", y=column)
            marker = "o" if len(lines) < 3 else None
            if lines.shape[1] > 1:
                ax.plot(lines.index, lines, color=colour, lw=0.6, alpha=0.45)
            mean = lines.mean(axis=1)
            drawn = ax.plot(lines.index, mean, color=colour, lw=1.8, marker=marker, ms=4)
            told = [
                f"{label}, epoch {epoch}: {said_of_seeds(of.to_frame('value'))}"
                for epoch, of in (lines if marker else lines.tail(1)).iterrows()
            ]
            tips(drawn[0], told)
        ax.set_xlabel("epoch")
        ax.set_ylabel(what)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(lw=0.5)
    axes[0][0].set_ylim(bottom=0)
    legend(fig, [*handles.values()], columns=len(handles))
    return fig
