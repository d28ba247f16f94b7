"""The score threshold of each class, chosen for the best F1 or for a given precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from retinanet.data.dataset import Dataset
from retinanet.detections import DEFAULT_SCORE_THRESHOLD
from retinanet.evaluation.coco_metrics import IOU
from retinanet.evaluation.score_cutoffs import Ranking, best_cutoffs, cumulative_counts, make_rankings
from retinanet.io.atomic import write_text

BOUNDS = (0.025, 0.975)  # quantiles of a 95 % interval
CHUNK = 2**20  # int32 numbers in each array of the resampling, 4 MiB; larger arrays are no faster


@dataclass(frozen=True)
class ClassThreshold:
    """The score threshold of one class, and precision, recall and F1 of the detections above it at IoU 0.5, in 0..1.

    The 95 % confidence intervals of the best threshold, and of precision and recall at `threshold`, are by bootstrap
    over the images; they are too narrow for a class with objects in only a few images.

    objects: number without ignored ones; for 0, the threshold is DEFAULT_SCORE_THRESHOLD and its interval 0..1.
    precision: None if no detection is above the threshold.
    reached: False if no threshold reaches the required precision or accepts a true positive; the threshold is then 1.
    """

    label: str
    category_id: int
    objects: int
    threshold: float
    threshold_interval: tuple[float, float]
    precision: float | None
    precision_interval: tuple[float, float] | None
    recall: float | None
    recall_interval: tuple[float, float] | None
    f1: float | None
    reached: bool


def choose_thresholds(
    dataset: Dataset,
    results: np.ndarray,
    precision: float | None = None,
    lowest: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[ClassThreshold]:
    """The highest threshold of each class with the best F1, or with the highest recall that reaches `precision`.

    True positives are the detections that COCO matches to an object at IoU 0.5; detections on crowds or beyond the 100
    best of their image and class do not count. A threshold lies between two scores and has as few digits as possible.

    results: (D, 7), columns image_id, x, y, w, h, score, category_id. precision: in (0, 1]. lowest: the detector's
        score threshold, 0..1, which detections must exceed. progress: called with (done, all).
    """
    if precision is not None and not 0 < precision <= 1:
        raise ValueError(f"precision is {precision}, expected a number above 0 and at most 1")
    rankings = make_rankings(dataset, results, lowest)
    whole = np.ones((1, len(dataset)), np.int32)
    cutoffs = [int(best_cutoffs(*cumulative_counts(ranking, whole), precision)[0]) for ranking in rankings]
    samples = np.empty((len(rankings), resamples, 3))
    rng, images = np.random.default_rng(seed), len(dataset)
    step = max(1, CHUNK // max(images, *(len(ranking.image_index) for ranking in rankings)))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        counts = rng.multinomial(images, np.full(images, 1 / images), part.stop - part.start).astype(np.int32)
        for done, (ranking, cutoff, sample) in enumerate(zip(rankings, cutoffs, samples, strict=True), 1):
            sample[part] = _resampled(ranking, counts, cutoff, precision)
            progress(start * len(rankings) + (part.stop - start) * done, resamples * len(rankings))
    by_class = zip(dataset.classes, dataset.category_ids, rankings, cutoffs, samples, strict=True)
    return [_threshold(*of_class) for of_class in by_class]


def save_thresholds(
    path: Path, thresholds: Sequence[ClassThreshold], images: int, precision: float | None = None
) -> None:
    """Write `thresholds` as readable YAML. images: number of images used. precision: as in `choose_thresholds`."""
    classes = [
        {
            "label": t.label,
            "category_id": t.category_id,
            "threshold": t.threshold,
            "interval": list(t.threshold_interval),
            "precision": _rounded(t.precision),
            "recall": _rounded(t.recall),
            "f1": _rounded(t.f1),
            "objects": t.objects,
        }
        for t in thresholds
    ]
    target = "best F1" if precision is None else f"precision {precision:g}"
    document = {"target": target, "iou": IOU, "images": images, "classes": classes}
    write_text(
        path,
        "# Detections of a class are reported if their score exceeds its threshold: retina predict --thresholds FILE\n"
        + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None),
    )


def _resampled(ranking: Ranking, counts: np.ndarray, cutoff: int, precision: float | None) -> np.ndarray:
    """(S, 3) best cutoff of each resample, and its precision and recall at `cutoff`; NaN where undefined."""
    correct, detections, objects = cumulative_counts(ranking, counts)
    best = np.where(objects > 0, best_cutoffs(correct, detections, objects, precision), np.nan)
    with np.errstate(invalid="ignore"):
        return np.column_stack([best, correct[:, cutoff] / detections[:, cutoff], correct[:, cutoff] / objects])


def _threshold(label: str, category_id: int, ranking: Ranking, cutoff: int, sample: np.ndarray) -> ClassThreshold:
    objects = len(ranking.objects)
    if not objects:
        return ClassThreshold(
            label, category_id, 0, DEFAULT_SCORE_THRESHOLD, (0.0, 1.0), None, None, None, None, None, True
        )
    detections, correct = int(ranking.ends[cutoff]), int(ranking.correct[: ranking.ends[cutoff]].sum())
    best, precisions, recalls = (_interval(column) for column in sample.T)
    return ClassThreshold(
        label=label,
        category_id=category_id,
        objects=objects,
        threshold=ranking.threshold(cutoff),
        threshold_interval=(ranking.threshold(int(best[1])), ranking.threshold(int(best[0]))) if best else (0.0, 1.0),
        precision=correct / detections if cutoff else None,
        precision_interval=precisions,
        recall=correct / objects,
        recall_interval=recalls,
        f1=2 * correct / (detections + objects),
        reached=cutoff > 0,
    )


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, BOUNDS, method="inverted_cdf").tolist()
    return low, high


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
