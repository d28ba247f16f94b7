"""What `retina eval` does with one detector, and with two."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retinacli import console as render
from retinacli import options
from retinacli.render import compare as render_comparison
from retinacli.render import error_analysis as render_diagnosis
from retinacli.render import evaluate as render_evaluation

if TYPE_CHECKING:
    from retinanet.data.dataset import Dataset
    from retinanet.evaluation.error_analysis import Diagnosis
    from retinanet.evaluation.evaluate import Evaluation
    from retinanet.evaluation.thresholds import ClassThreshold


@dataclass(frozen=True)
class EvalOutputs:
    """Beyond the numbers; each as the option of its name."""

    funnel: bool
    diagnose: bool
    precision: float | None
    thresholds: Path | None
    report: Path | None
    reference: bool
    save_coco: Path | None


@dataclass(frozen=True)
class Source:
    """Which data to measure on, and by what; each as the option of its name."""

    data: str | None
    split: str
    set_: list[str]
    batch_size: int
    device: str | None
    engine_precision: options.Precision | None


def check(weights: list[str], compare: bool, wanted: EvalOutputs, source: Source) -> None:
    """Fail where one option needs or excludes another."""
    from retinanet.inference.exported_model import is_exported

    asked = {f"--{name.replace('_', '-')}": value for name, value in vars(wanted).items()}
    if compare:
        if len(weights) != 2:
            options.fail(f"--compare takes two detectors; got {len(weights)}", 2)
        if extra := [name for name, value in asked.items() if value not in (None, False)]:
            options.fail(f"{extra[0]} is about one detector; it does not go with --compare", 2)
    elif len(weights) > 1:
        options.fail(f"{len(weights)} detectors; one is measured at a time, and --compare takes two", 2)
    if wanted.precision is not None and not (wanted.diagnose or wanted.thresholds or wanted.report):
        options.fail(
            "--precision is what the thresholds are to reach; add --thresholds FILE, --diagnose or --report DIR", 2
        )
    options.check_engine(weights, "--engine-precision" if source.engine_precision else None, source.device)
    if wanted.funnel and is_exported(weights[0]):
        options.fail(f"--funnel needs every score; {weights[0]} gives only the best: name its checkpoint", 2)


def measure(weights: str, source: Source, wanted: EvalOutputs, json_: bool) -> None:
    """One detector."""
    from retinanet.evaluation.error_analysis import diagnose
    from retinanet.evaluation.thresholds import choose_thresholds
    from retinanet.inference.exported_model import is_exported
    from retinanet.inference.results import coco_results
    from retinanet.io.atomic import write_text

    if wanted.report is not None:
        options.check_writable(wanted.report / "index.html")
    funnel = wanted.funnel or (wanted.report is not None and not is_exported(weights))
    with render.counter("images") as progress:
        found = _evaluate(weights, source, source.data, progress, funnel, wanted.reference)
    for note in found.notes:
        render.message(note)
    chosen = diagnosis = None
    if wanted.diagnose or wanted.thresholds or wanted.report:
        chosen = choose_thresholds(found.dataset, found.results, wanted.precision, found.settings.score_threshold)
        if wanted.diagnose or wanted.report:
            diagnosis = diagnose(found.dataset, found.results, [each.threshold for each in chosen])
    if wanted.save_coco is not None:
        write_text(wanted.save_coco, json.dumps(coco_results(found.results)))
    if json_:
        explained = render_diagnosis.document(found.dataset, chosen, diagnosis)
        print(json.dumps(render_evaluation.document(found) | explained))
    else:
        render_evaluation.tables(found)
        render_diagnosis.tables(found.dataset, chosen, diagnosis)
    _write(weights, source, wanted, found, chosen, diagnosis)
    _judge(wanted, found, chosen)


def compare(weights: list[str], source: Source, json_: bool) -> None:
    """Two detectors on the same images."""
    from retinanet.evaluation.comparison import compare as difference

    with render.counter("images") as progress:
        first = _evaluate(weights[0], source, source.data, progress)
        second = _evaluate(weights[1], source, first.dataset, progress)
    for note in dict.fromkeys((*first.notes, *second.notes)):
        render.message(note)
    with render.counter("resamples") as progress:
        found = difference(first.dataset, first.results, second.results, progress=progress)
    if json_:
        print(json.dumps(render_comparison.document(weights, found)))
    else:
        render_comparison.tables(weights, found)


def _evaluate(
    weights: str,
    source: Source,
    data: "str | Dataset | None",
    progress: Callable[[int, int], object],
    funnel: bool = False,
    reference: bool = False,
) -> "Evaluation":
    """As `retinanet.evaluation.evaluate.evaluate_checkpoint` has it; `data` in place of that of `source`."""
    from retinanet.evaluation.detector_and_data import DataSource
    from retinanet.evaluation.evaluate import Extras, evaluate_checkpoint
    from retinanet.inference.exported_model import OPENVINO

    device = options.device(weights, source.device)
    bf16 = source.engine_precision is options.Precision.BF16 and Path(weights).suffix.lower() == OPENVINO
    return evaluate_checkpoint(
        weights,
        DataSource(data, source.split, source.set_),
        source.batch_size,
        device,
        "bf16" if bf16 else "fp32",
        progress,
        Extras(funnel, reference),
    )


def _write(
    weights: str,
    source: Source,
    wanted: EvalOutputs,
    found: "Evaluation",
    chosen: "list[ClassThreshold] | None",
    diagnosis: "Diagnosis | None",
) -> None:
    """The files of what was explained."""
    from retinanet.evaluation.thresholds import save_thresholds

    if chosen is not None and wanted.thresholds is not None:
        save_thresholds(wanted.thresholds, chosen, len(found.dataset), wanted.precision)
        render.message(f"thresholds: retina predict IMAGE -w {weights} --thresholds {wanted.thresholds}")
    if chosen is not None and diagnosis is not None and wanted.report is not None:
        from retinanet.report.report import write_report

        about = {"weights": weights, "data": source.data or "its own", "split": source.split}
        render.message(f"report: {write_report(wanted.report, found, diagnosis, chosen, about)}")


def _judge(wanted: EvalOutputs, found: "Evaluation", chosen: "list[ClassThreshold] | None") -> None:
    """Fail where the evaluation is not what it was to be."""
    if different := render_evaluation.differing(found):
        options.fail(f"--reference: pycocotools has another {', '.join(different)}", 3)
    missed = [each.label for each in chosen or [] if not each.reached]
    if missed and wanted.precision is not None:
        silent = f"; {wanted.thresholds} keeps them silent" if wanted.thresholds else ""
        options.fail(f"--precision {wanted.precision:g}: reached at no threshold by {', '.join(missed)}{silent}", 3)
