"""`retina predict`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from retinacli import options
from retinacli.commands import predict_shards
from retinacli.failure import check_writable, fail
from retinacli.stop_signals import stoppable


def predict_command(
    sources: Annotated[
        list[str] | None,
        Argument(metavar="SOURCE", help="Image files, folders or glob patterns; or --list, or with --merge a folder."),
    ] = None,
    weights: Annotated[str, Option("-w", "--weights", metavar="WEIGHTS", help=options.DETECTOR)] = "coco",
    vis: Annotated[bool, Option("--vis", help="Write copies of the images with the detections drawn.")] = False,
    output: Annotated[
        Path | None,
        options.output("DIR", "Folder for the copies of --vis, or a file for one image.  [default: predictions]"),
    ] = None,
    recursive: Annotated[bool, Option("--recursive", help="Look into the subfolders of folders, too.")] = False,
    score: Annotated[
        float | None, Option(min=0, max=1, metavar="0..1", help="Score that detections must exceed.  [default: 0.3]")
    ] = None,
    thresholds: Annotated[
        Path | None, Option(metavar="FILE", help="Score threshold of each class, from `retina eval --thresholds`.")
    ] = None,
    max_detections: Annotated[
        int | None, Option(min=1, metavar="N", help="Maximum number of detections per image.")
    ] = None,
    classes: Annotated[
        list[str] | None, Option(metavar="NAME,...", help="Report only these classes; repeatable.")
    ] = None,
    batch_size: options.BatchSize = 1,
    save_coco: options.SaveCoco = None,
    image_ids: Annotated[
        Path | None,
        Option(metavar="FILE", help="COCO annotations whose ids --save-coco gives the images, by file name."),
    ] = None,
    list_: Annotated[
        Path | None, Option("--list", metavar="FILE", help="File with the name of an image on each line.")
    ] = None,
    shard: Annotated[
        str | None,
        Option(metavar="I/N", help="Detect only part I (from 0) of N, or of `env`, and write JSON lines to -o."),
    ] = None,
    merge: Annotated[bool, Option("--merge", help="Merge the parts of all shards into the file -o.")] = False,
    precision: options.NetworkPrecision = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Detect objects in images."""
    if score is not None and thresholds is not None:
        fail("--score sets one threshold for all classes, --thresholds one for each class; use only one of them", 2)
    if merge:
        return predict_shards.merge(sources or [], output)
    check_options(sources or [], list_, shard, vis, output, save_coco, image_ids, json_)
    predict_shards.check_precision(shard, precision)
    if save_coco is not None:
        check_writable(save_coco)
    options.check_exported([weights], precision, device)
    from retinacli.console import message
    from retinacli.render.predict import collect_predictions, show_predictions
    from retinanet.data.formats.coco import read_image_ids
    from retinanet.data.transforms import memory_warning
    from retinanet.detections import DEFAULT_SCORE_THRESHOLD
    from retinanet.inference.detector import load
    from retinanet.inference.predict import annotate, find_images, left_out, output_names, predict
    from retinanet.inference.results import match_image_ids, to_coco
    from retinanet.inference.shards import Names
    from retinanet.io.atomic import write_text

    threshold = DEFAULT_SCORE_THRESHOLD if score is None else score
    place, numbers = options.device_and_precision(weights, device, precision)
    detector = load(weights, place, threshold, max_detections, thresholds, numbers)
    if warning := memory_warning(detector.data, weights):
        message(warning)
    labels = class_labels(classes, detector.classes) if classes else None
    output = (output or Path("predictions")).expanduser()
    if shard is not None:
        images = list_ or [str(file) for file in find_images(sources or [], recursive)]
        changing = {"weights": weights, "score": score, "thresholds": str(thresholds), "max_detections": max_detections}
        settings = changing | {"classes": classes, "batch_size": batch_size, "precision": numbers}
        part = predict_shards.parse_shard(shard)
        return predict_shards.predict_shard(detector, images, part, output, settings, batch_size, labels)
    files = find_images(sources, recursive) if sources else list(map(Path, Names(list_ or [])))
    for note in [] if recursive else left_out(sources or []):
        message(note)
    ids = None if image_ids is None else match_image_ids(files, read_image_ids(image_ids), image_ids)
    results = predict(detector, files, batch_size, labels)
    if vis:
        names = output_names(files, output)
        for name in names:
            check_writable(name)
        results = annotate(results, names, detector.classes)
    started = time.perf_counter()
    with stoppable() as stop:
        predictions = collect_predictions(results, len(files))
    seconds = time.perf_counter() - started
    if save_coco is not None:
        write_text(save_coco, json.dumps(to_coco(predictions, detector, ids)))
    show_predictions(predictions, detector, seconds, json_)
    written = sum(item.fault is None for item in predictions)
    if score is None and not (thresholds or json_) and written and not any(item.detections for item in predictions):
        message(f"no detection has a score above {threshold:g}; a lower --score shows weaker ones")
    if vis and written:
        message(f"wrote {written} annotated image{'s' * (written > 1)} to {output}")
    if len(predictions) < len(files):
        fail(f"{stop.name} after {len(predictions):,} of {len(files):,} images", stop.code)
    if written < len(predictions):
        raise typer.Exit(1)


def check_options(
    sources: Sequence[str],
    list_: Path | None,
    shard: str | None,
    vis: bool,
    output: Path | None,
    save_coco: Path | None,
    image_ids: Path | None,
    json_: bool,
) -> None:
    """Fail if one option needs or excludes another."""
    if list_ is None and not sources:
        fail("no images are named; name files, folders or patterns, or a file that lists them with --list", 2)
    if list_ is not None and sources:
        fail("--list FILE names the images; leave out SOURCE", 2)
    if shard is not None and (vis or save_coco is not None or json_):
        fail("--shard writes parts to the folder -o; leave out --vis, --save-coco and --json", 2)
    if output is not None and not vis and shard is None:
        fail("-o sets where --vis writes copies of the images; add --vis", 2)
    if image_ids is not None and save_coco is None:
        fail("--image-ids sets the ids of the images in --save-coco; add --save-coco FILE", 2)


def class_labels(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The labels of the named classes. Class names may contain commas."""
    from retinanet.messages import did_you_mean

    labels = []
    for name in [part for given in names for part in ([given] if given in classes else given.split(","))]:
        if name not in classes:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            fail(f"--classes: unknown class {name!r}; {did_you_mean(name, classes) or f'expected {known}'}", 2)
        labels.append(classes.index(name))
    return labels
