"""The paper's figures 1, 2, 4 and 6, and a chart of its tables."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from retinanet.paper.loss_curves import Curve, Kind
from retinanet.plotting import BLUE, LINE_STYLES, PALETTE, VERMILLION, new_figure, own_settings, save_figure

if TYPE_CHECKING:
    from retinanet.paper.ablation import Outcome
    from retinanet.paper.detector_comparison import DetectorComparison
    from retinanet.paper.loss_distribution import LossDistribution
    from retinanet.paper.speed_accuracy import ScalePoint

CROSS_ENTROPY = r"$\mathrm{CE}(p_\mathrm{t}) = -%s\log(p_\mathrm{t})$"
FORMULAS = {
    "focal": r"$\mathrm{FL}(p_\mathrm{t}) = -%s(1 - p_\mathrm{t})^\gamma\,\log(p_\mathrm{t})$",
    "focal_star": r"$\mathrm{FL}^*(p_\mathrm{t}) = -%s\log(\sigma(\gamma x_\mathrm{t} + \beta))\,/\,\gamma$",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
NAME = 26  # characters in a line of a legend, two columns of which are as wide as a panel
MARKER = 10  # pixels that a point takes up
# where the text of a point may stand, best first: how far to the right and up in points of type, and its alignment
BESIDE = (
    (-4, 4, "right", "bottom"),
    (4, -4, "left", "top"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
)


@own_settings()
def draw_losses(curves: Sequence[Curve], output: Path, kind: Kind, alpha: float | None, shift: float) -> None:
    """Figure 1: the loss against the probability of the ground truth class. Arguments: see `loss_curves`."""
    figure = new_figure(6, 4.5)
    axes = figure.subplots()
    axes.axvspan(0.5, 1, color="0.93", zorder=0)
    _draw(axes, curves, "upper right")
    axes.annotate(
        "", (0.5, 1.3), (1, 1.3), arrowprops={"arrowstyle": "|-|,widthA=0.3,widthB=0.3", "shrinkA": 0, "shrinkB": 0}
    )
    axes.text(0.75, 1.37, "well-classified\nexamples", ha="center", va="bottom")
    _formulas(axes, kind, alpha, shift, 0.13)
    axes.set(xlim=(0, 1), ylim=(0, 5), xlabel="probability of ground truth class", ylabel="loss")
    save_figure(figure, output)


@own_settings()
def draw_derivatives(curves: Sequence[Curve], output: Path, kind: Kind, alpha: float | None, shift: float) -> None:
    """Figure 6: the derivative of the loss with respect to x_t, against x_t. Arguments: see `loss_curves`."""
    figure = new_figure(6, 4.5)
    axes = figure.subplots()
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    _draw(axes, curves, "lower right")
    _formulas(axes, kind, alpha, shift, 0.05)
    lowest = min(min(curve.y) for curve in curves)
    axes.set(xlim=(-5, 5), ylim=(1.1 * lowest or -1, -0.45 * lowest or 1))
    axes.set(xlabel=r"$x_\mathrm{t}$", ylabel=r"$dL\,/\,dx_\mathrm{t}$")
    save_figure(figure, output)


@own_settings()
def draw_distribution(distribution: "LossDistribution", output: Path) -> None:
    """Figure 4: the share of the loss in the easiest samples, one panel for foreground and one for background."""
    figure = new_figure(9, 3.9)
    for axes, kind in zip(figure.subplots(1, 2), ("foreground", "background"), strict=True):
        part = getattr(distribution, kind)
        curves = [Curve(gamma, np.linspace(0, 1, len(y)).tolist(), y) for gamma, y in part.curves.items()]
        _draw(axes, curves, "upper left")
        axes.set(xlim=(0, 1.005), ylim=(0, 1.005), title=f"{kind}, {part.drawn:,} samples")
        axes.set(xlabel=f"fraction of {kind} samples, easiest first", ylabel="cumulative normalised loss")
    save_figure(figure, output)


@own_settings()
def draw_speed_accuracy(comparison: "DetectorComparison", output: Path) -> None:
    """Figure 2: AP over the time per image at each scale, and the paper's own points in grey.

    The paper's have a panel of their own: its data and its machine are others, so that no axis means the same for both.
    """
    from matplotlib import rcParams

    from retinanet.paper.speed_accuracy import paper_points

    rcParams["text.parse_math"] = False  # names may contain $
    figure = new_figure(10.5, 5.4)
    here, paper = figure.subplots(1, 2)
    ours: dict[str, list[ScalePoint]] = {}
    for each in comparison.detectors:
        name = each.value + (", time as stated" if each.results_file else "")
        ours[name] = [(p.ms, 100 * p.AP, p.scale) for p in each.points if p.ms is not None and p.AP is not None]
    panels: tuple[tuple[Any, dict[str, list[ScalePoint]], Sequence[str]], ...]
    panels = ((here, ours, PALETTE), (paper, paper_points(), ("0.4",)))
    for axes, curves, colours in panels:
        for index, (name, points) in enumerate(curves.items()):
            if not points:
                continue
            line = LINE_STYLES[index % len(LINE_STYLES)] if len(points) > 1 else ""
            style = {"color": colours[index % len(colours)], "marker": MARKERS[index % len(MARKERS)], "linestyle": line}
            ms, ap, _ = zip(*points, strict=True)
            axes.plot(ms, ap, **style, label=fill(name, NAME))
        axes.set(xlabel="ms per image", ylabel="AP, %")
        axes.margins(0.1, 0.12)
        axes.spines[["top", "right"]].set_visible(False)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
        if axes.lines:
            axes.legend(frameon=False, fontsize="small", handlelength=3.5, **below)
    _spread_times(here, [ms for points in ours.values() for ms, *_ in points])
    here.set(title=fill(f"{comparison.data}, {comparison.backbone}, {comparison.machine}", 2 * NAME))
    paper.set(title="the paper: COCO test-dev, Nvidia M40")
    figure.draw_without_rendering()  # gives each point its place
    for axes, curves, _ in panels:
        _write_scales(axes, [point for points in curves.values() for point in points])
    save_figure(figure, output)


def _spread_times(axes: Any, times: Sequence[float]) -> None:
    """Make the axis of times logarithmic if one detector takes many times as long as another."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    if times and max(times) > 4 * min(times):
        axes.set_xscale("log")
        axes.xaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter=ScalarFormatter()
        )


