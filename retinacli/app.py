"""The commands of `retina`: each parses, makes one call into the core and renders what comes back."""

import json
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from retinacli import options
from retinacli.commands import bench, paper
from retinacli.many_values import ManyValues
from retinacli.stop_signals import Stop, stoppable

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
    force: Annotated[
        bool, typer.Option("--force", help="Continue it even if the config or the data make it another run.")
    ] = False,
    set_: options.Set = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="train.epochs")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="train.batch_size")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="train.lr")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Do as detectron2, torchvision or torchvision_v2 do.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="train.seed")] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Train a detector."""
    from retinacli import console as render
    from retinanet.config_file import load_config

    if force and not resume:
        options.fail("--force goes with --resume", 2)
    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": device}
    settings = load_config(config, options.overrides(set_, **flags), preset)
    folder = output or Path("runs") / Path(config).stem
    from retinanet.training.events import Done  # with torch, which takes seconds: a config at fault is told before
    from retinanet.training.train import train as run

    outcome = None
    with stoppable() as stop, suppress(KeyboardInterrupt):
        outcome = render.training(run(settings, folder, resume, force, stop), stop)
    if outcome is None:
        options.fail(_stopped(stop, folder, None, resume), stop.code)
    if not isinstance(outcome.end, Done):
        options.fail(_stopped(stop, folder, outcome.end.step, resume), stop.code)
    if json_:
        print(json.dumps(render.run_document(outcome.end, outcome.best)))
    else:
        render.run_summary(outcome.end, outcome.best)


def _stopped(stop: Stop, folder: Path, step: int | None, resume: bool) -> str:
    """How a run ended before its end. step: that was saved then; None: it was ended at once."""
    if step is None and not (folder / "config.yaml").exists():
        return f"{stop.name} before the run began"
    again = shlex.join([*sys.argv[1:], *([] if resume else ["--resume"])])
    saved = "" if step is None else f" and saved after step {step}"
    return f"{stop.name}{saved}; continue with: retina {again}"


@app.command(name="eval")
def eval_(
    weights: Annotated[list[str], typer.Argument(metavar="WEIGHTS", help=options.DETECTOR)],
    data: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="A YAML file whose data to use in place of the checkpoint's.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="val, train, or a split of the data set's own, such as test.")
    ] = "val",
    set_: options.Set = None,
    batch_size: options.BatchSize = 1,
    save_coco: options.SaveCoco = None,
    funnel: Annotated[bool, typer.Option("--funnel", help="Also tell at which stage objects were missed.")] = False,
    diagnose: Annotated[
        bool,
        typer.Option(
            "--diagnose", help="Also tell TIDE's errors, confused classes, calibration, precision over recall."
        ),
    ] = False,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Choose a score threshold for each class, for predict --thresholds."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            parser=options.number(0.01, 1), metavar="0.01..1", help="What thresholds are to reach.  [default: best F1]"
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write all of it as a page, with the worst images.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Also score with pycocotools; exit 3 if a number differs.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Tell what the second of two detectors gains, and how surely.")
    ] = False,
    engine_precision: Annotated[options.Precision | None, typer.Option(help=options.ARITHMETIC)] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Measure a detector: the 12 COCO numbers, and AP per class; or compare two."""
    from retinacli.commands import evaluate as evaluation

    source = evaluation.Source(data, split, set_ or [], batch_size, device, engine_precision)
    wanted = evaluation.EvalOutputs(funnel, diagnose, precision, thresholds, report, reference, save_coco)
    evaluation.check(weights, compare, wanted, source)
    if compare:
        evaluation.compare(weights, source, json_)
    else:
        evaluation.measure(weights[0], source, wanted, json_)


