"""Shows the numbers of the loss figures."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli.console import headed, print_json, print_table

if TYPE_CHECKING:
    from retinanet.paper.loss_curves import Curve, Point
    from retinanet.paper.loss_distribution import Distribution, LossDistribution


def show_curves(
    settings: dict[str, Any],
    curves: "Sequence[Curve]",
    points: "Sequence[Point]",
    gradient: bool,
    figure: Path,
    as_json: bool,
) -> None:
    """Show the loss or its gradient at a few probabilities, relative to cross entropy."""
    if as_json:
        x, y = ("x_t", "gradient") if gradient else ("p_t", "loss")
        document = {
            "loss": settings["kind"],
            "alpha": settings["alpha"],
            "shift": settings["shift"] if settings["kind"] == "focal_star" else None,
            "curves": [{"gamma": curve.gamma, x: curve.x, y: curve.y} for curve in curves],
            "table": [{"gamma": p.gamma, "p_t": p.p_t, y: p.value, "factor": p.factor} for p in points],
            "figure": str(figure),
        }
        print_json(document)
        return
    places = list(dict.fromkeys(point.p_t for point in points))
    columns = ["gamma", *(text for p_t in places for text in (f"p_t {p_t:g}", "times below CE"))]
    rows = [
        [_gamma(gamma), *(text for p in group for text in (f"{p.value:.4g}", f"{p.factor:.4g}"))]
        for gamma, group in groupby(points, lambda point: point.gamma)
    ]
    name = "Gradient dL/dx_t" if gradient else "Loss"
    title = f"{name} at probability p_t of the true class, and how many times it is below cross entropy (CE)"
    print_table(title, columns, rows)


def show_distribution(
    weights: Path, split: str, seed: int, distribution: "LossDistribution", figure: Path, as_json: bool
) -> None:
    """Show how much of the loss comes from the hardest samples."""
    from retinanet.paper.loss_distribution import HARDEST

    kinds = {"foreground": distribution.foreground, "background": distribution.background}
    if as_json:
        head = {"weights": str(weights), "split": split, "seed": seed}
        parts = {name: _samples_document(kind) for name, kind in kinds.items()}
        print_json(head | parts | {"figure": str(figure)})
        return
    columns = ("samples", "gamma", *(f"hardest {100 * part:g} %" for part in HARDEST))
    groups = []
    for name, kind in kinds.items():
        rows = [(_gamma(gamma), *(f"{100 * x:.1f}" for x in shares)) for gamma, shares in kind.shares.items()]
        groups.append(headed([f"{name}: {kind.drawn:,} of {kind.total:,}"], rows))
    title = "Share of the loss that comes from the hardest samples, in %"
    print_table(title, columns, *groups, text_columns=2)


def _samples_document(samples: "Distribution") -> dict[str, Any]:
    from retinanet.paper.loss_distribution import FRACTIONS, HARDEST

    hundredths = slice(None, None, (len(FRACTIONS) - 1) // 100)
    return {
        "samples": samples.drawn,
        "of": samples.total,
        "hardest": list(HARDEST),
        "shares": [{"gamma": gamma, "shares": shares} for gamma, shares in samples.shares.items()],
        "fraction": FRACTIONS[hundredths].tolist(),
        "curves": [{"gamma": gamma, "cumulative": curve[hundredths]} for gamma, curve in samples.curves.items()],
    }


def _gamma(gamma: float) -> str:
    return "0 (CE)" if gamma == 0 else f"{gamma:g}"