def _write_scales(axes: Any, points: "Sequence[ScalePoint]") -> None:
    """Write the scale of each point beside it, unless it would cover a point, a line or another scale."""
    from matplotlib.transforms import Bbox

    places = axes.transData.transform([point[:2] for point in points]) if points else []
    lines = [line.get_path().transformed(axes.transData) for line in axes.lines if len(line.get_xdata()) > 1]
    taken = [Bbox.from_bounds(x - MARKER / 2, y - MARKER / 2, MARKER, MARKER) for x, y in places]
    for ms, ap, scale in points:
        for x, y, horizontal, vertical in BESIDE if scale is not None else ():
            offset = {"xytext": (x, y), "textcoords": "offset points", "ha": horizontal, "va": vertical}
            text = axes.annotate(f"{scale}", (ms, ap), **offset, fontsize=8, color="0.25", in_layout=False)
            box = text.get_window_extent()
            if not any(map(box.overlaps, taken)) and not any(line.intersects_bbox(box, False) for line in lines):
                taken.append(box)
                break
            text.remove()


def _draw(axes: Any, curves: Sequence[Curve], legend: str) -> None:
    """Curves of rising gamma, from dark to light with different dashes, so that they differ in grey too."""
    from matplotlib import colormaps

    lightest = min(0.78, 0.3 * (len(curves) - 1))
    shades = colormaps["inferno"](np.linspace(0, lightest, len(curves)))
    for index, curve in enumerate(curves):
        name = "CE" if curve.gamma == 0 else f"$\\gamma$ = {curve.gamma:g}"
        style = {"color": shades[index], "linestyle": LINE_STYLES[index % len(LINE_STYLES)], "linewidth": 1.8}
        axes.plot(curve.x, curve.y, **style, label=name, zorder=3 - index / len(curves))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc=legend, handlelength=3.5)


def _formulas(axes: Any, kind: Kind, alpha: float | None, shift: float, left: float) -> None:
    weight = "" if alpha is None else r"\alpha_\mathrm{t}\,"
    lines = [CROSS_ENTROPY % weight, FORMULAS[kind] % weight]
    parameters = [] if alpha is None else [rf"$\alpha_\mathrm{{t}}$ = {alpha:g}"]
    parameters += [rf"$\beta$ = {shift:g}"] if kind == "focal_star" else []
    lines += [", ".join(parameters)] if parameters else []
    axes.text(left, 0.98, "\n".join(lines), transform=axes.transAxes, va="top", linespacing=1.5)


@own_settings()
def ablation_chart(outcomes: "Sequence[Outcome]", output: Path) -> None:
    """AP of each row in percent beside the paper's, with one panel and one scale for each table."""
    names = list(dict.fromkeys(outcome.table for outcome in outcomes))
    figure = new_figure(1 + 4.2 * len(names), 3.8)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = [outcome for outcome in outcomes if outcome.table == name]
        x = range(len(rows))
        ours = [100 * (outcome.mean["AP"] or 0) for outcome in rows]
        spread = [100 * (outcome.spread["AP"] or 0) for outcome in rows]
        axes.bar([i - 0.2 for i in x], ours, 0.38, yerr=spread if any(spread) else None, color=BLUE, label="this data")
        theirs = [outcome.paper["AP"] or 0 for outcome in rows]
        axes.bar(
            [i + 0.2 for i in x], theirs, 0.38, color="white", edgecolor=VERMILLION, hatch="///", label="paper, COCO"
        )
        for i, outcome in enumerate(rows):
            if outcome.mean["AP"] is None:
                reason = "no objects" if any(run["diverged_at"] is None for run in outcome.runs) else "diverged"
                axes.annotate(reason, (i - 0.2, 0), rotation=90, ha="center", va="bottom")
        axes.set(title=f"Table {name}", ylabel="AP, %", ylim=(0, 1.3 * max(*ours, *theirs, 1)))  # room for the legend
        axes.set_xticks(x, [outcome.value for outcome in rows], rotation=30, ha="right")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
    save_figure(figure, output, dpi=110)
