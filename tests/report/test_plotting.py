"""How figures and tables are drawn, under any settings of matplotlib."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retinanet.training.curves import _loss_limit, training_curves

SCRIPT = """
from pathlib import Path
from retinanet.paper.figures import draw_losses
from retinanet.paper.loss_curves import Curve
draw_losses([Curve(2.0, [0.1, 0.9], [1.0, 0.1])], Path("made.png"), "focal", None, 0)
"""


def write_log(folder: Path, losses: list[float]) -> Path:
    step = {"kind": "step", "lr": 0.1, "box": 0.5}
    lines = [json.dumps(step | {"step": index, "cls": loss}) for index, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "metrics.jsonl"


@pytest.mark.parametrize("steps", [1, 4])
def test_the_axis_of_a_short_run_counts_whole_steps(tmp_path: Path, monkeypatch, steps: int):
    ticks: list[float] = []
    monkeypatch.setattr(
        "retinanet.training.curves.save_figure",
        lambda figure, *_, **__: ticks.extend(tick for axes in figure.axes[:2] for tick in axes.get_xticks()),
    )
    training_curves(write_log(tmp_path, [1.0] * steps), tmp_path / "a.png")
    assert ticks and all(tick == round(tick) for tick in ticks)


def test_a_figure_is_the_same_under_any_settings(tmp_path: Path):
    import matplotlib

    training_curves(write_log(tmp_path, [1.0, 0.5]), tmp_path / "a.png")
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "figure.dpi": 30}):
        training_curves(tmp_path / "metrics.jsonl", tmp_path / "b.png")
        assert matplotlib.rcParams["text.usetex"] is True
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "backend"), [(b"axes.facecolor: \xff\xfe\xfa\n", "agg"), (b"text.usetex: true\n", "none")]
)
def test_invalid_settings_stop_no_figure(tmp_path: Path, content: bytes, backend: str):
    (tmp_path / "matplotlibrc").write_bytes(content)
    environment = os.environ | {"MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "made.png").is_file()


@pytest.mark.parametrize(
    ("losses", "limit"), [([5000.0] + [1.0] * 40, 2.0), ([2.0, 1.5] + [1.0] * 40, None), ([9.0], None), ([], None)]
)
def test_one_large_loss_does_not_flatten_the_others(losses: list[float], limit: float | None):
    assert _loss_limit([{"cls": loss, "box": 0.5} for loss in losses]) == limit


def test_an_evaluation_without_objects_leaves_no_point(tmp_path: Path, monkeypatch):
    """An AP is null without objects; logs of earlier versions have -1."""
    log, drawn = write_log(tmp_path, [1.0, 0.5]), []
    aps = (0.5, None, -1.0, 0.25)
    lines = [json.dumps({"kind": "eval", "step": step, "AP": ap, "AP50": ap}) for step, ap in enumerate(aps)]
    log.write_text(log.read_text() + "\n".join(lines) + "\n")
    monkeypatch.setattr("retinanet.training.curves.save_figure", lambda figure, *_, **__: drawn.append(figure))
    training_curves(log, tmp_path / "curves.png")
    for line in drawn[0].axes[2].lines:
        assert list(line.get_xdata()) == [0, 1, 2, 3]
        np.testing.assert_array_equal(line.get_ydata(), [0.5, np.nan, np.nan, 0.25])


def test_wide_tables_show_that_they_scroll():
    import retinanet.report

    css = (Path(retinanet.report.__file__).parent / "report.css").read_text()
    assert css.count("100% local no-repeat") == 2
