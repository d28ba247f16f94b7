"""The commands of `retina`: each parses, makes one call into the core and renders what comes back."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from retinacli import bench, lossplot, options
from retinacli.manyvalues import ManyValues

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
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Do as detectron2, torchvision or torchvision_v2 do.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="train.seed")] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Train a detector."""
    from retinacli import render
    from retinanet.configfile import load_config
    from retinanet.training import train as run

    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": device}
    settings = load_config(config, options.overrides(set_, **flags), preset)
    folder = output or Path("runs") / Path(config).stem
    try:
        done = render.training(run(settings, folder, resume))
    except KeyboardInterrupt:
        again = shlex.join([*sys.argv[1:], *([] if resume else ["--resume"])])
        options.fail(f"interrupted; continue from the last finished epoch with: retina {again}", 130)
    if json_:
        print(json.dumps(render.run_document(done)))
    else:
        render.run_summary(done)


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
    from retinacli import evaluation

    source = evaluation.Source(data, split, set_ or [], batch_size, device, engine_precision)
    wanted = evaluation.Wanted(funnel, diagnose, precision, thresholds, report, reference, save_coco)
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
    from retinacli import render
    from retinanet import prediction
    from retinanet.found import SHOWN

    lowest = SHOWN if score is None else score
    place = options.device(weights, device)
    numbers: Literal["fp32", "bf16"] = "bf16" if precision is options.Precision.BF16 else "fp32"
    detector = prediction.load(weights, place, lowest, max_detections, thresholds, numbers)
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


@app.command()
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
    from retinacli import render, render_anchors
    from retinanet import anchordrawing, anchorsearch, configfile, coverage, drawing
    from retinanet.config import Config
    from retinanet.data import open_dataset

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
        drawing.write_picture(drawn.canvas, output)
        render.message(render_anchors.picture_line(drawn, output, split if config else None))
    if json_:
        print(json.dumps(render_anchors.document(settings.anchors, covered, found)))
    else:
        render_anchors.tables(settings.anchors, covered, found)
    if covered is not None and min_coverage is not None and not covered.share >= min_coverage:
        options.fail(render_anchors.shortfall(covered, min_coverage, settings.anchors.foreground_iou), 3)


@app.command(name="loss-plot", cls=ManyValues)
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
    output.parent.mkdir(parents=True, exist_ok=True)
    if cdf is None:
        lossplot.curves(gammas, output, loss.value, alpha, 1 if shift is None else shift, gradient, json_)
    else:
        lossplot.distribution(cdf, gammas, output, data, split or "val", set_ or [], seed or 0, device, json_)


@app.command(cls=ManyValues)
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
    from retinacli import render_ablation
    from retinanet import ablation
    from retinanet.configfile import load_config
    from retinanet.figures import ablation_chart

    tables = options.tables(table, values, list(ablation.TABLES))
    settings = load_config(config, options.overrides(set_, epochs=epochs, device=device))
    folder = output or Path("runs") / f"{Path(config).stem}-ablation"
    rows = [row for name in tables for row in ablation.make_rows(settings, name, values)]
    try:
        outcomes = list(ablation.ablate(rows, folder, seeds, render_ablation.run_of(rows, seeds)))
    except KeyboardInterrupt:
        options.fail("interrupted; the same command continues from the last finished epoch", 130)
    held = ablation.merge(outcomes, folder / "ablation.json")
    ablation_chart(held, folder / "ablation.png")
    if json_:
        print(json.dumps(render_ablation.document(outcomes)))
    else:
        render_ablation.tables(outcomes)
    render_ablation.files(folder)


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
    from retinacli import render
    from retinanet import checkpoint, weights

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
    from retinacli import render, render_export
    from retinanet.errors import VerificationError
    from retinanet.export import SUFFIX
    from retinanet.export import export as run

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
    from retinacli import render, render_check
    from retinanet.configfile import load_config
    from retinanet.data.check import check as look

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
        bench.Peer | None, typer.Option(help="Run this detector of torchvision's in turns with it.")
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
