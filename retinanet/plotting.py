"""Figures, drawn with matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinanet.io.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito 2008: told apart by all, and in grey


def new_figure(width: float, height: float) -> "Figure":
    """An empty one of so many inches, which needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (10, 3)), (0, (3, 1)))


def _save(figure: Any, output: Path) -> None:
    """The same figure is the same file: no dates, no random names."""
    import matplotlib

    dateless = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(output.suffix.lower())
    with matplotlib.rc_context({"svg.hashsalt": "retina"}), replacing(output) as temporary:
        figure.savefig(temporary, format=output.suffix[1:].lower(), dpi=150, metadata=dateless)
