"""`retina anchors`."""

import os
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from retinacli import options
from retinacli.failure import check_writable, fail

CONFIG_HELP = "YAML config file, or the name of a shipped example such as bccd.yaml.  [default: the paper's anchors]"


def anchors_command(
    config: Annotated[str | None, Argument(metavar="CONFIG", help=CONFIG_HELP, show_default=False)] = None,
    set_: options.Set = None,
    split: options.Split = "train",
    min_coverage: Annotated[
        float | None, Option(min=0, max=1, metavar="0..1", help="Exit 3 if a smaller share of the objects is covered.")
    ] = None,
    vis: Annotated[
        Path | None, Option(metavar="IMG", help="Draw the anchors, and the objects they match, on this image.")
    ] = None,
    output: Annotated[Path, options.output("FILE", "Picture that --vis writes.")] = Path("anchors.png"),
    optimize: Annotated[bool, Option("--optimize", help="Search for anchors that cover the objects better.")] = False,
    per_cell: Annotated[
        int | None, Option(min=1, max=100, metavar="N", help="Anchors per cell for --optimize.  [default: as now]")
    ] = None,
    seed: Annotated[int, Option(min=0, metavar="N", help="Seed of the random search of --optimize.")] = 0,
    json_: options.Json = False,
) -> None:
    """Show the anchors and how well they cover a data set."""
    if config is None and (optimize or min_coverage is not None):
        name = "--optimize" if optimize else "--min-coverage"
        fail(f"{name} needs the objects of a data set; name a CONFIG, such as bccd.yaml", 2)
    if per_cell is not None and not optimize:
        fail("--per-cell sets the number of anchors for --optimize; add --optimize", 2)
    if vis is not None and output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        fail(f"-o {output}: expected a name that ends in .png or .jpg", 2)
    if vis is not None and os.path.realpath(output) == os.path.realpath(vis):
        fail(f"-o {output}: is the image of --vis; choose another file", 2)
    if vis is not None:
        check_writable(output)
    from retinacli.console import counter, message
    from retinacli.render.anchors import picture_line, shortfall, show_anchors
    from retinanet.config.schema import Config
    from retinanet.config_file import load_config, override
    from retinanet.data import open_dataset
    from retinanet.dataset_analysis.anchor_coverage import data_coverage
    from retinanet.dataset_analysis.anchor_picture import anchor_picture
    from retinanet.dataset_analysis.anchor_search import search_anchors
    from retinanet.dataset_analysis.imbalance import imbalance
    from retinanet.io.pictures import write_picture

    settings = load_config(config, set_ or []) if config else override(Config(), set_ or [])
    if optimize and settings.anchors.matching == "atss":
        fail("--optimize searches for anchors that reach anchors.foreground_iou, but anchors.matching is atss", 2)
    dataset = open_dataset(settings.data, split) if config else None
    coverage = matched = better = None
    if dataset is not None:
        for note in dataset.notes:
            message(note)
        objects, coverage = data_coverage(settings, dataset)
        matched = imbalance(settings, dataset)
        if optimize:
            with counter("sets of anchors") as progress:
                better = search_anchors(objects, settings.anchors, per_cell, seed, progress=progress)
    if vis is not None:
        picture = anchor_picture(settings, dataset, vis)
        write_picture(picture.canvas, output)
        message(picture_line(picture, output, split if config else None))
    show_anchors(settings.anchors, coverage, matched, better, json_)
    if coverage is not None and min_coverage is not None and not coverage.share >= min_coverage:
        fail(shortfall(coverage, min_coverage, settings.anchors), 3)
