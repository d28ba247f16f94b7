"""Evaluation with 80 and with 5,000 classes: time and peak memory of each stage of `retina eval`.

Two stages are compared with hotcoco used directly: the metrics of all classes at once, and the metrics of a resample as
those of a data set in which images are repeated.

Usage: python benchmarks/evaluation_classes.py [IMAGES]
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from growth import scoring
from paired import compare, peak_memories

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import coco_eval, hotcoco_index, images_of, score
from retinanet.evaluation.error_analysis import diagnose
from retinanet.evaluation.image_errors import image_errors
from retinanet.evaluation.resampled_metrics import ResampledMetrics
from retinanet.evaluation.thresholds import choose_thresholds

CLASSES = (80, 5000)
IMAGES = 2000
TURNS = 3


def case(images: int, classes: int) -> tuple[Dataset, np.ndarray]:
    """7 objects and 100 detections in each image."""
    return scoring(images, classes).args  # type: ignore[attr-defined]


def hotcoco_score(dataset: Dataset, results: np.ndarray) -> np.ndarray:
    """The AP of each class."""
    evaluation = coco_eval(dataset, results)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.run()
    assert evaluation.eval is not None
    return evaluation.eval["precision"][:, :, hotcoco_index(dataset), 0, -1].mean(axis=(0, 1))


def hotcoco_resample(dataset: Dataset, results: np.ndarray, picks: np.ndarray) -> np.ndarray:
    rows = results[np.argsort(images_of(results), kind="stable")]
    starts = np.searchsorted(rows[:, 0], np.arange(len(dataset) + 1))
    counts = np.diff(starts)[picks]
    shifts = np.repeat(starts[picks] - np.cumsum(counts) + counts, counts)
    repeated = rows[shifts + np.arange(len(shifts))]
    repeated[:, 0] = np.repeat(np.arange(len(picks)), counts)
    return hotcoco_score(replace(dataset.take(picks), image_ids=np.arange(len(picks))), repeated)


STAGES: dict[str, Callable[..., object]] = {
    "metrics": score,
    "metrics, hotcoco at once": hotcoco_score,
    "matching for resamples": ResampledMetrics,
    "thresholds": choose_thresholds,
    "error analysis": diagnose,
    "errors of each image": image_errors,
}


def prepare(stage: str, images: int, classes: int) -> Callable[[], object]:
    thresholds = [[0.5] * classes] if STAGES[stage] in (diagnose, image_errors) else []
    return partial(STAGES[stage], *case(images, classes), *thresholds)


def resamples(images: int, classes: int) -> None:
    dataset, results = case(images, classes)
    metrics = ResampledMetrics(dataset, results)
    picks = np.random.default_rng(0).integers(images, size=images)
    counts = np.bincount(picks, minlength=images)
    ours, theirs = metrics(counts)[12:], hotcoco_resample(dataset, results, picks)
    assert np.allclose(np.nan_to_num(ours, nan=-1), theirs, atol=1e-9)
    compare(
        f"{classes} classes, a resample",
        partial(metrics, counts),
        partial(hotcoco_resample, dataset, results, picks),
        5,
    )


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    for classes in CLASSES:
        dataset, results = case(images, classes)
        ours, theirs = (partial(each, dataset, results) for each in (score, hotcoco_score))
        compare(f"{classes} classes, metrics", ours, theirs, TURNS)
        resamples(images, classes)
        for stage in STAGES:
            run = prepare(stage, images, classes)
            wall, processor = time.perf_counter(), time.process_time()
            run()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            [peak] = peak_memories([partial(prepare, stage, images, classes)])
            times = f"{wall:.2f} s, processor time {processor:.2f} s"
            print(f"{classes} classes, {stage}: {times}, peak memory {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
