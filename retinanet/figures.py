"""Figures, drawn with matplotlib."""

import json
from pathlib import Path

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito 2008: told apart by all, and in grey


def training_curves(log: Path, output: Path) -> None:
    """Losses, learning rate and AP over the steps of a run's `log` (metrics.jsonl), as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "eval"]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
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
    figure.savefig(output, dpi=110)
