"""An evaluation as one HTML page that needs no other file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from retinanet.evaluation.coco_metrics import METRICS
from retinanet.evaluation.error_analysis import Diagnosis, largest_confusions
from retinanet.evaluation.evaluate import Evaluation
from retinanet.evaluation.image_errors import image_errors, worst_images
from retinanet.evaluation.missed_objects import STAGES, MissedObjects
from retinanet.evaluation.thresholds import ClassThreshold
from retinanet.io.atomic import write_text
from retinanet.messages import printable
from retinanet.plotting import BLUE, GREEN, VERMILLION
from retinanet.report.charts import bar_chart, confusion_chart, precision_recall_chart, reliability_chart
from retinanet.report.gallery import KINDS, picture

MAX_PICTURES = 12
MAX_CONFUSIONS = 15  # rows of the table of confused classes
ERROR_MEANINGS = {
    "wrong class": "overlaps an object of another class",
    "badly located": "the right class, but IoU 0.1 to 0.5 with its object",
    "wrong class and badly located": "IoU 0.1 to 0.5 with an object of another class",
    "duplicate": "overlaps an object that a detection with a higher score matches",
    "background": "IoU below 0.1 with every object",
    "missed": "an object with neither a correct detection nor one of the kinds above",
    "all false positives": "all wrong detections together",
    "all false negatives": "all missed objects together",
}


def write_report(
    folder: Path,
    evaluation: Evaluation,
    diagnosis: Diagnosis,
    thresholds: Sequence[ClassThreshold],
    about: Mapping[str, str],
) -> Path:
    """Write `folder`/index.html, which loads nothing and runs nothing, and create the folder if needed.

    Args:
        diagnosis, thresholds: of `evaluation`; the diagnosis is made at these thresholds.
        about: facts for the top of the page, such as the weights or the results file, and the data.
    Returns: the path of the page.
    Raises: OSError.
    """
    dataset, missed_objects = evaluation.dataset, evaluation.missed_objects
    names = [printable(name) for name in dataset.classes]
    errors_by_image = image_errors(dataset, evaluation.results, [each.threshold for each in thresholds])
    facts = {
        **about,
        "images": f"{len(dataset):,}",
        "classes": f"{len(names):,}",
        "objects": f"{sum(each.objects for each in evaluation.per_class):,}",
        "detections": f"{len(evaluation.results):,} with a score above {evaluation.score_threshold:g}",
    }
    template = _environment().get_template("report.html.jinja")
    page = template.render(
        colours={"blue": BLUE, "vermillion": VERMILLION, "green": GREEN},
        title=f"Evaluation of {about.get('weights') or about.get('results') or 'a detector'}",
        facts=facts,
        metrics=evaluation.metrics,
        metric_meanings=METRICS,
        classes=list(zip(evaluation.per_class, thresholds, diagnosis.calibration.per_class.tolist(), strict=True)),
        missed_objects=missed_objects,
        stage_meanings=STAGES,
        score_threshold=evaluation.score_threshold,
        tide=diagnosis.tide,
        error_meanings=ERROR_MEANINGS,
        worst_error=max(diagnosis.tide[:-2], key=lambda each: each.AP50_lost),  # the last two are sums
        calibration=diagnosis.calibration,
        charts=_charts(diagnosis, missed_objects, names),
        confusions=_largest_confusions(diagnosis.confusion, names),
        kinds=KINDS,
        pictures=[picture(dataset, names, each) for each in worst_images(errors_by_image, MAX_PICTURES)],
        images=len(dataset),
        images_with_errors=sum(each.errors > 0 for each in errors_by_image),
        notes=evaluation.notes,
    )
    path = folder / "index.html"
    write_text(path, page)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("retinanet", "report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimals": _decimals, "thousands": _thousands, "compact": "{:g}".format}
    return environment


def _shown(value: object) -> object:
    """A dash for None, and printable text, since names come from users' files and may have control characters."""
    if isinstance(value, Markup):
        return value
    return "\u2013" if value is None else printable(value)


def _decimals(value: float | None) -> str | None:
    """None if there is nothing to measure: NaN, or -1 in COCO's metrics."""
    return None if value is None or np.isnan(value) or value < 0 else f"{value:.3f}"


def _thousands(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _charts(
    diagnosis: Diagnosis, missed_objects: MissedObjects | None, names: Sequence[str]
) -> dict[str, Markup | dict[str, Markup]]:
    """SVG by name; "curves" has one for each IoU."""
    lost = [each.AP50_lost for each in diagnosis.tide]
    kinds, texts = [each.kind for each in diagnosis.tide], [f"{value:.4f}" for value in lost]
    charts: dict[str, Markup | dict[str, Markup]] = {
        "errors": bar_chart(kinds, lost, texts, "AP50 lost", "AP50 lost by each kind of error", grey=2),
        "curves": {
            iou: precision_recall_chart(
                diagnosis.recall, diagnosis.curves[iou], names, f"precision against recall at IoU {iou}"
            )
            for iou in ("0.5", "0.75")
        },
        "calibration": reliability_chart(diagnosis.calibration, "share of correct detections against their score"),
        "confusion": confusion_chart(diagnosis.confusion, [*names, "none"], "confusion matrix"),
    }
    if missed_objects:
        missed = [each.missed for each in missed_objects.by_stage]
        texts = [f"{number:,}" if number else "" for number in missed]
        charts["missed"] = bar_chart(list(STAGES), missed, texts, "missed objects", "missed objects by stage")
    return charts


def _largest_confusions(confusion: np.ndarray, names: Sequence[str]) -> list[tuple[str, str, int, str]]:
    """(class of the objects, class of the detections, count, share of the objects), the largest counts first.

    confusion: (K + 1, K + 1), row: class of the object, column: class of the detection.
    """
    sums = confusion.sum(axis=1).tolist()
    return [
        (names[row], names[column], count, f"{count / sums[row]:.1%}")
        for row, column, count in largest_confusions(confusion[:-1, :-1], MAX_CONFUSIONS)
    ]
