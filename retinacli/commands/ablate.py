"""`retina ablate`."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from retinacli import options
from retinacli.failure import check_writable, fail
from retinacli.stop_signals import stoppable

if TYPE_CHECKING:
    from retinanet.config.schema import Config
    from retinanet.paper.detector_comparison import OtherDetector

TABLE_HELP = (
    "Tables to repeat: 1a (cross entropy), 1b (focal loss), 1c (anchors), 1d (OHEM), 3 (FL*), prior (initialisation), "
    "2 (RetinaNet, Faster R-CNN and SSD), causes (loss x pyramid x anchors).  [default: 1b]"
)
SCALE_HELP = "Table 2: also evaluate and time at these short sides, such as 400 600 800, and draw figure 2."
FIGURE_HELP = "Figure 2 to write: .png, .pdf or .svg.  [default: figure2.png in the folder of -o]"
RESULTS_HELP = (
    "Table 2: further rows, each the COCO results file (.json) of any program on data.val. NAME=FILE,MS also states "
    "its milliseconds per image."
)


def ablate_command(
    config: options.Config,
    table: Annotated[list[str] | None, Option(metavar="NAME...", help=TABLE_HELP)] = None,
    values: Annotated[
        list[str] | None, Option(metavar="VALUE...", help="Rows of the table, such as 0 2.  [default: all of them]")
    ] = None,
    scale: Annotated[list[int] | None, Option(min=32, max=8192, metavar="N...", help=SCALE_HELP)] = None,
    figure: Annotated[Path | None, Option(metavar="FILE", help=FIGURE_HELP)] = None,
    results: Annotated[list[str] | None, Option(metavar="NAME=FILE...", help=RESULTS_HELP)] = None,
    classes_from: options.ClassesFrom = None,
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
    check_table_2(names, scale, figure, results, classes_from)
    files = [results_file(text) for text in results or []]
    check_names([name for name, _, _ in files])
    settings = load_config(config, options.overrides(set_, epochs=epochs, device=device))
    folder = output or Path("runs") / f"{Path(config).stem}-ablation"
    figure = figure or folder / "figure2.png"
    for file in (folder / "ablation.json", figure):
        check_writable(file)
    rows = [row for name in names for row in make_rows(settings, name, values)]
    others = read_others(files, settings, classes_from)
    comparison, effects = None, []
    with stoppable() as stop, suppress(KeyboardInterrupt):
        outcomes = list(ablate(rows, folder, seeds, partial(show_run, rows, seeds, stop), stop))
        compared, causes = ([row for row in rows if row.table == name] for name in ("2", "causes"))
        if (compared or causes) and not stop():
            stop.polled = False  # a signal ends the comparison at once
            with counter("images and resamples") as progress:
                if compared:
                    comparison = compare_detectors(compared, folder, seeds, progress, scale or [], others)
                if causes:
                    effects = effects_of_causes(causes, folder, seeds, progress)
    if stop():
        fail(f"{stop.name}; repeat the same command to continue", stop.code)
    ablation_chart(merge(outcomes, folder / "ablation.json"), folder / "ablation.png")
    common = DetectorFacts(
        resolution=(settings.data.short_side, settings.data.long_side), max_detections=settings.detect.max_detections
    )
    speeds = None
    if scale and comparison is not None:
        speeds = figure_document(comparison) | {"figure": str(figure)}
        write_text(folder / "figure2.json", json.dumps(speeds, indent=1) + "\n")
        draw_speed_accuracy(comparison, figure)
        message(f"wrote {figure} and {folder / 'figure2.json'}")
    show_ablation(outcomes, folder, common, comparison, effects, speeds, json_)


def check_table_2(
    tables: Sequence[str],
    scale: list[int] | None,
    figure: Path | None,
    results: list[str] | None,
    classes_from: int | None,
) -> None:
    """Fail if an option of table 2 is given without it, a figure without --scale, or --classes-from without files."""
    for option, given in {"--scale": scale, "--results": results}.items():
        if given and "2" not in tables:
            fail(f"{option} is for table 2; add --table 2", 2)
    if classes_from is not None and not results:
        fail("--classes-from is for results files; it needs --results", 2)
    if figure is not None:
        if not scale:
            fail("--figure names the file of figure 2; it needs --scale", 2)
        options.check_figure("--figure", figure)


def results_file(text: str) -> tuple[str, Path, float | None]:
    """The name, the file and the milliseconds per image, if any, of a value of --results."""
    name, _, rest = text.partition("=")
    file, comma, ms = (rest, "", "") if rest.lower().endswith(".json") else rest.rpartition(",")
    if not name or not file.lower().endswith(".json"):
        fail(f"--results {text}: expected NAME=FILE.json or NAME=FILE.json,MS", 2)
    if not comma:
        return name, Path(file), None
    with suppress(ValueError):
        if 0 < float(ms) < math.inf:
            return name, Path(file), float(ms)
    fail(f"--results {text}: {ms!r} is no number of milliseconds per image; expected one above 0", 2)


def check_names(names: Sequence[str]) -> None:
    """Fail if a row of --results has the name of another row."""
    from retinanet.paper.tables import PAPER

    for index, name in enumerate(names):
        if name in PAPER["2"]:
            fail(f"--results {name}=...: {name} is a row of table 2; choose another name", 2)
        if name in names[:index]:
            fail(f"--results: two files have the name {name}; choose another for one of them", 2)


def read_others(
    files: Sequence[tuple[str, Path, float | None]], settings: "Config", classes_from: int | None
) -> "list[OtherDetector]":
    """The rows of --results, read before anything is trained."""
    from retinacli.console import message
    from retinanet.data import open_dataset
    from retinanet.evaluation.evaluate import evaluate
    from retinanet.evaluation.results_file import ResultsFile
    from retinanet.paper.detector_comparison import OtherDetector

    if not files:
        return []
    dataset, others = open_dataset(settings.data, "val"), []
    for name, file, ms in files:
        evaluation = evaluate(ResultsFile(file, classes_from), dataset)
        for note in evaluation.notes:
            if note not in dataset.notes:  # which training reports
                message(note)
        others.append(OtherDetector(name, str(file), evaluation.results, ms))
    return others
