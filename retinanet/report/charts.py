"""Figures of an evaluation, as SVG that can stand in a page of HTML."""

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from retinanet.evaluation.error_analysis import BINS, Calibration
from retinanet.plotting import BLUE, LINE_STYLES, PALETTE, new_figure
from retinanet.report.html import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_CURVES = 10  # classes that can be told apart
FEW_CELLS = 20  # classes whose counts can be read in the cells of a matrix
TICKED = 100  # classes whose names can be read along a matrix


def bars(
    names: Sequence[str], values: Sequence[float], texts: Sequence[str], axis: str, label: str, sums: int = 0
) -> str:
    """Horizontal ones, the first on top. texts: stand at their ends. sums: so many of the last ones are drawn in grey."""
    figure = new_figure(5, 0.6 + 0.27 * len(names))
    axes = figure.subplots()
    colours = [BLUE] * (len(names) - sums) + ["0.75"] * sums
    drawn = axes.barh(range(len(names)), values, 0.7, color=colours)
    axes.bar_label(drawn, texts, padding=3)
    axes.set_yticks(range(len(names)), names)
    low, high = min(0, *values), max(0, *values)
    axes.set(xlabel=axis, xlim=(1.2 * low, 1.18 * high or 1))  # room for the texts
    axes.locator_params(axis="x", integer=all(isinstance(value, int) for value in values))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure, label)


def precision_recall(recall: np.ndarray, curves: np.ndarray, names: Sequence[str], label: str) -> str:
    """recall: (101,). curves: (101, K) precision, NaN for a class without objects."""
    known = [index for index in range(len(names)) if not np.isnan(curves[:, index]).any()]
    figure = new_figure(4.8, 3.9 + 0.19 * ((len(known) + 1) // 2 if len(known) <= FEW_CURVES else 1))
    axes = figure.subplots()
    if len(known) <= FEW_CURVES:
        for index in known:
            style = {
                "color": PALETTE[index % len(PALETTE)],
                "linestyle": LINE_STYLES[(index + index // len(PALETTE)) % len(LINE_STYLES)],
            }
            axes.plot(recall, curves[:, index], linewidth=1.8, clip_on=False, **style)
        texts = [f"{_plain(names[index])} {curves[:, index].mean():.3f}" for index in known]
    else:
        for index in known:
            axes.plot(recall, curves[:, index], color="0.75", linewidth=0.6, rasterized=True)
        mean = curves[:, known].mean(axis=1)
        axes.plot(recall, mean, color=BLUE, linewidth=2.4)
        texts = [f"mean of {len(known)} classes {mean.mean():.3f}"]
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="recall", ylabel="precision")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if known:
        lines = axes.lines[-len(texts) :]
        legend = figure.legend(
            lines, map(str, range(len(lines))), loc="outside lower center", ncols=2, frameon=False, handlelength=3.2
        )
        for shown, text in zip(legend.get_texts(), texts, strict=True):  # a label that begins with _ would be left out
            shown.set_text(text)
    return _svg(figure, label)


def reliability(calibration: Calibration, label: str) -> str:
    """The share of right detections over the mean score of each bin; below, how many detections a bin has."""
    figure = new_figure(4.8, 4.8)
    share, count = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = calibration.counts > 0
    centres = (np.arange(BINS) + 0.5) / BINS
    share.bar(centres[filled], calibration.precision[filled], 0.9 / BINS, color="0.85")
    share.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, label="scores that keep their word")
    share.plot(
        calibration.scores[filled], calibration.precision[filled], "o-", color=BLUE, markersize=4, label="this detector"
    )
    share.set(xlim=(0, 1), ylim=(0, 1.005), ylabel="share right")
    share.legend(frameon=False, loc="upper left")
    drawn = count.bar(centres, calibration.counts, 0.9 / BINS, color=BLUE)
    count.bar_label(drawn, [f"{n:,}" if n else "" for n in calibration.counts.tolist()], fontsize=7, padding=1)
    count.set(xlabel="score", ylabel="detections", ylim=(0, 1.2 * max(1, calibration.counts.max())))
    for axes in (share, count):
        axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure, label)


def confusion(matrix: np.ndarray, names: Sequence[str], label: str) -> str:
    """Shades are shares of a row. matrix: (K + 1, K + 1). names: K + 1."""
    few = len(names) - 1 <= FEW_CELLS
    side = 2.6 + 0.36 * len(names) if few else 11
    figure = new_figure(side, side)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if few:
        for (row, column), number in np.ndenumerate(matrix):
            ink = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(number) if number else "", ha="center", va="center", color=ink, fontsize=8)
    else:
        scale = figure.colorbar(picture, shrink=0.5, label="share of the row")
        ticks = [0, 0.01, 0.1, 0.25, 0.5, 1]
        scale.set_ticks(np.sqrt(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks])
    if len(names) <= TICKED + 1:
        size = 9 if few else 550 / len(names)
        texts = [_plain(name) for name in names]
        axes.set_xticks(range(len(names)), texts, rotation=90, fontsize=min(9, size))
        axes.set_yticks(range(len(names)), texts, fontsize=min(9, size))
    else:
        axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.set(xlabel="detected as", ylabel="object")
    return _svg(figure, label)


def _plain(name: str) -> str:
    """Short, and no formula."""
    return shortened(name).replace("$", r"\$")


def _svg(figure: "Figure", label: str) -> str:
    """For a page that may hold others: whatever could meddle with them is taken out. label: also makes ids unique."""
    import matplotlib

    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": label, "path.simplify_threshold": 0.3}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has the letters
        figure.savefig(buffer, format="svg", dpi=150, metadata=nothing, bbox_inches="tight", pad_inches=0.03)
    drawn = buffer.getvalue()
    *_, width, height = re.findall(r"[\d.]+", drawn[drawn.index("viewBox") : drawn.index("xmlns=")])[:4]
    body = drawn[drawn.index(">", drawn.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.S)  # would hold for the whole page
    body = re.sub(r'(<(?:g|image)\b[^>]*?) id="[^"]*"', r"\1", body)  # figure_1 stands in each; nothing refers to it
    body = re.sub(r"font-family: [^;\"<]*", "font-family: inherit", body)
    start = (
        f'<svg class="chart" style="--width:{width}" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {width} {height}">'
    )
    return start + re.sub(r"\s*\n\s*", "\n", body)
