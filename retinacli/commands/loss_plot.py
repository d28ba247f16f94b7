"""`retina loss-plot`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from retinacli import options
from retinacli.failure import check_writable, fail

if TYPE_CHECKING:
    from retinanet.evaluation.detector_and_data import DataSource

FIGURE_1, FIGURE_4 = (0, 0.5, 1, 2, 5), (0, 0.5, 1, 2)  # values of gamma in the paper
GAMMA_HELP = "One or more values of gamma.  [default: 0 0.5 1 2 5; with --cdf 0 0.5 1 2]"
CDF_HELP = "Plot how much of this detector's loss comes from easy and from hard anchors (paper, figure 4)."


def loss_plot_command(
    gamma: Annotated[list[float] | None, Option(parser=options.number(0, 100), metavar="X...", help=GAMMA_HELP)] = None,
    output: Annotated[Path, options.output("FILE", "Figure to write: .png, .pdf or .svg.")] = Path("loss-plot.png"),
    loss: Annotated[
        Literal["focal", "focal_star"], Option(help="The focal loss, or its variant FL* (paper, appendix A).")
    ] = "focal",
    alpha: Annotated[
        float | None, Option(parser=options.number(0, 1), metavar="0..1", help="Class weight alpha_t.")
    ] = None,
    shift: Annotated[
        float | None, Option(parser=options.number(-100, 100), metavar="X", help="Shift of focal_star.  [default: 1]")
    ] = None,
    gradient: Annotated[bool, Option("--gradient", help="Plot the derivative by x_t (paper, figure 6).")] = False,
    cdf: Annotated[Path | None, Option(metavar="WEIGHTS", help=CDF_HELP)] = None,
    data: options.Data = None,
    split: Annotated[
        str | None, Option(metavar="NAME", help="Split: train, val or another of the data set.  [default: val]")
    ] = None,
    set_: options.Set = None,
    seed: Annotated[
        int | None, Option(min=0, metavar="N", help="Seed of the random sample of anchors.  [default: 0]")
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Plot the focal loss, as in the paper's figure 1.

    The options from --data to --device belong to --cdf.
    """
    options.check_figure("-o", output)
    star = loss == "focal_star"
    only_cdf = {"--data": data, "--split": split, "--set": set_, "--seed": seed, "--device": device}
    never_cdf = {"--gradient": gradient or None, "--alpha": alpha, "--loss focal_star": star or None}
    for name, value in (only_cdf if cdf is None else never_cdf).items():
        if value is not None:
            fail(f"{name} needs --cdf WEIGHTS" if cdf is None else f"{name} cannot be combined with --cdf", 2)
    if shift is not None and not star:
        fail("--shift sets beta of focal_star; add --loss focal_star", 2)
    if star and 0 in (gamma or []):
        fail("--gamma 0: focal_star divides by gamma; expected a number above 0", 2)
    check_writable(output)
    if cdf is None:
        settings = {"kind": loss, "alpha": alpha, "shift": 1 if shift is None else shift}
        plot_curves(sorted(set(gamma or FIGURE_1)), output, settings, gradient, json_)
    else:
        from retinanet.evaluation.detector_and_data import DataSource

        source = DataSource(data, split or "val", set_ or [])
        plot_distribution(cdf, sorted(set(gamma or FIGURE_4)), source, seed or 0, device or "auto", output, json_)


def plot_curves(gammas: Sequence[float], output: Path, settings: dict[str, Any], gradient: bool, json_: bool) -> None:
    """Figure 1 of the paper, or figure 6 with `gradient`."""
    from retinacli.console import message
    from retinacli.render.loss_plot import show_curves
    from retinanet.paper.figures import draw_derivatives, draw_losses
    from retinanet.paper.loss_curves import loss_curves, points

    curves = loss_curves(gammas, **settings, derivative=gradient)
    (draw_derivatives if gradient else draw_losses)(curves, output, **settings)
    message(f"wrote {output}")
    show_curves(settings, curves, points(gammas, **settings, derivative=gradient), gradient, output, json_)


def plot_distribution(
    weights: Path, gammas: Sequence[float], source: "DataSource", seed: int, device: str, output: Path, json_: bool
) -> None:
    """Figure 4 of the paper."""
    from retinacli.console import counter, message
    from retinacli.render.loss_plot import show_distribution
    from retinanet.devices import pick_device
    from retinanet.paper.figures import draw_distribution
    from retinanet.paper.loss_distribution import loss_distribution

    with counter("images") as progress:
        distribution = loss_distribution(weights, gammas, source, seed, pick_device(device), progress)
    for note in distribution.notes:
        message(note)
    draw_distribution(distribution, output)
    message(f"wrote {output}")
    show_distribution(weights, source.split, seed, distribution, output, json_)
