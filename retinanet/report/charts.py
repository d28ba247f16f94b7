"""Charts of an evaluation as SVG inside an HTML page."""

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from retinanet.evaluation.error_analysis import BINS, Calibration
from retinanet.plotting import BLUE, LINE_STYLES, PALETTE, new_figure, own_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LETTERS = 22  # of a name in a chart or picture
MAX_CURVES = 10  # classes whose curves can be told apart
MAX_NUMBERED = 20  # classes whose counts can be read in the cells of a matrix
MAX_CELLS = 1000  # of a matrix along a side, about as many as it has pixels
MAX_NAMED = 100  # classes whose names can be read along a matrix


@own_settings()
def bar_chart(
    names: Sequence[str], values: Sequence[float], texts: Sequence[str], axis_label: str, alt: str, grey: int = 0
) -> Markup:
    """Horizontal bars, the first on top, with `texts` at their ends; the last `grey` bars are grey."""
    figure = new_figure(5, 0.6 + 0.27 * len(names))
    axes = figure.subplots()
    colours = [BLUE] * (len(names) - grey) + ["0.75"] * grey
    bars = axes.barh(range(len(names)), values, 0.7, color=colours)
    axes.bar_label(bars, texts, padding=3)
    axes.set_yticks(range(len(names)), names)
    low, high = min(0, *values), max(0, *values)
    axes.set(xlabel=axis_label, xlim=(1.2 * low, 1.18 * high or 1))  # room for the texts
    axes.locator_params(axis="x", integer=all(isinstance(value, int) for value in values))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure, alt)


@own_settings()
def precision_recall_chart(recall: np.ndarray, curves: np.ndarray, names: Sequence[str], alt: str) -> Markup:
    """A curve for each class with objects; if there are many, all in grey and their mean in blue.

    recall: (101,). curves: (101, K) precision, NaN for a class without objects.
    """
    known = [index for index in range(len(names)) if not np.isnan(curves[:, index]).any()]
    few = len(known) <= MAX_CURVES
    figure = new_figure(4.8, 3.9 + 0.19 * ((len(known) + 1) // 2 if few else 1))
    axes = figure.subplots()
    if few:
        for index in known:
            turn, colour = divmod(index, len(PALETTE))
            style = {"color": PALETTE[colour], "linestyle": LINE_STYLES[(index + turn) % len(LINE_STYLES)]}
            axes.plot(recall, curves[:, index], linewidth=1.8, clip_on=False, **style)
        texts = [f"{_plain(names[index])} {curves[:, index].mean():.3f}" for index in known]
    else:
        axes.plot(recall, curves[:, known], color="0.75", linewidth=0.6, rasterized=True)
        mean = curves[:, known].mean(axis=1)
        axes.plot(recall, mean, color=BLUE, linewidth=2.4)
        texts = [f"mean of {len(known)} classes {mean.mean():.3f}"]
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="recall", ylabel="precision")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if known:
        lines = axes.lines[-len(texts) :]
        placeholders = [str(index) for index in range(len(lines))]  # a label that begins with _ would be left out
        legend = figure.legend(
            lines, placeholders, loc="outside lower center", ncols=2, frameon=False, handlelength=3.2
        )
        for entry, text in zip(legend.get_texts(), texts, strict=True):
            entry.set_text(text)
    return _svg(figure, alt)


@own_settings()
def reliability_chart(calibration: Calibration, alt: str) -> Markup:
    """The share of correct detections against the mean score of each bin; below it the detections in each bin."""
    figure = new_figure(4.8, 4.8)
    share, count = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = calibration.counts > 0
    centres = (np.arange(BINS) + 0.5) / BINS
    share.bar(centres[filled], calibration.precision[filled], 0.9 / BINS, color="0.85")
    share.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, label="perfect calibration")
    share.plot(
        calibration.scores[filled], calibration.precision[filled], "o-", color=BLUE, markersize=4, label="this detector"
    )
    share.set(xlim=(0, 1), ylim=(0, 1.005), ylabel="share of correct detections")
    share.legend(frameon=False, loc="upper left")
    bars = count.bar(centres, calibration.counts, 0.9 / BINS, color=BLUE)
    count.bar_label(bars, [f"{n:,}" if n else "" for n in calibration.counts.tolist()], fontsize=7, padding=1)
    count.set(xlabel="score", ylabel="detections", ylim=(0, 1.2 * max(1, calibration.counts.max())))
    for axes in (share, count):
        axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure, alt)


