"""`retina eval`."""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

from typer import Argument, BadParameter, Option

from retinacli import options
from retinacli.failure import check_writable, fail
from retinacli.processes import in_processes
from retinacli.stop_signals import stoppable
from retinanet.distributed import current_processes

if TYPE_CHECKING:
    from retinanet.data.dataset import Dataset
    from retinanet.evaluation.error_analysis import Diagnosis
    from retinanet.evaluation.evaluate import Evaluation
    from retinanet.evaluation.thresholds import ClassThreshold

DIAGNOSE_HELP = "Also report kinds of errors (TIDE), confused classes, calibration and precision at each recall."
TARGET_HELP = "Precision that each class's threshold must reach, else exit 3.  [default: best F1]"
REFERENCE_HELP = "Also compute the metrics with pycocotools; exit 3 if one differs."


@dataclass(frozen=True)
class EvalSettings:
    """Options of the data, of running a detector and of reading a results file."""

    data: str | None
    split: str
    overrides: list[str]
    batch_size: int
    device: str | None
    precision: options.PrecisionChoice | None
    classes_from: int | None


@dataclass(frozen=True)
class EvalOutputs:
    """Options of the results beyond the metrics."""

    funnel: bool
    diagnose: bool
    target_precision: float | None
    thresholds: Path | None
    report: Path | None
    reference: bool
    save_coco: Path | None


def precision_or_number(text: str) -> options.PrecisionChoice | float:
    """The value of --precision, or a number, which was that of --target-precision before. Raises: BadParameter."""
    for name in get_args(options.PrecisionChoice):
        if text == name:
            return name
    with suppress(ValueError):
        float(text)
        return options.number(0.01, 1)(text)
    raise BadParameter(f"{text!r} is not {' or '.join(get_args(options.PrecisionChoice))}")


