"""The figures of accuracy under attack and of training."""

from collections.abc import Collection

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from faultline.report import canvas
from faultline.report.page import count, said_of_seeds, span


@canvas.styled
def robustness_curves(
    accuracy: pd.DataFrame, *, norms: dict[str, str], worst: Collection[str]
) -> Figure:
    """Accuracy in % against eps, at one epoch: a panel per norm, a line per attack and worst case,
    thin lines per seed.

    norms: attack or worst case -> its norm. worst: which of these are worst cases; they are dark.
    """
    attacks = sorted(accuracy["attack"].unique(), key=lambda a: list(norms).index(a))
    plain = [name for name in attacks if name not in worst]
    colours = {name: canvas.COLOURS[i % len(canvas.COLOURS)] for i, name in enumerate(plain)}
    colours |= {name: canvas.DARK for name in attacks if name in worst}
    of_norm = accuracy["attack"].map(norms)
    parts = {norm: accuracy[of_norm == norm] for norm in dict.fromkeys(norms.values())}
    parts = {norm: part for norm, part in parts.items() if len(part)}
    size = min(4.2, (canvas.MAX_WIDTH - 0.9) / len(parts) - 0.3), 2.6
    room = canvas.Room(bottom=0.8 + 0.16 * -(-len(colours) // 6), gap=(0.3, 0.75), least=6.6)
    fig, panels = canvas.panels(parts, size, room, ylabel="accuracy (%)")
    for ax, (norm, part) in panels:
        for attack in attacks:
            lines = 100 * canvas.by_seed(part[part["attack"] == attack], x="eps", y="accuracy")
            if not len(lines):
                continue
            n = f"n = {part['n'].max():,}, {count(lines.columns, 'seed')}"
            says = [
                f"{attack}, eps {eps:g}: {span(accuracies / 100)}, {n}"
                for eps, accuracies in lines.iterrows()
            ]
            canvas.mean_line(ax, lines, colours[attack], says=says, marker="o", ms=3)
        ax.set_xlim(0, part["eps"].max() * 1.02)
        ax.set_ylim(-2, 102)
        canvas.eps_axis(ax)
        ax.set_xlabel(f"eps ({norm})")
        ax.grid(lw=0.5)
    handles = [canvas.key(name, color=colour, lw=2) for name, colour in colours.items()]
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
