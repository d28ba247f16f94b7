"""Colours and files of figures, drawn with matplotlib."""

import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinanet.io.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito 2008: readers with any colour vision can tell them apart; BLUE, VERMILLION and GREEN also in grey
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY_BLUE, ORANGE, YELLOW, BLACK = "#56b4e9", "#e69f00", "#f0e442", "#000000"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, SKY_BLUE, ORANGE, BLACK)  # of lines: yellow is too light on white
LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (10, 3)), (0, (3, 1)))


def rgb(colour: str) -> tuple[int, int, int]:
    """0 to 255 each, of a colour such as "#0072b2"."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


@contextmanager
def own_settings() -> Iterator[None]:
    """Inside the context, or a function that it decorates, figures are drawn with matplotlib's defaults.

    The user's matplotlibrc has no effect.
    """
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def _matplotlib() -> Any:
    """The module, also where the user's MPLBACKEND or matplotlibrc is invalid."""
    try:
        import matplotlib
    except (ValueError, OSError, RuntimeError):  # it reads the settings when it is imported
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half of the package
        before = {name: os.environ.pop(name, None) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
        file = importlib.util.find_spec("matplotlib")
        assert file is not None and file.origin is not None
        defaults = Path(file.origin).with_name("mpl-data")
        try:
            with chdir(defaults):  # a matplotlibrc in the working directory comes first
                import matplotlib
        finally:
            os.environ.update({name: value for name, value in before.items() if value is not None})
    return matplotlib


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, which needs no screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", output: Path, dpi: int = 150) -> None:
    """Write the figure in the format of the ending of `output`; equal figures give equal files.

    dpi: pixels per inch of what is not drawn as lines.
    """
    import matplotlib

    no_date: dict[str, Any] | None = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(output.suffix.lower())
    drawn = io.BytesIO()  # since matplotlib's PDF writer hides the error of a full disk behind one of its own
    with matplotlib.rc_context({"svg.hashsalt": "retina"}):
        figure.savefig(drawn, format=output.suffix[1:].lower(), dpi=dpi, metadata=no_date)
    with replacing(output) as temporary:
        temporary.write_bytes(drawn.getvalue())
