"""Shows an evaluation: COCO metrics, classes, missed objects, differences from pycocotools."""

from typing import Any

from retinacli.console import DASH, in_precision, print_json, print_table
from retinacli.render.error_analysis import analysis_document, analysis_tables
from retinanet.evaluation.coco_metrics import METRICS, measured
from retinanet.evaluation.error_analysis import Diagnosis
from retinanet.evaluation.evaluate import Evaluation
from retinanet.evaluation.missed_objects import STAGES, MissedObjects
from retinanet.evaluation.thresholds import ClassThreshold


def show_evaluation(
    evaluation: Evaluation, thresholds: list[ClassThreshold] | None, diagnosis: Diagnosis | None, as_json: bool
) -> None:
    if as_json:
        analysis = analysis_document(evaluation.dataset, thresholds, diagnosis)
        print_json(_document(evaluation) | analysis)
        return
    metrics_tables(evaluation)
    if evaluation.missed_objects is not None:
        _missed_objects_tables(evaluation.missed_objects, evaluation.metrics["AP50"])
    if evaluation.reference is not None:
        _reference_result(evaluation, evaluation.reference)
    analysis_tables(evaluation.dataset, thresholds, diagnosis)


def metrics_document(evaluation: Evaluation) -> dict[str, Any]:
    """The metrics, null where there are no objects."""
    per_class = [vars(item) | {"AP": measured(item.AP), "AP50": measured(item.AP50)} for item in evaluation.per_class]
    return {"metrics": _measured(evaluation.metrics), "per_class": per_class}


def _measured(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: measured(value) for name, value in metrics.items()}


def metrics_tables(evaluation: Evaluation) -> None:
    classes = ((item.label, ap_text(item.AP), ap_text(item.AP50), item.objects) for item in evaluation.per_class)
    print_table("Per class", ("class", "AP", "AP50", "objects"), classes)
    metrics = ((name, METRICS[name], ap_text(value)) for name, value in evaluation.metrics.items())
    print_table(f"COCO metrics{in_precision(evaluation.precision)}", ("metric", "", "value"), metrics, text_columns=2)


def differing_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics that differ from pycocotools in any bit; none without a reference."""
    reference = evaluation.reference or {}
    return [name for name, theirs in reference.items() if evaluation.metrics[name] != theirs]


def _document(evaluation: Evaluation) -> dict[str, Any]:
    document = metrics_document(evaluation) | {"precision": evaluation.precision}
    if evaluation.missed_objects is not None:
        missed = evaluation.missed_objects
        document["funnel"] = {
            "objects": missed.objects,
            "missed": missed.missed,
            "stages": [vars(at) | {"AP50": measured(at.AP50)} for at in missed.by_stage],
            "worst_images": [vars(image) for image in missed.worst],
        }
    if evaluation.reference is not None:
        document["reference"] = {"equal": not differing_metrics(evaluation), "metrics": _measured(evaluation.reference)}
    return document


def _missed_objects_tables(missed: MissedObjects, ap50: float) -> None:
    stages = (
        (at.stage, STAGES[at.stage], at.missed, at.small, at.medium, at.large, f"{at.AP50:.4f}" if at.missed else "")
        for at in missed.by_stage
    )
    sums = (sum(getattr(at, name) for at in missed.by_stage) for name in ("missed", "small", "medium", "large"))
    title = f"Missed objects: {missed.missed} of {missed.objects}"
    if missed.objects:
        title += f"; AP50 is {ap50:.4f}, and AP50+ if these were detected"
    reasons = ("reason", "", "missed", "small", "medium", "large", "AP50+")
    print_table(title, reasons, stages, [("total", "", *sums, "")], text_columns=2)
    if missed.worst:
        images = ((image.image_id, image.file, image.missed, image.objects) for image in missed.worst)
        columns = ("image", "file", "missed", "objects")
        print_table("Images with the most missed objects", columns, images, text_columns=2)


def _reference_result(evaluation: Evaluation, reference: dict[str, float]) -> None:
    different = differing_metrics(evaluation)
    if not different:
        print(f"pycocotools: all {len(reference)} metrics are equal")
        return
    rows = ((name, repr(evaluation.metrics[name]), repr(reference[name])) for name in different)
    print_table("Metrics that differ from those of pycocotools", ("metric", "retina", "pycocotools"), rows)


def ap_text(value: float) -> str:
    return DASH if value < 0 else f"{value:.4f}"
