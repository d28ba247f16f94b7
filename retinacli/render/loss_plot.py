"""What `retina loss-plot` tells: the numbers of its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli import console as render

if TYPE_CHECKING:
    from retinanet.paper.loss_curves import Curve, Point
    from retinanet.paper.loss_distribution import Distribution, LossDistribution


def curves_document(
    settings: dict[str, Any], curves: "Sequence[Curve]", points: "Sequence[Point]", gradient: bool, figure: Path
) -> dict[str, Any]:
    x, y = ("x_t", "gradient") if gradient else ("p_t", "loss")
    return {
        "loss": settings["kind"],
        "alpha": settings["alpha"],
        "shift": settings["shift"] if settings["kind"] == "focal_star" else None,
        "curves": [{"gamma": curve.gamma, x: curve.x, y: curve.y} for curve in curves],
        "table": [{"gamma": p.gamma, "p_t": p.p_t, y: p.value, "factor": p.factor} for p in points],
        "figure": str(figure),
    }


def points_table(points: "Sequence[Point]", gradient: bool) -> None:
    places = list(dict.fromkeys(point.p_t for point in points))
    columns = [text for p_t in places for text in (f"p_t {p_t:g}", "times below CE")]
    title = (
        "Gradient dL/dx_t, and how many times it is smaller than that of CE"
        if gradient
        else "Loss, and how many times it lies below CE"
    )
    made = render.table(title, "gamma", *columns)
    for gamma in dict.fromkeys(point.gamma for point in points):
        cells = [text for p in points if p.gamma == gamma for text in (f"{p.value:.4g}", f"{p.factor:.4g}")]
        render.row(made, "0 (CE)" if gamma == 0 else f"{gamma:g}", *cells)
    render.print_table(made)


def distribution_document(
    weights: Path, split: str, seed: int, found: "LossDistribution", figure: Path
) -> dict[str, Any]:
    return {
        "weights": str(weights),
        "split": split,
        "seed": seed,
        "foreground": _kind(found.foreground),
        "background": _kind(found.background),
        "figure": str(figure),
    }


def _kind(found: "Distribution") -> dict[str, Any]:
    from retinanet.paper.loss_distribution import FRACTIONS, HARDEST

    hundredths = slice(None, None, (len(FRACTIONS) - 1) // 100)
    return {
        "samples": found.drawn,
        "of": found.total,
        "hardest": list(HARDEST),
        "shares": [{"gamma": gamma, "shares": shares} for gamma, shares in found.shares.items()],
        "fraction": FRACTIONS[hundredths].tolist(),
        "curves": [{"gamma": gamma, "cumulative": curve[hundredths]} for gamma, curve in found.curves.items()],
    }


def shares_table(found: "LossDistribution") -> None:
    from retinanet.paper.loss_distribution import HARDEST

    columns = [f"hardest {100 * part:g} %" for part in HARDEST]
    made = render.table("Share of the loss, in %", "samples", "gamma", *columns, text_columns=2)
    for name, kind in (("foreground", found.foreground), ("background", found.background)):
        label = f"{name}: {kind.drawn:,} of {kind.total:,}"
        for gamma, shares in kind.shares.items():
            render.row(
                made, label, "0 (CE)" if gamma == 0 else f"{gamma:g}", *(f"{100 * share:.1f}" for share in shares)
            )
            label = ""
        made.add_section()
    render.print_table(made)