@app.command()
def predict(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Image files, folders or glob patterns.")],
    weights: Annotated[str, typer.Option("-w", "--weights", metavar="WEIGHTS", help=options.DETECTOR)] = "coco",
    vis: Annotated[bool, typer.Option("--vis", help="Write annotated copies.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where annotated copies go.")] = Path(
        "predictions"
    ),
    score: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="0..1", help="Lowest score to report.  [default: 0.3]")
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Score thresholds of each class, from `retina eval --thresholds`."),
    ] = None,
    max_detections: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many per image.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="NAME,...", help="Only these classes; repeatable.")
    ] = None,
    batch_size: options.BatchSize = 1,
    save_coco: options.SaveCoco = None,
    precision: Annotated[options.Precision | None, typer.Option(help=options.ARITHMETIC)] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Find objects in pictures."""
    options.check_predict(weights, score, thresholds, precision is not None, device)
    from retinacli import console as render
    from retinanet.detections import DEFAULT_SCORE_THRESHOLD
    from retinanet.inference import predict as prediction
    from retinanet.inference import results as detection_results
    from retinanet.inference.detector import load
    from retinanet.io.atomic import write_text

    lowest = DEFAULT_SCORE_THRESHOLD if score is None else score
    place = options.device(weights, device)
    numbers: Literal["fp32", "bf16"] = "bf16" if precision is options.Precision.BF16 else "fp32"
    detector = load(weights, place, lowest, max_detections, thresholds, numbers)
    labels = options.class_labels(classes, detector.classes)
    files = prediction.find_images(sources)
    results = prediction.predict(detector, files, batch_size, labels)
    if vis:
        results = prediction.annotate(results, prediction.output_names(files, output), detector.classes)
    found = render.predictions(results, len(files))
    if save_coco is not None:
        write_text(save_coco, json.dumps(detection_results.to_coco(found, detector)))
    if json_:
        print(json.dumps(detection_results.to_json(found, detector)))
    else:
        render.prediction_table(found, detector.classes)
    faults = sum(item.fault is not None for item in found)
    if vis and faults < len(found):
        render.message(f"annotated copies: {len(found) - faults} in {output}")
    if faults:
        raise typer.Exit(1)


app.command()(paper.anchors)
app.command(name="loss-plot", cls=ManyValues)(paper.loss_plot)
app.command(cls=ManyValues)(paper.ablate)


@app.command(name="import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Weights of torchvision's RetinaNet (.pth) or detectron2's (.pkl, .pth)."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The checkpoint.  [default: FILE's name with .safetensors]"
        ),
    ] = None,
) -> None:
    """Make a checkpoint of another project's weights."""
    from retinacli import console as render
    from retinanet.checkpoints import checkpoint
    from retinanet.checkpoints import convert as weights

    target = output or Path(file.stem + ".safetensors")
    if target.exists():
        options.fail(f"{target}: exists; -o names another file", 1)
    model, metadata = weights.import_weights(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    tensors = {checkpoint.MODEL + name: tensor for name, tensor in model.state_dict().items()}
    checkpoint.save(target, tensors, metadata)
    render.message(f"{metadata.config.model.backbone}, {len(metadata.classes)} classes, in {target}")


@app.command()
def export(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=options.WEIGHTS)],
    to: Annotated[options.Format, typer.Option("--to", help="The program that is to run it.")],
    precision: Annotated[
        options.ExportPrecision, typer.Option(help="int8 is chosen by pictures, and its AP told.")
    ] = options.ExportPrecision.FP32,
    data: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", help="A YAML file whose data to use in place of the checkpoint's."),
    ] = None,
    set_: options.Set = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The model.  [default: NAME.onnx or NAME.xml]")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Write a detector as one file that runs without torch, and prove that it finds the same."""
    from retinacli import console as render
    from retinacli.render import export as render_export
    from retinanet.errors import VerificationError
    from retinanet.export.export import SUFFIX
    from retinanet.export.export import export as run

    target = options.export_target(weights, output, SUFFIX[to.value])
    try:
        done = run(weights, to.value, target, precision.value, data, set_ or [], render.message)
    except VerificationError as error:
        options.fail(str(error), 3)
    if json_:
        print(json.dumps(render_export.document(done)))
    else:
        render_export.summary(done)


@app.command()
def check(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped example such as coco.yaml.")
    ],
    fast: Annotated[bool, typer.Option("--fast", help="Read the headers of the images, not their pixels.")] = False,
    set_: options.Set = None,
    json_: options.Json = False,
) -> None:
    """Look for faults in the data before hours of training are spent."""
    from retinacli import console as render
    from retinacli.render import check as render_check
    from retinanet.config_file import load_config
    from retinanet.dataset_analysis.check import check as look

    settings = load_config(config, set_ or [])
    with render.counter("images") as progress:
        report = look(settings, fast, progress)
    if json_:
        print(json.dumps(render_check.document(report)))
    else:
        render_check.tables(report)
    if report.count("error"):
        raise typer.Exit(1)


@app.command(name="bench", cls=ManyValues)
def bench_(
    weights: Annotated[
        str | None,
        typer.Argument(metavar="WEIGHTS", help=f"{options.DETECTOR}  [default: random]", show_default=False),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=32, max=8192, metavar="N", help="The images' short side.  [default: the detector's, 800]"),
    ] = None,
    engine: Annotated[
        bench.Engine | None, typer.Option(help="What runs it.  [default: torch, or what the file is for]")
    ] = None,
    precision: Annotated[
        options.Precision | None, typer.Option(help="Of OpenVINO's arithmetic.  [default: fp32]")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Timed runs.  [default: 7; on a GPU 50]")
    ] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="A picture in place of the drawn one.")] = None,
    against: Annotated[
        bench.Baseline | None, typer.Option(help="Run this detector of torchvision's in turns with it.")
    ] = None,
    depth: Annotated[
        list[int] | None, typer.Option(metavar="N...", help="Table 1e: ResNets of so many layers, such as 50 101.")
    ] = None,
    scale: Annotated[
        list[int] | None,
        typer.Option(min=32, max=8192, metavar="N...", help="Table 1e: short sides, such as 400 500 600 700 800."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="Where AP is measured in place of the weights' own data.")
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Tell how long an image takes, by stage; beside another detector; or by depth and scale, as the paper's table 1e."""
    bench.check(weights, size, against, depth or [], scale or [], data)
    asked = bench.asked(weights, size, engine, precision, repeats, image, device)
    if against is not None:
        bench.race(asked, against, (depth or [50])[0], json_)
    elif depth or scale:
        bench.table(asked, depth or [50], scale or [], data, json_)
    else:
        bench.stages(asked, json_)