@own_settings()
def confusion_chart(matrix: np.ndarray, names: Sequence[str], alt: str) -> Markup:
    """A matrix shaded by the share of each row. matrix: (K + 1, K + 1). names: K + 1.

    With more than MAX_CELLS classes a cell stands for several neighbours and shows the largest of their shares.
    """
    classes = len(names) - 1
    numbered = classes <= MAX_NUMBERED
    side = 2.6 + 0.36 * len(names) if numbered else 11
    figure = new_figure(side, side)
    axes = figure.subplots()
    shares = _shares(matrix)
    cells = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if numbered:
        for (row, column), number in np.ndenumerate(matrix):
            ink = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(number) if number else "", ha="center", va="center", color=ink, fontsize=8)
    else:
        scale = figure.colorbar(cells, shrink=0.5, label="share of the row")
        ticks = [0, 0.01, 0.1, 0.25, 0.5, 1]
        scale.set_ticks(np.sqrt(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks])
    if classes <= MAX_NAMED:
        size = 9 if numbered else min(9, 550 / len(names))
        texts = [_plain(name) for name in names]
        axes.set_xticks(range(len(names)), texts, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), texts, fontsize=size)
    else:
        axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.set(xlabel="class of the detection", ylabel="class of the object")
    return _svg(figure, alt)


def _shares(matrix: np.ndarray) -> np.ndarray:
    """(C + 1, C + 1) the largest share of its row in each cell, with C <= MAX_CELLS; the last class is always alone."""
    classes = len(matrix) - 1
    cells = np.arange(classes + 1) // max(1, -(-classes // MAX_CELLS))
    cells[-1] = cells[-2] + 1 if classes else 0
    rows, columns = matrix.nonzero()
    shares = np.zeros((cells[-1] + 1, cells[-1] + 1))
    np.maximum.at(shares, (cells[rows], cells[columns]), matrix[rows, columns] / matrix.sum(axis=1)[rows])
    return shares


def shortened(name: str) -> str:
    """The name, cut to MAX_LETTERS with an ellipsis."""
    return name if len(name) <= MAX_LETTERS else name[: MAX_LETTERS - 1] + "\u2026"


def _plain(name: str) -> str:
    """Shortened, and not read as a formula by matplotlib."""
    return shortened(name).replace("$", r"\$")


def _svg(figure: "Figure", alt: str) -> Markup:
    """The figure without its styles and repeated ids, which would affect the rest of the page.

    alt: text for readers who do not see the figure; it also makes the ids of each figure's clip paths unique.
    """
    import matplotlib

    buffer = io.StringIO()
    no_metadata: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": alt, "path.simplify_threshold": 0.3}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser's fonts have it
        figure.savefig(buffer, format="svg", dpi=150, metadata=no_metadata, bbox_inches="tight", pad_inches=0.03)
    drawn = buffer.getvalue()
    *_, width, height = re.findall(r"[\d.]+", drawn[drawn.index("viewBox") : drawn.index("xmlns=")])[:4]
    body = drawn[drawn.index(">", drawn.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.S)  # would hold for the whole page
    body = re.sub(r'(<(?:g|image)\b[^>]*?) id="[^"]*"', r"\1", body)  # each figure has a figure_1; no link uses it
    body = re.sub(r"font-family: [^;\"<]*", "font-family: inherit", body)
    start = f'<svg class="chart" style="--width:{width}" role="img" aria-label="{escape(alt)}" '
    return Markup(f'{start}viewBox="0 0 {width} {height}">' + re.sub(r"\s*\n\s*", "\n", body))