@in_processes
def eval_command(
    weights: Annotated[list[str], Argument(metavar="WEIGHTS", help=options.RESULTS)],
    data: options.Data = None,
    split: options.Split = "val",
    set_: options.Set = None,
    batch_size: options.BatchSize = 1,
    save_coco: options.SaveCoco = None,
    funnel: Annotated[
        bool, Option("--funnel", help="Also report where the detector loses the missed objects.")
    ] = False,
    diagnose: Annotated[bool, Option("--diagnose", help=DIAGNOSE_HELP)] = False,
    thresholds: Annotated[
        Path | None, Option(metavar="FILE", help="Write a score threshold for each class, for `predict --thresholds`.")
    ] = None,
    target_precision: Annotated[
        float | None, Option(parser=options.number(0.01, 1), metavar="0.01..1", help=TARGET_HELP)
    ] = None,
    report: Annotated[
        Path | None, Option(metavar="DIR", help="Write an HTML page with all results and the worst images.")
    ] = None,
    reference: Annotated[bool, Option("--reference", help=REFERENCE_HELP)] = False,
    compare: Annotated[bool, Option("--compare", help="Compare two WEIGHTS, with 95 % intervals.")] = False,
    classes_from: options.ClassesFrom = None,
    precision: Annotated[
        str | None, Option(parser=precision_or_number, metavar="<fp32|bf16|fp16|auto>", help=options.PRECISION_HELP)
    ] = None,
    engine_precision: Annotated[options.PrecisionChoice | None, Option(hidden=True)] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Measure a detector with the 12 COCO metrics and AP per class."""
    arithmetic, target = renamed_options(precision, target_precision, engine_precision)
    settings = EvalSettings(data, split, set_ or [], batch_size, device, arithmetic, classes_from)
    outputs = EvalOutputs(funnel, diagnose, target, thresholds, report, reference, save_coco)
    check_options(weights, compare, settings, outputs)
    if compare:
        compare_two(weights, settings, json_)
    else:
        evaluate_one(weights[0], settings, outputs, json_)


def renamed_options(
    precision: str | float | None, target: float | None, former: options.PrecisionChoice | None
) -> tuple[options.PrecisionChoice | None, float | None]:
    """The values of --precision and --target-precision, also where they are given by their former names.

    former: the value of --engine-precision.
    """
    from retinacli.console import message

    arithmetic = next((name for name in get_args(options.PrecisionChoice) if name == precision), None)
    if former is not None:
        if arithmetic is not None:
            fail("--engine-precision is the former name of --precision; use only --precision", 2)
        message(f"warning: --engine-precision {former} is now --precision {former}; the old name will be removed")
        arithmetic = former
    if isinstance(precision, float):
        if target is not None:
            fail(f"--precision {precision:g} is the former name of --target-precision; use only --target-precision", 2)
        message(
            f"warning: --precision {precision:g} is now --target-precision {precision:g}; the old name will be removed"
        )
        target = precision
    return arithmetic, target


def check_options(weights: list[str], compare: bool, settings: EvalSettings, outputs: EvalOutputs) -> None:
    """Fail if one option needs or excludes another."""
    if compare:
        if len(weights) != 2:
            fail(f"--compare needs two detectors; got {len(weights)}", 2)
        for name, value in vars(outputs).items():
            if value not in (None, False):
                fail(f"--{name.replace('_', '-')} is for one detector; it cannot be combined with --compare", 2)
    elif len(weights) > 1:
        fail(f"got {len(weights)} detectors; name one, or add --compare to compare two", 2)
    if outputs.target_precision is not None and not (outputs.diagnose or outputs.thresholds or outputs.report):
        needed = "--thresholds FILE, --diagnose or --report DIR"
        fail(f"--target-precision sets what the thresholds must reach; add {needed}", 2)
    options.check_exported(weights, settings.precision, settings.device)
    if outputs.funnel and not gives_every_score(weights[0]):
        fail(f"--funnel needs every score, but {weights[0]} gives only the best; name its checkpoint", 2)
    check_results_files(weights, settings)


def gives_every_score(weights: str) -> bool:
    """Whether the scores of all anchors are known, not only those of the detections."""
    from retinanet.evaluation.results_file import is_results_file

    return options.engine_of(weights) == "torch" and not is_results_file(weights)


def check_results_files(weights: list[str], settings: EvalSettings) -> None:
    """Fail if an option does not fit the results files in `weights`."""
    from retinanet.evaluation.results_file import is_results_file

    files = [each for each in weights if is_results_file(each)]
    if not files and settings.classes_from is not None:
        fail(f"--classes-from is for results files (.json), not for {' or '.join(weights)}", 2)
    if len(files) < len(weights):
        return
    if settings.data is None:
        fail(f"{files[0]} holds only detections; name the data set that they are of with --data CONFIG", 2)
    given = {"--device": settings.device, "--precision": settings.precision, "--batch-size": settings.batch_size > 1}
    if unused := [name for name, value in given.items() if value]:
        fail(f"{unused[0]} is for running a detector; {files[0]} holds its detections", 2)
    if keys := [each for each in settings.overrides if not each.startswith("data.")]:
        fail(f"--set {keys[0]}: is for running a detector; {files[0]} holds its detections", 2)


def evaluate_one(weights: str, settings: EvalSettings, outputs: EvalOutputs, json_: bool) -> None:
    """Evaluate one detector, write the requested files, and fail if a requirement is not met."""
    from retinacli.console import counter, message
    from retinacli.render.evaluate import show_evaluation
    from retinanet.evaluation.error_analysis import diagnose
    from retinanet.evaluation.thresholds import choose_thresholds

    for file in (outputs.save_coco, outputs.thresholds, outputs.report and outputs.report / "index.html"):
        if file is not None:
            check_writable(file)
    funnel = outputs.funnel or (outputs.report is not None and gives_every_score(weights))
    thresholds, diagnosis = None, None
    with in_one_go():
        with counter("images") as progress:
            evaluation = evaluate_weights(weights, settings, settings.data, progress, funnel, outputs.reference)
        if current_processes().rank:
            return
        for note in evaluation.notes:
            message(note)
        dataset, results = evaluation.dataset, evaluation.results
        if outputs.diagnose or outputs.thresholds or outputs.report:
            check_scores(weights, evaluation)
            lowest = evaluation.score_threshold
            with counter("resamples of a class") as progress:
                thresholds = choose_thresholds(dataset, results, outputs.target_precision, lowest, progress=progress)
        if thresholds is not None and (outputs.diagnose or outputs.report):
            with counter("error analysis"):
                diagnosis = diagnose(dataset, results, [each.threshold for each in thresholds])
    # before the tables, whose reader may end, as in `| head`
    write_files(weights, settings, outputs, evaluation, thresholds, diagnosis)
    show_evaluation(evaluation, thresholds, diagnosis, json_)
    check_results(outputs, evaluation, thresholds)


@contextmanager
def in_one_go() -> Iterator[None]:
    """Say of an interrupt within the context that the evaluation is lost."""
    with stoppable() as stop:
        interrupted = True
        with suppress(KeyboardInterrupt):
            yield
            interrupted = False
    if interrupted or stop():
        fail(f"{stop.name}; nothing was saved, and the same command starts the evaluation again", stop.code)


def check_scores(weights: str, evaluation: "Evaluation") -> None:
    """Fail if a score lies outside 0 to 1, where neither thresholds nor the calibration mean anything."""
    scores = evaluation.results[:, 5]
    if len(scores) and not 0 <= scores.min() <= scores.max() <= 1:
        needing = "--diagnose, --thresholds and --report"
        fail(f"{weights}: has scores from {scores.min():g} to {scores.max():g}; {needing} need scores from 0 to 1", 1)


def write_files(
    weights: str,
    settings: EvalSettings,
    outputs: EvalOutputs,
    evaluation: "Evaluation",
    thresholds: "list[ClassThreshold] | None",
    diagnosis: "Diagnosis | None",
) -> None:
    """Write the files of --save-coco, --thresholds and --report."""
    from retinacli.console import counter, message
    from retinanet.evaluation.thresholds import save_thresholds
    from retinanet.inference.results import coco_results
    from retinanet.io.atomic import write_text

    dataset, from_file = evaluation.dataset, evaluation.settings is None
    if outputs.save_coco is not None:
        found = coco_results(evaluation.results, dataset.image_ids.tolist(), dataset.category_ids)
        if not dataset.image_ids_annotated:  # other programs know only the names
            files = (dataset.files[int(index)] for index in evaluation.results[:, 0])
            found = [each | {"file_name": file} for each, file in zip(found, files, strict=True)]
        write_text(outputs.save_coco, json.dumps(found))
    if thresholds is not None and outputs.thresholds is not None:
        named = zip(thresholds, evaluation.category_ids, strict=True)  # as the detector, which reads the file, knows it
        own = [replace(each, category_id=category_id) for each, category_id in named]
        save_thresholds(outputs.thresholds, own, len(dataset), outputs.target_precision)
        command = shlex.join(["retina", "predict", "IMAGE", "-w", weights, "--thresholds", str(outputs.thresholds)])
        message(f"wrote {outputs.thresholds}" + ("" if from_file else f"; use it: {command}"))
    if thresholds is not None and diagnosis is not None and outputs.report is not None:
        from retinanet.report.report import write_report

        about = {"results" if from_file else "weights": weights, "data": settings.data or "the checkpoint's own"}
        if evaluation.precision is not None:
            about["precision"] = evaluation.precision
        with counter("report"):
            page = write_report(outputs.report, evaluation, diagnosis, thresholds, about | {"split": settings.split})
        message(f"wrote {page}")


def compare_two(weights: list[str], settings: EvalSettings, json_: bool) -> None:
    """Evaluate two detectors on the same images and compare them."""
    from retinacli.console import counter, message
    from retinacli.render.compare import show_comparison
    from retinanet.evaluation.comparison import compare
    from retinanet.evaluation.results_file import is_results_file

    if settings.precision == "auto":
        fail("--precision auto may differ between the two; with --compare, name fp32, bf16 or fp16", 2)
    data: str | Dataset | None = settings.data
    evaluations: dict[int, Evaluation] = {}
    order = sorted((0, 1), key=lambda place: is_results_file(weights[place]))  # a detector may have own data
    with in_one_go():
        with counter("images") as progress:
            for place in order:
                evaluations[place] = evaluate_weights(weights[place], settings, data, progress)
                data = evaluations[place].dataset
        if current_processes().rank:
            return
        first, second = evaluations[0], evaluations[1]
        for note in dict.fromkeys((*first.notes, *second.notes)):
            message(note)
        with counter("resamples") as progress:
            comparison = compare(first.dataset, first.results, second.results, progress=progress)
    precisions, facts = [first.precision, second.precision], [first.facts, second.facts]
    show_comparison(weights, precisions, facts, comparison, json_)


def evaluate_weights(
    weights: str,
    settings: EvalSettings,
    data: "str | Dataset | None",
    progress: Callable[[int, int], object],
    funnel: bool = False,
    reference: bool = False,
) -> "Evaluation":
    """Evaluate one detector or results file. data: used in place of `settings.data`."""
    from retinacli.console import message
    from retinanet.config_file import override
    from retinanet.data.transforms import memory_warning
    from retinanet.evaluation.eval_input import EvalInput, open_in_all, open_input
    from retinanet.evaluation.evaluate import evaluate
    from retinanet.inference.detector import Detector

    device, precision = options.device_and_precision(weights, settings.device, settings.precision)

    def open_(precision: options.PrecisionChoice) -> EvalInput:
        return open_input(weights, device, precision, settings.classes_from)

    subject = open_in_all(current_processes(), open_, precision)
    if isinstance(subject, Detector):
        data_config = override(subject.metadata.config, settings.overrides).data
        if warning := memory_warning(data_config, weights):
            message(warning)
    options_of_data = settings.split, settings.overrides, settings.batch_size
    return evaluate(subject, data, *options_of_data, progress, funnel, reference)


def check_results(outputs: EvalOutputs, evaluation: "Evaluation", thresholds: "list[ClassThreshold] | None") -> None:
    """Fail if a metric differs from the reference, or no threshold of a class reaches the required precision."""
    from retinacli.render.evaluate import differing_metrics

    if different := differing_metrics(evaluation):
        fail(f"--reference: pycocotools has another value of {', '.join(different)}", 3)
    missed = [each.label for each in thresholds or [] if not each.reached]
    if missed and (target := outputs.target_precision) is not None:
        effect = f"; {outputs.thresholds} reports none of their detections" if outputs.thresholds else ""
        fail(f"--target-precision {target:g}: no threshold reaches it for {', '.join(missed)}{effect}", 3)
