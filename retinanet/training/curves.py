"""The training curves of a run, drawn from its log."""

from pathlib import Path
from typing import Any

import numpy as np

from retinanet.plotting import BLUE, GREEN, VERMILLION, new_figure, own_settings, save_figure
from retinanet.training.run_folder import read_log


@own_settings()
def training_curves(log: Path, output: Path) -> None:
    """Plot losses, learning rate and AP. log: the run's metrics.jsonl. output: an image file."""
    records, _ = read_log(log)
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "eval"]
    figure = new_figure(11, 3.6)
    losses, rate, precision = figure.subplots(1, 3)
    x = [record["step"] for record in steps]
    losses.plot(x, [record["cls"] for record in steps], color=BLUE, label="classification")
    losses.plot(x, [record["box"] for record in steps], color=VERMILLION, linestyle="--", label="box")
    losses.set(title="Loss", xlabel="step", ylim=(0, _loss_limit(steps)))
    losses.legend(frameon=False)
    rate.plot(x, [record["lr"] for record in steps], color=GREEN)
    rate.set(title="Learning rate", xlabel="step", ylim=(0, None))
    x = [record["step"] for record in evaluations]
    ap50, ap = (np.array([record[name] for record in evaluations], float) for name in ("AP50", "AP"))  # null is NaN
    precision.plot(x, ap50, "s--", color=VERMILLION, markersize=3, label="AP50")
    precision.plot(x, ap, "o-", color=BLUE, markersize=3, label="AP")
    precision.set(title="Validation", xlabel="step", ylim=(0, 1))
    precision.legend(frameon=False, loc="lower right")
    for axes in (losses, rate, precision):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    save_figure(figure, output, dpi=110)


def _loss_limit(steps: list[dict[str, Any]]) -> float | None:
    """The end of the axis if the largest loss would flatten the others, which then leaves the plot; None otherwise."""
    values = np.array([record[part] for record in steps for part in ("cls", "box")])
    values = values[np.isfinite(values)]
    usual = 2 * float(np.quantile(values, 0.95)) if len(values) >= 20 else 0.0
    return usual if 0 < 2 * usual < values.max(initial=0) else None
