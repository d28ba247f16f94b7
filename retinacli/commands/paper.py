"""The commands that check the paper's claims, as `retinacli.app` has the others."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from retinacli import options
from retinacli.commands import loss_plot as lossplot
from retinacli.stop_signals import stoppable


def anchors(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A YAML file whose data to look at.", show_default=False)
    ] = None,
    set_: options.Set = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="train, val, or a split of the data set's own, such as test.")
    ] = "train",
    min_coverage: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="0..1", help="Exit 3 if coverage is lower.")
    ] = None,
    vis: Annotated[
        Path | None, typer.Option(metavar="IMG", help="Draw the anchors on this image, and what they match.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The picture that --vis writes.")
    ] = Path("anchors.png"),
    optimize: Annotated[bool, typer.Option("--optimize", help="Search anchors that cover the data better.")] = False,
    per_cell: Annotated[
        int | None,
        typer.Option(min=1, max=100, metavar="N", help="How many anchors --optimize may use.  [default: as many]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the random changes of --optimize.")] = 0,
    json_: options.Json = False,
) -> None:
    """Show the anchors, and how well they cover the objects of a data set."""
    options.check_anchors(config, min_coverage, vis, output, optimize, per_cell)
    from retinacli import console as render
    from retinacli.render import anchors as render_anchors
    from retinanet import config_file as configfile
    from retinanet.config.schema import Config
    from retinanet.data import open_dataset
    from retinanet.dataset_analysis import anchor_coverage as coverage
    from retinanet.dataset_analysis import anchor_picture as anchordrawing
    from retinanet.dataset_analysis import anchor_search as anchorsearch
    from retinanet.io import pictures

    settings = configfile.load_config(config, set_ or []) if config else configfile.override(Config(), set_ or [])
    dataset = open_dataset(settings.data, split) if config else None
    covered = found = None
    if dataset is not None:
        for note in dataset.notes:
            render.message(note)
        objects, covered = coverage.data_coverage(settings, dataset)
        if optimize:
            with render.counter("sets of anchors") as progress:
                found = anchorsearch.search_config(settings, objects, per_cell, seed, progress)
    if vis is not None:
        drawn = anchordrawing.anchor_picture(settings, dataset, vis)
        pictures.write_picture(drawn.canvas, output)
        render.message(render_anchors.picture_line(drawn, output, split if config else None))
    if json_:
        print(json.dumps(render_anchors.document(settings.anchors, covered, found)))
    else:
        render_anchors.tables(settings.anchors, covered, found)
    if covered is not None and min_coverage is not None and not covered.share >= min_coverage:
        options.fail(render_anchors.shortfall(covered, min_coverage, settings.anchors.foreground_iou), 3)


def loss_plot(
    gamma: Annotated[
        list[float] | None,
        typer.Option(
            parser=options.number(0, 100),
            metavar="X...",
            help="One or several.  [default: 0 0.5 1 2 5; with --cdf 0 0.5 1 2]",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The figure: .png, .pdf or .svg.")
    ] = Path("loss-plot.png"),
    loss: Annotated[lossplot.Loss, typer.Option(help="The focal loss, or its variant FL*.")] = lossplot.Loss.FOCAL,
    alpha: Annotated[
        float | None,
        typer.Option(parser=options.number(0, 1), metavar="0..1", help="Weight of the class, alpha_t."),
    ] = None,
    shift: Annotated[
        float | None,
        typer.Option(parser=options.number(-100, 100), metavar="X", help="beta of focal_star.  [default: 1]"),
    ] = None,
    gradient: Annotated[bool, typer.Option("--gradient", help="Draw the derivatives by x_t.")] = False,
    cdf: Annotated[
        Path | None,
        typer.Option(metavar="WEIGHTS", help="Draw how this detector's loss is spread over the anchors of a data set."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="A YAML file whose data to use in place of the checkpoint's.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="val, train, or a split of the data set's own.  [default: val]")
    ] = None,
    set_: options.Set = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the samples.  [default: 0]")] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Draw the losses over the probability of the right class, as the paper's figure 1; with --cdf its figure 4."""
    only_cdf = {"--data": data, "--split": split, "--set": set_, "--seed": seed, "--device": device}
    star = loss if loss is lossplot.Loss.FOCAL_STAR else None
    never_cdf = {"--gradient": gradient, "--alpha": alpha, "--loss focal_star": star}
    lossplot.check(output, cdf, loss, shift, only_cdf, never_cdf)
    gammas = lossplot.gammas(gamma, loss, cdf)
    if cdf is None:
        lossplot.curves(gammas, output, loss.value, alpha, 1 if shift is None else shift, gradient, json_)
    else:
        lossplot.distribution(cdf, gammas, output, data, split or "val", set_ or [], seed or 0, device, json_)


def ablate(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped example such as shapes.yaml.")
    ],
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="1a, 1b, 1c, 1d or prior.  [default: 1b]")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(metavar="VALUE...", help="Rows of the one table, such as 0 2; by default all of the paper's."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Runs of each row; tells mean and spread.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="The runs' folder.  [default: runs/NAME-ablation]"),
    ] = None,
    set_: options.Set = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="train.epochs")] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Train under each loss, anchor set or prior of the paper's tables, and print them beside the paper's."""
    from retinacli.render import ablate as render_ablation
    from retinanet.config_file import load_config
    from retinanet.paper import ablation, tables
    from retinanet.paper.figures import ablation_chart

    names = options.tables(table, values, list(tables.TABLES))
    settings = load_config(config, options.overrides(set_, epochs=epochs, device=device))
    folder = output or Path("runs") / f"{Path(config).stem}-ablation"
    rows = [row for name in names for row in tables.make_rows(settings, name, values)]
    with stoppable() as stop, suppress(KeyboardInterrupt):
        outcomes = list(ablation.ablate(rows, folder, seeds, render_ablation.run_of(rows, seeds, stop), stop))
    if stop():
        options.fail(f"{stop.name}; the same command continues", stop.code)
    held = ablation.merge(outcomes, folder / "ablation.json")
    ablation_chart(held, folder / "ablation.png")
    if json_:
        print(json.dumps(render_ablation.document(outcomes)))
    else:
        render_ablation.tables(outcomes)
    render_ablation.files(folder)
