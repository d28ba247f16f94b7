"""The metrics of resampled images against those of data sets in which the images are repeated."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from helpers.scoring_cases import dataset, jittered, random_case

from retinanet.data.dataset import Dataset
from retinanet.evaluation import coco_matching
from retinanet.evaluation.coco_metrics import score
from retinanet.evaluation.resampled_metrics import ResampledMetrics


def values(truth: Dataset, rows: np.ndarray) -> list[float]:
    scores = score(truth, rows)
    every = [*scores.metrics.values(), *(each.AP for each in scores.per_class)]
    return [np.nan if value < 0 else value for value in every]


@pytest.mark.parametrize("seed", range(6))
def test_each_image_once_gives_the_metrics(seed: int):
    truth, rows = random_case(seed)  # with ties, crowds and more detections than count
    found = ResampledMetrics(truth, rows)(np.ones(len(truth), np.int64))
    assert found == pytest.approx(values(truth, rows), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(6))
def test_repeated_images_count_repeatedly(seed: int):
    truth, rows = random_case(seed)
    rng = np.random.default_rng(seed)
    rows[:, 5] = rng.permutation(len(rows)) / len(rows)  # equal scores in two images have no order
    metrics = ResampledMetrics(truth, rows)
    for _ in range(3):
        picks = rng.integers(len(truth), size=len(truth))
        repeated = replace(truth.take(picks), image_ids=np.arange(len(picks)))
        of_picks = [np.flatnonzero(rows[:, 0] == image) for image in picks]
        of_repeated = rows[np.concatenate(of_picks)]
        of_repeated[:, 0] = np.repeat(np.arange(len(picks)), [len(each) for each in of_picks])
        found = metrics(np.bincount(picks, minlength=len(truth)))
        assert found == pytest.approx(values(repeated, of_repeated), abs=1e-9, nan_ok=True)


def test_the_number_of_pairs_compared_at_once_changes_nothing(monkeypatch):
    truth, rows = random_case(7)
    every = np.ones(len(truth), np.int64)
    at_once = ResampledMetrics(truth, rows)(every)
    monkeypatch.setattr(coco_matching, "PAIRS", 7)
    assert ResampledMetrics(truth, rows)(every).tolist() == pytest.approx(at_once.tolist(), abs=0, nan_ok=True)


def test_memory_does_not_grow_with_classes_times_recalls():
    classes = 5000
    counts = np.full(50, 10)
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 300, (500, 2)), rng.uniform(10, 200, (500, 2))], axis=1)
    truth = dataset(
        counts, boxes, rng.integers(classes, size=500), image_ids=np.arange(50), category_ids=range(1, 1 + classes)
    )
    rows = jittered(truth, 0, copies=4)
    tracemalloc.start()
    ResampledMetrics(truth, rows)(np.ones(50, np.int64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5000 * classes  # 101 recalls x 10 IoUs x 4 sizes take 32,320 bytes for each class
