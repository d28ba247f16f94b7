"""Where to cut the scores of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from retinanet.data.dataset import Dataset
from retinanet.detections import DEFAULT_SCORE_THRESHOLD
from retinanet.evaluation.coco_metrics import IOU
from retinanet.evaluation.score_cutoffs import Ranking, best_cuts, cumulative_counts, make_rankings
from retinanet.io.atomic import write_text

BOUNDS = (0.025, 0.975)
CHUNK = 2**20  # numbers in each array of the resampling; as fast as larger ones


@dataclass(frozen=True)
class ClassThreshold:
    """Where to cut the scores of one class, and how good the detections above `threshold` are at IoU 0.5, in 0..1.

    Each interval holds 95 % of bootstrap resamples of the images: of the threshold that each of them would choose, and
    of precision and recall at `threshold`. It is too narrow for a class with objects in only a few images.

    objects: how many count. With none, nothing can be told: the threshold is DEFAULT_SCORE_THRESHOLD, its interval all of 0..1.
    precision: None where no detection is above. reached: False if no threshold gives what is wanted; the threshold is
    then 1, and nothing is reported.
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
) -> list[ClassThreshold]:
    """The threshold with the best F1 for each class; with `precision`, that of highest recall among those that reach it.

    Of equally good ones the highest. Right is a detection that COCO's matching gives an object at IoU 0.5; those given a
    crowd, or beyond the 100 best of their image and class, count neither way. A threshold lies between two scores that
    differ, and is a number of few digits.

    Args:
        results: (D, 7), columns image_id, x, y, w, h, score, category_id. precision: in 0..1, above 0. lowest: the
            threshold that the detections were found with, 0..1; those that do not exceed it are left out.
    Returns: one for each class of `dataset`, in its order.
    """
    if precision is not None and not 0 < precision <= 1:
        raise ValueError(f"precision is {precision}, expected a number above 0 and at most 1")
    rankings = make_rankings(dataset, results, lowest)
    whole = np.ones((1, len(dataset)), np.int32)
    cuts = [int(best_cuts(*cumulative_counts(ranking, whole), precision)[0]) for ranking in rankings]
    samples = np.empty((len(rankings), resamples, 3))
    rng, images = np.random.default_rng(seed), len(dataset)
    step = max(1, CHUNK // max(images, *(len(ranking.image_index) for ranking in rankings)))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        counts = rng.multinomial(images, np.full(images, 1 / images), part.stop - part.start).astype(np.int32)
        for ranking, cut, sample in zip(rankings, cuts, samples, strict=True):
            sample[part] = _resampled(ranking, counts, cut, precision)
    found = zip(dataset.classes, dataset.category_ids, rankings, cuts, samples, strict=True)
    return [_threshold(*of_class) for of_class in found]


def save_thresholds(
    path: Path, thresholds: Sequence[ClassThreshold], images: int, precision: float | None = None
) -> None:
    """Write them as YAML that people can read and edit. images, precision: what they were chosen on, and for."""
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
        "# Scores above which each class is reported; use it with: retina predict --thresholds FILE\n"
        + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None),
    )


def _resampled(ranking: Ranking, counts: np.ndarray, cut: int, precision: float | None) -> np.ndarray:
    """(S, 3) best cut, precision and recall at `cut` of each resample; nan where undefined."""
    right, found, objects = cumulative_counts(ranking, counts)
    cuts = np.where(objects > 0, best_cuts(right, found, objects, precision), np.nan)
    with np.errstate(invalid="ignore"):
        return np.column_stack([cuts, right[:, cut] / found[:, cut], right[:, cut] / objects])


def _threshold(label: str, category_id: int, ranking: Ranking, cut: int, sample: np.ndarray) -> ClassThreshold:
    objects = len(ranking.objects)
    if not objects:
        return ClassThreshold(
            label, category_id, 0, DEFAULT_SCORE_THRESHOLD, (0.0, 1.0), None, None, None, None, None, True
        )
    found, right = int(ranking.ends[cut]), int(ranking.right[: ranking.ends[cut]].sum())
    cuts, precisions, recalls = (_interval(column) for column in sample.T)
    return ClassThreshold(
        label=label,
        category_id=category_id,
        objects=objects,
        threshold=ranking.threshold(cut),
        threshold_interval=(ranking.threshold(int(cuts[1])), ranking.threshold(int(cuts[0]))) if cuts else (0.0, 1.0),
        precision=right / found if cut else None,
        precision_interval=precisions,
        recall=right / objects,
        recall_interval=recalls,
        f1=2 * right / (found + objects),
        reached=cut > 0,
    )


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, BOUNDS, method="inverted_cdf").tolist()
    return low, high


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
