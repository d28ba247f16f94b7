"""`retina ablate`."""

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


def ablate_command(
    config: options.Config,
    table: Annotated[list[str] | None, Option(metavar="NAME...", help=TABLE_HELP)] = None,
    values: Annotated[
        list[str] | None, Option(metavar="VALUE...", help="Rows of the table, such as 0 2.  [default: all of them]")
    ] = None,
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
    from retinacli.console import counter
    from retinacli.render.ablate import show_ablation, show_run
    from retinanet.config_file import load_config
    from retinanet.evaluation.detector_facts import DetectorFacts
    from retinanet.paper.ablation import ablate, merge
    from retinanet.paper.causes import effects_of_causes
    from retinanet.paper.detector_comparison import compare_detectors
    from retinanet.paper.figures import ablation_chart
    from retinanet.paper.tables import TABLES, make_rows

    names = list(dict.fromkeys(table or ["1b"]))
    for name in names:
        if name not in TABLES:
            fail(f"--table: unknown table {name!r}; expected {', '.join(TABLES)}", 2)
    if values and len(names) > 1:
        fail(f"--values needs one --table, not {', '.join(names)}; run them one by one, results are kept together", 2)
    settings = load_config(config, options.overrides(set_, epochs=epochs, device=device))
    folder = output or Path("runs") / f"{Path(config).stem}-ablation"
    check_writable(folder / "ablation.json")
    rows = [row for name in names for row in make_rows(settings, name, values)]
    comparison, effects = None, []
    with stoppable() as stop, suppress(KeyboardInterrupt):
        outcomes = list(ablate(rows, folder, seeds, partial(show_run, rows, seeds, stop), stop))
        compared, causes = ([row for row in rows if row.table == name] for name in ("2", "causes"))
        if (compared or causes) and not stop():
            stop.polled = False  # a signal ends the comparison at once
            with counter("images and resamples") as progress:
                comparison = compare_detectors(compared, folder, seeds, progress) if compared else None
                effects = effects_of_causes(causes, folder, seeds, progress) if causes else []
    if stop():
        fail(f"{stop.name}; repeat the same command to continue", stop.code)
    ablation_chart(merge(outcomes, folder / "ablation.json"), folder / "ablation.png")
    common = DetectorFacts(
        resolution=(settings.data.short_side, settings.data.long_side), max_detections=settings.detect.max_detections
    )
    show_ablation(outcomes, folder, common, comparison, effects, json_)
