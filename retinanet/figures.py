"""Figures, drawn with matplotlib."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retinanet.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from retinanet.ablation import Outcome

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito 2008: told apart by all, and in grey


def new_figure(width: float, height: float) -> "Figure":
    """An empty one of so many inches, which needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def training_curves(log: Path, output: Path) -> None:
    """Losses, learning rate and AP over the steps of a run's `log` (metrics.jsonl), as a PNG."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "eval"]
    figure = new_figure(11, 3.6)
    losses, rate, precision = figure.subplots(1, 3)
    x = [record["step"] for record in steps]
    losses.plot(x, [record["cls"] for record in steps], color=BLUE, label="classification")
    losses.plot(x, [record["box"] for record in steps], color=ORANGE, linestyle="--", label="box")
    losses.set(title="Loss", xlabel="step", ylim=(0, None))
    losses.legend(frameon=False)
    rate.plot(x, [record["lr"] for record in steps], color=GREEN)
    rate.set(title="Learning rate", xlabel="step", ylim=(0, None))
    x = [record["step"] for record in evaluations]
    precision.plot(x, [record["AP50"] for record in evaluations], "s--", color=ORANGE, markersize=3, label="AP50")
    precision.plot(x, [record["AP"] for record in evaluations], "o-", color=BLUE, markersize=3, label="AP")
    precision.set(title="Validation", xlabel="step", ylim=(0, 1))
    precision.legend(frameon=False, loc="lower right")
    for axes in (losses, rate, precision):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def ablation_chart(outcomes: "Sequence[Outcome]", output: Path) -> None:
    """AP of each row, one panel for each table, beside the paper's, as a PNG. Both in percent, on scales of their own."""
    names = list(dict.fromkeys(outcome.table for outcome in outcomes))
    figure = new_figure(1 + 4.2 * len(names), 3.8)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        found = [outcome for outcome in outcomes if outcome.table == name]
        x = range(len(found))
        ours = [100 * (outcome.mean["AP"] or 0) for outcome in found]
        spread = [100 * (outcome.spread["AP"] or 0) for outcome in found]
        axes.bar([i - 0.2 for i in x], ours, 0.38, yerr=spread if any(spread) else None, color=BLUE, label="here")
        theirs = [outcome.paper["AP"] or 0 for outcome in found]
        axes.bar([i + 0.2 for i in x], theirs, 0.38, color="white", edgecolor=ORANGE, hatch="///", label="paper, COCO")
        for i, outcome in enumerate(found):
            if outcome.mean["AP"] is None:
                axes.annotate("diverged", (i - 0.2, 0), rotation=90, ha="center", va="bottom")
        axes.set(title=f"Table {name}", ylabel="AP, %", ylim=(0, 1.3 * max(*ours, *theirs, 1)))  # room for the legend
        axes.set_xticks(x, [outcome.value for outcome in found], rotation=30, ha="right")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
