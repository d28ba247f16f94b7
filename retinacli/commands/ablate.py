"""`retina ablate`."""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Option

from retinacli import options
from retinacli.failure import check_writable, fail
from retinacli.stop_signals import stoppable

TABLE_HELP = (
    "Tables to repeat: 1a (cross entropy), 1b (focal loss), 1c (anchors), 1d (OHEM), 3 (FL*), prior (initialisation), "
    "2 (RetinaNet, Faster R-CNN and SSD), causes (loss x pyramid x anchors).  [default: 1b]"
)
SCALE_HELP = "Table 2: also evaluate and time at these short sides, such as 400 600 800, and draw figure 2."
FIGURE_HELP = "Figure 2 to write: .png, .pdf or .svg.  [default: figure2.png in the folder of -o]"


def ablate_command(
    config: options.Config,
    table: Annotated[list[str] | None, Option(metavar="NAME...", help=TABLE_HELP)] = None,
    values: Annotated[
        list[str] | None, Option(metavar="VALUE...", help="Rows of the table, such as 0 2.  [default: all of them]")
    ] = None,
    scale: Annotated[list[int] | None, Option(min=32, max=8192, metavar="N...", help=SCALE_HELP)] = None,
    figure: Annotated[Path | None, Option(metavar="FILE", help=FIGURE_HELP)] = None,
    seeds: Annotated[int, Option(min=1, metavar="N", help="Number of runs of each row, with different seeds.")] = 1,
    output: Annotated[
        Path | None, options.output("DIR", "Folder of all runs.  [default: runs/<CONFIG's name>-ablation]")
    ] = None,
    set_: options.Set = None,
    epochs: options.Epochs = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Repeat the paper's tables of accuracy on a data set.

    Trains one detector for each row of a table and prints the results beside those of the paper.
    """
    from retinacli.console import counter, message
    from retinacli.render.ablate import show_ablation, show_run
    from retinanet.config_file import load_config
    from retinanet.evaluation.detector_facts import DetectorFacts
    from retinanet.io.atomic import write_text
    from retinanet.paper.ablation import ablate, merge
    from retinanet.paper.causes import effects_of_causes
    from retinanet.paper.detector_comparison import compare_detectors
    from retinanet.paper.figures import ablation_chart, draw_speed_accuracy
    from retinanet.paper.speed_accuracy import figure_document
    from retinanet.paper.tables import TABLES, make_rows

    names = list(dict.fromkeys(table or ["1b"]))
    for name in names:
        if name not in TABLES:
            fail(f"--table: unknown table {name!r}; expected {', '.join(TABLES)}", 2)
    if values and len(names) > 1:
        fail(f"--values needs one --table, not {', '.join(names)}; run them one by one, results are kept together", 2)
    check_table_2(names, scale, figure)
    settings = load_config(config, options.overrides(set_, epochs=epochs, device=device))
    folder = output or Path("runs") / f"{Path(config).stem}-ablation"
    figure = figure or folder / "figure2.png"
    for file in (folder / "ablation.json", figure):
        check_writable(file)
    rows = [row for name in names for row in make_rows(settings, name, values)]
    comparison, effects = None, []
    with stoppable() as stop, suppress(KeyboardInterrupt):
        outcomes = list(ablate(rows, folder, seeds, partial(show_run, rows, seeds, stop), stop))
        compared, causes = ([row for row in rows if row.table == name] for name in ("2", "causes"))
        if (compared or causes) and not stop():
            stop.polled = False  # a signal ends the comparison at once
            with counter("images and resamples") as progress:
                comparison = compare_detectors(compared, folder, seeds, progress, scale or []) if compared else None
                effects = effects_of_causes(causes, folder, seeds, progress) if causes else []
    if stop():
        fail(f"{stop.name}; repeat the same command to continue", stop.code)
    ablation_chart(merge(outcomes, folder / "ablation.json"), folder / "ablation.png")
    common = DetectorFacts(
        resolution=(settings.data.short_side, settings.data.long_side), max_detections=settings.detect.max_detections
    )
    speeds = None
    if scale and comparison is not None:
        speeds = figure_document(comparison.detectors) | {"figure": str(figure)}
        write_text(folder / "figure2.json", json.dumps(speeds, indent=1) + "\n")
        draw_speed_accuracy(comparison.detectors, outcomes[0].data, figure)
        message(f"wrote {figure} and {folder / 'figure2.json'}")
    show_ablation(outcomes, folder, common, comparison, effects, speeds, json_)


def check_table_2(tables: Sequence[str], scale: list[int] | None, figure: Path | None) -> None:
    """Fail if an option of table 2 is given without it, or a figure without --scale."""
    if scale and "2" not in tables:
        fail("--scale is for table 2; add --table 2", 2)
    if figure is not None:
        if not scale:
            fail("--figure names the file of figure 2; it needs --scale", 2)
        options.check_figure("--figure", figure)
