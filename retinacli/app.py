"""The commands of `retina`: each parses, makes one call into the core and renders what comes back."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from retinacli import options

app = typer.Typer(
    name="retina",
    help="Train, measure and use RetinaNet with the focal loss.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a fault of the user's files is one line and exit code 1, never a traceback."""
    from retinanet.errors import RetinaNetError

    try:
        app()
    except RetinaNetError as error:
        options.fail(str(error), 1)
    except KeyboardInterrupt:
        options.fail("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        options.fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=options.show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped example such as coco.yaml.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="The run's folder.  [default: runs/NAME]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    set_: options.Set = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="train.epochs")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="train.batch_size")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="train.lr")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="train.seed")] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Train a detector."""
    from retinacli import render
    from retinanet.configfile import load_config
    from retinanet.training import train as run

    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": device}
    overrides = [*(set_ or []), *(f"train.{key}={value}" for key, value in flags.items() if value is not None)]
    settings = load_config(config, overrides)
    folder = output or Path("runs") / Path(config).stem
    try:
        done = render.training(run(settings, folder, resume))
    except KeyboardInterrupt:
        options.fail(
            f"interrupted; continue from the last finished epoch with: retina train {config} -o {folder} --resume", 130
        )
    if json_:
        print(json.dumps(render.run_document(done)))
    else:
        render.run_summary(done)


@app.command(name="eval")
def eval_(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="A checkpoint, or the folder of a run.")],
    data: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="A YAML file whose data to use in place of the checkpoint's.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="val, train, or a split of the data set's own, such as test.")
    ] = "val",
    set_: options.Set = None,
    batch_size: options.BatchSize = 1,
    save_coco: options.SaveCoco = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Measure a detector: the 12 COCO numbers, and AP per class."""
    from retinacli import render
    from retinanet.devices import pick_device
    from retinanet.evaluation import coco_results, evaluate_checkpoint

    with render.counter("images") as progress:
        where = pick_device(device or "auto")
        evaluation = evaluate_checkpoint(weights, data, split, set_ or [], batch_size, where, progress)
    for note in evaluation.notes:
        render.message(note)
    if save_coco is not None:
        options.write_text(save_coco, json.dumps(coco_results(evaluation.results)))
    if json_:
        print(json.dumps(render.evaluation_document(evaluation)))
    else:
        render.evaluation_tables(evaluation)


@app.command()
def predict(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Image files, folders or glob patterns.")],
    weights: Annotated[
        Path | None, typer.Option("-w", "--weights", metavar="WEIGHTS", help="A checkpoint, or the folder of a run.")
    ] = None,
    vis: Annotated[bool, typer.Option("--vis", help="Write annotated copies.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where annotated copies go.")] = Path(
        "predictions"
    ),
    score: Annotated[float, typer.Option(min=0, max=1, metavar="0..1", help="Lowest score to report.")] = 0.3,
    max_detections: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many per image.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="NAME,...", help="Only these classes; repeatable.")
    ] = None,
    batch_size: options.BatchSize = 1,
    save_coco: options.SaveCoco = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Find objects in pictures."""
    if weights is None:
        options.fail("predict needs the weights of a trained detector: -w runs/NAME or -w FILE.safetensors", 2)
    from retinacli import render
    from retinanet import prediction
    from retinanet.devices import pick_device

    detector = prediction.load(weights, pick_device(device or "auto"), score, max_detections)
    labels = options.class_labels(classes, detector.classes)
    files = prediction.find_images(sources)
    results = prediction.predict(detector, files, batch_size, labels)
    if vis:
        results = prediction.annotate(results, prediction.output_names(files, output), detector.classes)
    found = render.predictions(results, len(files))
    if save_coco is not None:
        options.write_text(save_coco, json.dumps(prediction.to_coco(found, detector)))
    if json_:
        print(json.dumps(prediction.to_json(found, detector)))
    else:
        render.prediction_table(found, detector.classes)
    faults = sum(item.fault is not None for item in found)
    if vis and faults < len(found):
        render.message(f"annotated copies: {len(found) - faults} in {output}")
    if faults:
        raise typer.Exit(1)
