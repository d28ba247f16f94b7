"""What one detector gains over another, and how surely."""

import math

import numpy as np
import pytest
from helpers.scoring_cases import dataset, random_case

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import METRICS, score
from retinanet.evaluation.comparison import compare


def one_object_each(images: int) -> Dataset:
    return dataset([1] * images, [[10, 10, 50, 50]] * images, [0] * images, image_ids=np.arange(images) * 7 - 30)


def found_in(truth: Dataset, images: np.ndarray) -> np.ndarray:
    rows = np.tile([0, 10, 10, 50, 50, 0.9, 0], (len(images), 1))
    rows[:, 0] = images
    return rows


def named(differences, name):
    return next(each for each in differences if each.name == name)


def test_the_interval_is_that_of_a_binomial():
    # the first finds every object, the second 80 of 100: a resample has Binomial(100, 0.2) misses, whose middle 95 %
    # are 12 or 13 to 28; to draw each image at most once would make it 14 to 26
    truth = one_object_each(100)
    every, most = np.arange(100), np.arange(80)
    recall = named(compare(truth, found_in(truth, every), found_in(truth, most)).metrics, "AR100")
    assert (recall.first, recall.second, recall.change) == pytest.approx((1, 0.8, -0.2))
    assert -0.29 <= recall.interval[0] <= -0.27 and -0.14 <= recall.interval[1] <= -0.11
    assert recall.certain and recall.better == 0


def test_what_is_hard_for_both_cancels_out():
    truth = one_object_each(60)
    most = found_in(truth, np.arange(30))
    for each in compare(truth, most, most, resamples=50).metrics:
        assert math.isnan(each.change) or (each.change, each.interval, each.better) == (0, (0, 0), 0)
        assert not each.certain


def test_as_good_on_average_is_not_certain():
    truth = one_object_each(60)
    found = compare(truth, found_in(truth, np.arange(0, 40)), found_in(truth, np.arange(20, 60)), resamples=200)
    recall = named(found.metrics, "AR100")
    assert recall.change == 0 and recall.interval[0] < -0.1 and recall.interval[1] > 0.1
    assert not recall.certain and 0.3 < recall.better < 0.7


def test_values_are_those_of_each_alone_and_classes_have_intervals():
    truth, first = random_case(0)
    second = first.copy()
    second[:, 1:3] += np.random.default_rng(1).normal(0, 4, (len(first), 2))
    steps: list[tuple[int, int]] = []
    found = compare(truth, first, second, resamples=30, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 30) for done in range(1, 31)]
    assert (found.images, found.resamples) == (40, 30)
    a, b = score(truth, first), score(truth, second)
    assert [each.name for each in found.metrics] == list(METRICS)
    assert {each.name: each.first for each in found.metrics} == a.metrics
    assert {each.name: each.second for each in found.metrics} == b.metrics
    assert [each.name for each in found.per_class] == list(truth.classes)
    for each, one, other in zip(found.per_class, a.per_class, b.per_class, strict=True):
        if one.AP < 0:  # without objects
            assert math.isnan(each.change) and math.isnan(each.interval[0]) and not each.certain
        else:
            assert each.change == other.AP - one.AP
            assert each.interval[0] < each.change < each.interval[1] < 0 and each.certain


def test_the_seed_decides():
    truth, first = random_case(1)
    worse = first[::2]
    same, again = (compare(truth, first, worse, resamples=20).metrics for _ in range(2))
    assert same == again
    assert compare(truth, first, worse, resamples=20, seed=1).metrics[0].interval != same[0].interval


def test_nothing_found():
    truth = one_object_each(10)
    nothing = np.zeros((0, 7))
    recall = named(compare(truth, nothing, found_in(truth, np.arange(10)), resamples=20).metrics, "AR100")
    assert (recall.first, recall.second, recall.interval, recall.better) == (0, 1, (1, 1), 1)
