"""Which boxes are right, wrong and missed: by hand, and against a plain loop."""

import numpy as np
import pytest
from helpers.scoring_cases import dataset, random_case

from retinanet.evaluation.coco_metrics import LARGEST
from retinanet.evaluation.image_errors import verdicts, worst
from retinanet.evaluation.missed_objects import match_detections

EDGE = int(LARGEST**0.5) + 1


def test_each_kind_by_hand():
    # objects: found, seen too weakly, a crowd, too large to count; an image of nothing; one of a missed object
    boxes = [[10, 10, 50, 50], [100, 10, 50, 50], [300, 10, 200, 200], [0, 0, EDGE, EDGE], [5, 5, 30, 30]]
    crowd = np.array([False, False, True, False, False])
    truth = dataset([4, 0, 1], boxes, [0, 1, 1, 1, 0], crowd, image_ids=np.array([7, 9, -3]), category_ids=(90, 3))
    rows = np.array(
        [
            [-3, 200, 5, 30, 30, 0.7, 3],  # on nothing
            [7, 12, 10, 50, 50, 0.9, 90],  # right
            [7, 10, 12, 50, 50, 0.8, 90],  # again: wrong
            [7, 100, 10, 50, 50, 0.6, 3],  # not above its class's threshold
            [7, 320, 20, 50, 50, 0.9, 3],  # on the crowd
            [7, 0, 0, EDGE, EDGE, 0.9, 3],  # on what does not count
        ]
    )
    first, second, third = verdicts(truth, rows, [0.5, 0.6])
    assert first.right.boxes.tolist() == [[12, 10, 50, 50]]
    assert (first.right.labels.tolist(), first.right.scores.tolist()) == ([0], [0.9])
    assert (first.wrong.boxes.tolist(), first.wrong.scores.tolist()) == ([[10, 12, 50, 50]], [0.8])
    assert (first.missed.boxes.tolist(), first.missed.labels.tolist()) == ([boxes[1]], [1])
    assert np.isnan(first.missed.scores).all()
    assert second.faults == len(second.right) == 0
    assert (third.wrong.labels.tolist(), third.missed.boxes.tolist()) == ([1], [boxes[4]])
    assert [each.index for each in (first, second, third)] == [0, 1, 2]
    # two faults each: in their order; an image without a fault is not among them
    assert worst([first, second, third], 12) == [first, third] and worst([second, third, first], 1) == [third]


@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_cocos_matching(seed):
    truth, rows = random_case(seed)
    thresholds = [0.3, 0.1, 0.5, 0]
    for image, found in enumerate(verdicts(truth, rows, thresholds)):
        objects = np.arange(truth.first_object[image], truth.first_object[image + 1])
        right, wrong, missed = [], [], objects[~truth.crowd[objects]].tolist()
        for label, category_id in enumerate(truth.category_ids):
            mine = objects[truth.labels[objects] == label]
            seen = rows[(rows[:, 0] == truth.image_ids[image]) & (rows[:, 6] == category_id)]
            seen = seen[seen[:, 5] > thresholds[label]]
            seen = seen[np.argsort(-seen[:, 5], kind="stable")][:100]
            given = match_detections(seen[:, 1:5], truth.boxes[mine], truth.areas[mine], truth.crowd[mine])
            for row, at in zip(seen, given, strict=True):
                if at < 0:
                    wrong.append((label, *row[1:6]))
                elif not truth.crowd[mine[at]]:
                    right.append((label, *row[1:6]))
                    missed.remove(mine[at])
        for boxes, expected in ((found.right, right), (found.wrong, wrong)):
            shown = zip(boxes.labels, *boxes.boxes.T, boxes.scores, strict=True)
            assert sorted(tuple(map(float, each)) for each in shown) == sorted(tuple(map(float, e)) for e in expected)
        assert found.missed.boxes.tolist() == truth.boxes[sorted(missed)].tolist()


def test_nothing_found_and_nothing_to_find():
    (found,) = verdicts(dataset([1], [[10, 10, 50, 50]], [1]), np.zeros((0, 7)), [0, 0])
    assert (len(found.right), len(found.wrong), len(found.missed)) == (0, 0, 1)
    (found,) = verdicts(dataset([0], [], []), np.array([[0, 1, 1, 5, 5, 0.9, 1]]), [0, 0])
    assert (len(found.right), len(found.wrong), len(found.missed)) == (0, 1, 0)
    assert worst(verdicts(dataset([0], [], []), np.zeros((0, 7)), [0, 0]), 12) == []
