"""The figures of accuracy under attack and of training."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from faultline.report import canvas
from faultline.report.page import count, said_of_seeds, span


@canvas.styled
def robustness_curves(accuracy: pd.DataFrame, *, norms: dict[str, str]) -> Figure:
    """Accuracy against eps: a panel per attack and worst case, a line per checkpoint epoch, thin
    lines per seed.

    norms: attack or worst case -> its norm; panels of one norm share their eps axis.
    """
    attacks = sorted(accuracy["attack"].unique(), key=lambda a: list(norms).index(a))
    colours = canvas.epoch_colours(sorted(accuracy["epoch"].unique()))
    size = min(3.4, (canvas.MAX_WIDTH - 0.9) / min(4, len(attacks)) - 0.3), 2.4
    room = canvas.Room(bottom=0.8 + 0.16 * -(-len(colours) // 6), gap=(0.3, 0.75), least=6.6)
    fig, panels = canvas.panels(
        canvas.split(accuracy, "attack", attacks), size, room, columns=4, ylabel="accuracy"
    )
    for ax, (attack, part) in panels:
        for epoch, colour in colours.items():
            lines = canvas.by_seed(part[part["epoch"] == epoch], x="eps", y="accuracy")
            n = f"n = {part['n'].max():,}, {count(lines.columns, 'seed')}"
            says = [
                f"{attack}, epoch {epoch}, eps {eps:g}: {span(accuracies)}, {n}"
                for eps, accuracies in lines.iterrows()
            ]
            canvas.mean_line(ax, lines, colour, says=says, marker="o", ms=3)
        same = accuracy[accuracy["attack"].map(norms) == norms[attack]]["eps"]
        ax.set_xlim(0, same.max() * 1.02)
        canvas.eps_axis(ax)
        ax.set_title(attack if norms[attack] in attack else f"{attack} ({norms[attack]})")
        ax.set_xlabel(f"eps ({norms[attack]})")
        canvas.share_axis(ax)
    handles = [canvas.key(f"epoch {e}", color=colour, lw=2) for e, colour in colours.items()]
    canvas.legend(fig, handles, columns=min(6, len(handles)))
    return fig


TRAINING_LINES = {
    "train": ("#0072b2", "training"),
    "train_adversarial": ("#cc79a7", "training, attacked images"),
    "validation": ("#d55e00", "validation"),
}


@canvas.styled
def training_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy over the epochs, training and validation; thin lines are seeds.

    Adversarial training has no clean training images, or not only: what there is is drawn.
    """
    room = canvas.Room(bottom=0.95, top=0.3, gap=(0.85, 0), least=0)
    fig, axes = canvas.axes_grid([[4.3, 4.3], [2.2]], room)
    handles = {}
    for ax, what in zip(axes[0], ("loss", "accuracy"), strict=True):
        for split, (colour, label) in TRAINING_LINES.items():
            column = f"{split}_{what}"
            if column not in history or history[column].isna().all():
                continue
            handles[split] = canvas.key(label, color=colour, lw=2)
            lines = canvas.by_seed(history, x="epoch", y=column)
            marker = "o" if len(lines) < 3 else None
            says = [
                f"{label}, epoch {epoch}: {said_of_seeds(of.to_frame('value'))}"
                for epoch, of in (lines if marker else lines.tail(1)).iterrows()
            ]
            canvas.mean_line(ax, lines, colour, says=says, marker=marker, ms=4)
        ax.set_xlabel("epoch")
        ax.set_ylabel(what)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(lw=0.5)
    axes[0][0].set_ylim(bottom=0)
    canvas.legend(fig, [*handles.values()], columns=len(handles))
    return fig
