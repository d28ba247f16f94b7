"""True positives, false positives and missed objects of each image: by hand, and against a plain loop."""

import numpy as np
import pytest
from helpers.scoring_cases import dataset, random_case

from retinanet.evaluation.coco_metrics import MAX_AREA
from retinanet.evaluation.image_errors import image_errors, worst_images
from retinanet.evaluation.missed_objects import match_detections

EDGE = int(MAX_AREA**0.5) + 1


def test_each_kind_by_hand():
    # objects: detected, detected with a low score, a crowd, too large to count; no object; a missed object
    boxes = [[10, 10, 50, 50], [100, 10, 50, 50], [300, 10, 200, 200], [0, 0, EDGE, EDGE], [5, 5, 30, 30]]
    crowd = np.array([False, False, True, False, False])
    truth = dataset([4, 0, 1], boxes, [0, 1, 1, 1, 0], crowd, image_ids=np.array([7, 9, -3]), category_ids=(90, 3))
    rows = np.array(
        [
            [2, 200, 5, 30, 30, 0.7, 1],  # without an object
            [0, 12, 10, 50, 50, 0.9, 0],  # a true positive
            [0, 10, 12, 50, 50, 0.8, 0],  # again: a false positive
            [0, 100, 10, 50, 50, 0.6, 1],  # not above its class's threshold
            [0, 320, 20, 50, 50, 0.9, 1],  # on the crowd
            [0, 0, 0, EDGE, EDGE, 0.9, 1],  # on an object that does not count
        ]
    )
    first, second, third = image_errors(truth, rows, [0.5, 0.6])
    assert first.true_positives.boxes.tolist() == [[12, 10, 50, 50]]
    assert (first.true_positives.labels.tolist(), first.true_positives.scores.tolist()) == ([0], [0.9])
    assert (first.false_positives.boxes.tolist(), first.false_positives.scores.tolist()) == ([[10, 12, 50, 50]], [0.8])
    assert (first.missed.boxes.tolist(), first.missed.labels.tolist()) == ([boxes[1]], [1])
    assert np.isnan(first.missed.scores).all()
    assert second.errors == len(second.true_positives) == 0
    assert (third.false_positives.labels.tolist(), third.missed.boxes.tolist()) == ([1], [boxes[4]])
    assert [each.index for each in (first, second, third)] == [0, 1, 2]
    # two errors each: in their order; an image without errors is not among them
    assert worst_images([first, second, third], 12) == [first, third]
    assert worst_images([second, third, first], 1) == [third]


@pytest.mark.parametrize("seed", range(3))
def test_errors_follow_cocos_matching(seed):
    truth, rows = random_case(seed)
    thresholds = [0.3, 0.1, 0.5, 0]
    for image, errors in enumerate(image_errors(truth, rows, thresholds)):
        objects = np.arange(truth.first_object[image], truth.first_object[image + 1])
        correct, wrong, missed = [], [], objects[~truth.crowd[objects]].tolist()
        for label in range(len(truth.classes)):
            mine = objects[truth.labels[objects] == label]
            of_class = rows[(rows[:, 0] == image) & (rows[:, 6] == label)]
            of_class = of_class[of_class[:, 5] > thresholds[label]]
            of_class = of_class[np.argsort(-of_class[:, 5], kind="stable")][:100]
            matched = match_detections(of_class[:, 1:5], truth.boxes[mine], truth.areas[mine], truth.crowd[mine])
            for row, at in zip(of_class, matched, strict=True):
                if at < 0:
                    wrong.append((label, *row[1:6]))
                elif not truth.crowd[mine[at]]:
                    correct.append((label, *row[1:6]))
                    missed.remove(mine[at])
        for boxes, expected in ((errors.true_positives, correct), (errors.false_positives, wrong)):
            shown = zip(boxes.labels, *boxes.boxes.T, boxes.scores, strict=True)
            assert sorted(tuple(map(float, each)) for each in shown) == sorted(tuple(map(float, e)) for e in expected)
        assert errors.missed.boxes.tolist() == truth.boxes[sorted(missed)].tolist()


def test_without_detections_and_without_objects():
    (errors,) = image_errors(dataset([1], [[10, 10, 50, 50]], [1]), np.zeros((0, 7)), [0, 0])
    assert (len(errors.true_positives), len(errors.false_positives), len(errors.missed)) == (0, 0, 1)
    (errors,) = image_errors(dataset([0], [], []), np.array([[0, 1, 1, 5, 5, 0.9, 1]]), [0, 0])
    assert (len(errors.true_positives), len(errors.false_positives), len(errors.missed)) == (0, 1, 0)
    assert worst_images(image_errors(dataset([0], [], []), np.zeros((0, 7)), [0, 0]), 12) == []
