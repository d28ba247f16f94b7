"""`retina loss-plot` behind its options: which go together, their defaults, one function for each kind of figure."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from retinacli.options import check_writable, fail

SUFFIXES = (".png", ".pdf", ".svg")


class Loss(StrEnum):
    FOCAL = "focal"
    FOCAL_STAR = "focal_star"


def check(
    output: Path,
    cdf: Path | None,
    loss: Loss,
    shift: float | None,
    only_cdf: Mapping[str, Any],
    never_cdf: Mapping[str, Any],
) -> None:
    """Fail where one option needs or excludes another, or where the figure cannot be written."""
    if output.suffix.lower() not in SUFFIXES:
        fail(f"-o {output}: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}", 2)
    for name, value in (only_cdf if cdf is None else never_cdf).items():
        if value is not None and value is not False:
            fail(f"{name} needs --cdf WEIGHTS" if cdf is None else f"{name} does not go with --cdf", 2)
    if shift is not None and loss is Loss.FOCAL:
        fail("--shift is beta of FL*; add --loss focal_star", 2)
    check_writable(output)


def gammas(asked: Sequence[float] | None, loss: Loss, cdf: Path | None) -> list[float]:
    """Rising, each once; by default the paper's of figure 4 with --cdf, else those of figure 1."""
    if asked:
        if loss is Loss.FOCAL_STAR and 0 in asked:
            fail("--gamma 0: focal_star divides by gamma; expected a number above 0", 2)
        return sorted(set(asked))
    return [0, 0.5, 1, 2] if cdf is not None else [0, 0.5, 1, 2, 5]


def curves(
    gammas: Sequence[float], output: Path, kind: Any, alpha: float | None, shift: float, gradient: bool, json_: bool
) -> None:
    """Figure 1, or 6 with `gradient`."""
    from retinacli import console as render
    from retinacli.render import loss_plot as render_lossplot
    from retinanet.paper import figures as lossfigures
    from retinanet.paper import loss_curves as losscurves

    settings = {"kind": kind, "alpha": alpha, "shift": shift}
    drawn = (losscurves.derivative_curves if gradient else losscurves.loss_curves)(gammas, **settings)
    (lossfigures.draw_derivatives if gradient else lossfigures.draw_losses)(drawn, output, **settings)
    points = losscurves.points(gammas, **settings, derivative=gradient)
    render.message(f"figure: {output}")
    if json_:
        print(json.dumps(render_lossplot.curves_document(settings, drawn, points, gradient, output)))
    else:
        render_lossplot.points_table(points, gradient)


def distribution(
    weights: Path,
    gammas: Sequence[float],
    output: Path,
    data: str | None,
    split: str,
    overrides: Sequence[str],
    seed: int,
    device: str | None,
    json_: bool,
) -> None:
    """Figure 4."""
    from retinacli import console as render
    from retinacli.render import loss_plot as render_lossplot
    from retinanet.devices import pick_device
    from retinanet.evaluation.detector_and_data import DataSource
    from retinanet.paper.figures import draw_distribution
    from retinanet.paper.loss_distribution import loss_distribution

    with render.counter("images") as progress:
        where = pick_device(device or "auto")
        found = loss_distribution(weights, gammas, DataSource(data, split, overrides), seed, where, progress)
    for note in found.notes:
        render.message(note)
    draw_distribution(found, output)
    render.message(f"figure: {output}")
    if json_:
        print(json.dumps(render_lossplot.distribution_document(weights, split, seed, found, output)))
    else:
        render_lossplot.shares_table(found)
