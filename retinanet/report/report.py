"""All that an evaluation says, as one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from retinanet.evaluation.coco_metrics import METRICS
from retinanet.evaluation.error_analysis import Diagnosis
from retinanet.evaluation.evaluate import Evaluation
from retinanet.evaluation.image_errors import image_errors, worst_images
from retinanet.evaluation.missed_objects import STAGES, MissedObjects
from retinanet.evaluation.thresholds import ClassThreshold
from retinanet.io.atomic import write_text
from retinanet.messages import printable
from retinanet.report import charts as figures
from retinanet.report.gallery import gallery
from retinanet.report.html import Html, html, page, table

PICTURES = 12
CONFUSIONS = 15
ERROR_MEANINGS = {
    "wrong class": "on an object, under another class's name",
    "badly located": "the right class, IoU 0.1 to 0.5 with its object",
    "wrong class and badly located": "both at once",
    "duplicate": "on an object that a better detection has found",
    "background": "IoU below 0.1 with every object",
    "missed": "objects that no detection above explains",
    "all false positives": "every wrong detection together",
    "all false negatives": "every object not found together",
}


def write_report(
    folder: Path,
    evaluation: Evaluation,
    diagnosis: Diagnosis,
    thresholds: Sequence[ClassThreshold],
    about: Mapping[str, str],
) -> Path:
    """Write `folder`/index.html, which loads nothing and runs nothing. Its folder is made. Raises: OSError.

    diagnosis, thresholds: of `evaluation`, with the same thresholds. about: facts for the top, such as weights, data.
    """
    names = [printable(name) for name in evaluation.dataset.classes]
    sections = {
        "Result": _result(evaluation),
        "Classes": _classes(evaluation, diagnosis, thresholds),
        "Missed objects": _missed(evaluation.missed_objects, evaluation) if evaluation.missed_objects else None,
        "Kinds of errors (TIDE)": _errors(diagnosis),
        "Precision-recall curves": _curves(diagnosis, names),
        "Calibration": _calibration(diagnosis),
        "Confusion matrix": _confusion(diagnosis, names),
        "Worst images": _worst(evaluation, thresholds, names),
        "Notes": _notes(evaluation.notes),
    }
    facts = {
        **about,
        "images": f"{len(evaluation.dataset):,}",
        "classes": f"{len(names):,}",
        "objects": f"{sum(each.objects for each in evaluation.per_class):,}",
        "detections": f"{len(evaluation.results):,}, scored above {evaluation.settings.score_threshold:g}",
    }
    title, style = f"Evaluation of {about.get('weights', 'a detector')}", files("retinanet") / "report.css"
    shown = {name: body for name, body in sections.items() if body is not None}
    path = folder / "index.html"
    write_text(path, page(title, facts, shown, style.read_text(encoding="utf-8")))
    return path


def _result(evaluation: Evaluation) -> Html:
    metrics = evaluation.metrics
    large = "".join(
        f"<div><dt>{name}</dt><dd>{html(_number(metrics[name]))}</dd></div>" for name in ("AP", "AP50", "AP75")
    )
    return Html(
        "<p>COCO's metrics. Average precision (AP) rewards every object found with a higher score than the wrong "
        "detections have: 0 is the worst, 1 the best. The more overlap (IoU) is asked for, the lower it is; a dash "
        "means that there is no object to measure on.</p>\n"
        f'<dl class="headline">{large}</dl>\n'
        + table(
            ("metric", "of", "value"),
            [(name, METRICS[name], _number(value)) for name, value in metrics.items()],
            text_columns=2,
        )
    )


def _classes(evaluation: Evaluation, diagnosis: Diagnosis, thresholds: Sequence[ClassThreshold]) -> Html:
    columns = ("class", "objects", "AP", "AP50", "threshold", "precision", "recall", "F1", "score error")
    rows = []
    for of, t, error in zip(evaluation.per_class, thresholds, diagnosis.calibration.per_class.tolist(), strict=True):
        rows.append(
            (
                of.label,
                f"{of.objects:,}",
                _bar(of.AP),
                _bar(of.AP50),
                _with_interval(f"{t.threshold:g}", t.threshold_interval) if t.reached else "not reached",
                _with_interval(_number(t.precision), t.precision_interval),
                _with_interval(_number(t.recall), t.recall_interval),
                _number(t.f1),
                _number(error),
            )
        )
    return Html(
        "<p>Detections of a class that score above its threshold are worth showing; precision is the share of them that "
        "is right at IoU 0.5, recall the share of the objects that they find, F1 the balance of both. Small figures "
        "hold 95 % of resamples of the images: a wide interval says that there are too few objects to be sure. "
        "Score error is how far the scores are from the share that is right.</p>\n" + table(columns, rows, wide=True)
    )


def _missed(missed_objects: MissedObjects, evaluation: Evaluation) -> Html:
    settings = evaluation.settings
    said = f"{missed_objects.missed:,} of {missed_objects.objects:,} objects were missed"
    rows: list[tuple[object, ...]] = [
        (
            at.stage,
            STAGES[at.stage],
            at.missed,
            at.small,
            at.medium,
            at.large,
            _number(at.AP50) if at.missed else "",
        )
        for at in missed_objects.by_stage
    ]
    sums = [sum(getattr(at, name) for at in missed_objects.by_stage) for name in ("missed", "small", "medium", "large")]
    rows.append(("in all", "", *sums, ""))
    counts = [at.missed for at in missed_objects.by_stage]
    chart = figures.bars(
        list(STAGES), counts, [f"{n:,}" if n else "" for n in counts], "objects missed", f"{said}, by stage"
    )
    return Html(
        f"<p>{said} at IoU 0.5 by all detections that score above {settings.score_threshold:g}. Each was lost at the "
        "first of these stages at which no box was left that would have found it; AP50+ is what AP50 would be if "
        "the objects lost there were found.</p>\n"
        + table(("lost as", "meaning", "missed", "small", "medium", "large", "AP50+"), rows, 2, wide=True)
        + _charts(chart)
    )


def _errors(diagnosis: Diagnosis) -> Html:
    lost = [each.AP50_lost for each in diagnosis.tide]
    chart = figures.bars(
        [each.kind for each in diagnosis.tide],
        lost,
        [f"{value:.4f}" for value in lost],
        "AP50 lost",
        "AP50 lost by each kind of error",
        sums=2,
    )
    rows = [
        (e.kind, ERROR_MEANINGS[e.kind], None if e.count is None else f"{e.count:,}", f"{e.AP50_lost:.4f}")
        for e in diagnosis.tide
    ]
    worst_kind = max(diagnosis.tide[:-2], key=lambda each: each.AP50_lost)
    said = f" Most would be gained without the kind \u201c{worst_kind.kind}\u201d." if worst_kind.AP50_lost > 0 else ""
    return Html(
        "<p>What is wrong with the detections, and how much AP50 would grow if one kind of error alone were cured "
        f"(Bolya et al. 2020, TIDE). The parts do not add up to the whole.{said}</p>\n"
        + table(("error", "meaning", "count", "AP50 lost"), rows, 2)
        + _charts(chart)
    )


def _curves(diagnosis: Diagnosis, names: Sequence[str]) -> Html:
    charts = [
        f"<figure><figcaption>IoU {iou}</figcaption>"
        f"{figures.precision_recall(diagnosis.recall, diagnosis.curves[iou], names, label)}</figure>"
        for iou in ("0.5", "0.75")
        for label in [f"precision over recall at IoU {iou}"]
    ]
    return Html(
        "<p>The precision that is left when the threshold is lowered until a share (recall) of the objects is found: "
        "a good detector stays on top far to the right. The area below a curve, written beside its class, is its AP; "
        "curves that fall at IoU 0.75 but not at 0.5 belong to boxes that lie near their objects but not well.</p>\n"
        + _charts(*charts)
    )


def _calibration(diagnosis: Diagnosis) -> Html:
    found = diagnosis.calibration
    return Html(
        "<p>Whether a score can be read as the chance of being right at IoU 0.5: of the detections in each tenth of "
        "the scores, the share that is right. Below the dashed line a detector promises too much, above it too little; "
        f"bins with few detections say little. The mean gap is {found.expected_error:.3f}, the largest "
        f"{found.largest_error:.3f}.</p>\n"
        + _charts(figures.reliability(found, "share of right detections over their score"))
    )


def _confusion(diagnosis: Diagnosis, names: Sequence[str]) -> Html:
    matrix, sums = diagnosis.confusion, diagnosis.confusion.sum(axis=1)
    mixed = matrix[:-1, :-1] * ~np.eye(len(names), dtype=bool)
    largest = np.argsort(-mixed, axis=None, kind="stable")[:CONFUSIONS]
    rows = [
        (names[row], names[column], f"{mixed[row, column]:,}", f"{mixed[row, column] / sums[row]:.1%}")
        for row, column in zip(*np.unravel_index(largest, mixed.shape), strict=True)
        if mixed[row, column]
    ]
    chart = figures.confusion(matrix, [*names, "none"], "confusion matrix")
    listed = table(("object", "detected as", "count", "of the objects"), rows, 2) if rows else "<p>None.</p>\n"
    return Html(
        "<p>As what the objects of each class (rows) were detected (columns), above the thresholds of the "
        "classes and at IoU 0.5. The diagonal is right; the last column holds objects that were missed, the last row "
        "detections where no free object is. Darker is a larger share of the row.</p>\n"
        f'<div class="scroll" tabindex="0"><div class="matrix">{chart}</div></div>\n'
        f"<h3>Largest confusions</h3>\n{listed}"
    )


def _worst(evaluation: Evaluation, thresholds: Sequence[ClassThreshold], names: Sequence[str]) -> Html:
    judged = image_errors(evaluation.dataset, evaluation.results, [t.threshold for t in thresholds])
    shown, faulty = worst_images(judged, PICTURES), sum(each.errors > 0 for each in judged)
    if not shown:
        return Html("<p>No image has a fault at the thresholds.</p>\n")
    return Html(
        f"<p>{faulty:,} of {len(judged):,} images have a fault at the thresholds of the classes. Here are those with the most missed objects and wrong detections. More is missed here than by all detections "
        "together, as weak ones are left out. Point at a box for its class and score. Look for objects that the "
        "annotators forgot, too.</p>\n" + gallery(evaluation.dataset, names, shown)
    )


def _notes(notes: Sequence[str]) -> Html:
    listed = "".join(f"<li>{html(note)}</li>\n" for note in notes)
    body = f"<ul>\n{listed}</ul>\n" if notes else "<p>None.</p>\n"
    return Html(f"<p>What was found about the data on the way.</p>\n{body}")


def _charts(*charts: str) -> Html:
    return Html(f'<div class="charts">{"".join(charts)}</div>\n')


def _number(value: float | None) -> str | None:
    """None where there is nothing to measure: NaN, or as COCO says it, -1."""
    return None if value is None or np.isnan(value) or value < 0 else f"{value:.3f}"


def _bar(value: float) -> Html:
    text = html(_number(value))
    return Html(f'<span class="bar" style="--share:{max(0, value):.3f}">{text}</span>')


def _with_interval(text: str | None, interval: tuple[float, float] | None) -> Html:
    tail = f'<br><span class="small">{interval[0]:.3f} to {interval[1]:.3f}</span>' if interval else ""
    return Html(f"{html(text)}{tail}")
