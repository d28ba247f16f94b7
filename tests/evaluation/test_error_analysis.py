"""The kinds of a detector's errors."""

import dataclasses

import numpy as np
import pytest
from helpers.scoring_cases import dataset, random_case

from retinanet.evaluation.coco_metrics import NOT_COUNTED, coco_eval, hotcoco_index, matched_objects, score
from retinanet.evaluation.error_analysis import Diagnosis, above_thresholds, diagnose, largest_confusions


def counts(found: Diagnosis) -> dict[str, int | None]:
    return {each.kind: each.count for each in found.tide}


def test_one_error_of_each_kind_by_hand():
    # objects: A found, A never seen, A seen as B, B off by half its width, A seen as B and off
    boxes = [[0, 0, 100, 100], [400, 0, 50, 50], [0, 200, 100, 100], [200, 200, 100, 100], [400, 200, 100, 100]]
    truth = dataset([5], boxes, [0, 0, 0, 1, 0], category_ids=(1, 2))
    rows = np.array(
        [
            [0, 0, 0, 100, 100, 0.9, 0],  # right
            [0, 0, 2, 100, 100, 0.8, 0],  # again: a duplicate
            [0, 0, 200, 100, 100, 0.7, 1],  # wrong class
            [0, 250, 200, 100, 100, 0.6, 1],  # IoU 1/3: badly located
            [0, 450, 200, 100, 100, 0.5, 1],  # IoU 1/3 and the wrong class
            [0, 300, 400, 40, 40, 0.4, 0],  # on background
        ],
        float,
    )
    found = diagnose(truth, rows, [0.05, 0.05])
    assert counts(found) == {
        "wrong class": 1,
        "badly located": 1,
        "wrong class and badly located": 1,
        "duplicate": 1,
        "background": 1,
        "missed": 2,  # the one never seen, and the one seen as another class and elsewhere
        "all false positives": None,
        "all false negatives": None,
    }
    # rows: A, B, none; columns likewise. Of two detections at an object the better one takes it
    assert found.confusion.tolist() == [[1, 1, 2], [0, 0, 1], [2, 2, 0]]
    assert diagnose(truth, rows, [0.85, 0.65]).confusion.tolist() == [[1, 1, 2], [0, 0, 1], [0, 0, 0]]


def test_tide_equals_tidecvs():
    # by tidecv 1.0.1, in percent of AP50; it counts the class without objects as AP 0, hotcoco leaves it out: 4/3
    truth, rows = random_case(0)
    rows[:, 5] = np.random.default_rng(0).permutation(len(rows)) / len(rows)
    rows = rows[~((rows[:, 0] == 0) & (rows[:, 6] == 0))]  # tidecv knows no limit of 100 detections
    truth = dataclasses.replace(truth, crowd=np.zeros(len(truth.boxes), bool))
    found = diagnose(truth, rows, [0] * 4)
    assert list(counts(found).values()) == [36, 107, 9, 248, 9, 3, None, None]
    tidecv = np.array(
        [
            2.1033753221856557,
            9.281967797964981,
            0.10089745382639137,
            8.650196438587862,
            0.9027951910657919,
            0.7198196308849703,
            29.799022791185408,
            1.303652042550759,
        ]
    )
    lost = np.array([each.AP50_lost for each in found.tide])
    np.testing.assert_allclose(lost[:-1], tidecv[:-1] / 100 * 4 / 3, atol=1e-12)
    assert lost[-1] == pytest.approx(tidecv[-1] / 100 * 4 / 3, abs=1e-5)


def test_confusion_goes_by_label_and_leaves_crowds_out():
    # labels 0 and 1 are categories 90 and 3
    truth = dataset(
        [3],
        [[0, 0, 50, 50], [100, 0, 50, 50], [300, 0, 200, 200]],
        [0, 1, 1],
        crowd=np.array([False, False, True]),
        category_ids=(90, 3),
    )
    rows = np.array(
        [
            [0, 0, 0, 50, 50, 0.9, 0],
            [0, 100, 0, 50, 50, 0.8, 0],
            [0, 320, 20, 50, 50, 0.7, 1],  # on the crowd of its class: neither right nor wrong
            [0, 320, 20, 50, 50, 0.6, 0],  # not of its class
        ]
    )
    assert diagnose(truth, rows, [0, 0]).confusion.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_calibration_by_hand():
    # 4 detections of score 0.95 of which 3 are right, 2 of score 0.35 of which none is
    truth = dataset([1] * 6, [[10, 10, 50, 50]] * 6, [0] * 6)
    rows = np.array([[i, 10, 10, 50, 50, 0.95, 0] for i in range(4)] + [[i, 10, 10, 50, 50, 0.35, 0] for i in (4, 5)])
    rows[3:, 1] = 300
    found = diagnose(truth, rows, [0, 0]).calibration
    assert found.counts.tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 4]
    assert (found.scores[3], found.scores[9]) == pytest.approx((0.35, 0.95))
    assert (found.precision[3], found.precision[9]) == (0, 0.75)
    assert np.isnan(found.scores[[0, 1, 2, 4, 5, 6, 7, 8]]).all()
    assert found.largest_error == pytest.approx(0.35)
    assert found.expected_error == pytest.approx((2 * 0.35 + 4 * 0.2) / 6)
    assert found.per_class[0] == pytest.approx(found.expected_error) and np.isnan(found.per_class[1])


@pytest.mark.parametrize("seed", range(3))
def test_the_curves_means_are_the_metrics(seed):
    truth, rows = random_case(seed)
    found, metrics = diagnose(truth, rows, [0.3] * 4), score(truth, rows)
    for name, metric in (("0.5", "AP50"), ("0.75", "AP75"), ("mean", "AP")):
        assert np.nanmean(found.curves[name]) == pytest.approx(metrics.metrics[metric], abs=1e-12)
    for result, curve in zip(metrics.per_class, found.curves["mean"].T, strict=True):
        assert np.isnan(curve).all() if result.AP < 0 else curve.mean() == pytest.approx(result.AP, abs=1e-12)
    assert found.recall.tolist() == pytest.approx(np.linspace(0, 1, 101).tolist())


def test_nothing_found():
    truth = dataset([2], [[10, 10, 50, 50], [200, 200, 50, 50]], [0, 1])
    found = diagnose(truth, np.zeros((0, 7)), [0, 0])
    assert counts(found)["missed"] == 2 and found.confusion.tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert found.calibration.counts.sum() == 0 and np.isnan(found.calibration.per_class).all()
    assert (found.curves["mean"] == 0).all()


def test_nothing_to_find():
    truth = dataset([0, 0], [], [])
    found = diagnose(truth, np.array([[0, 1, 1, 5, 5, 0.9, 0]]), [0, 0])
    assert np.isnan(found.curves["mean"]).all() and found.confusion.sum() == 1


def test_above_is_strict_and_by_class():
    rows = np.array([[0, 1, 1, 5, 5, s, c] for s, c in ((0.5, 0), (0.5, 1), (0.4, 1), (0.6, 0))])
    assert above_thresholds(rows, [0.5, 0.4])[:, 5:].tolist() == [[0.5, 1], [0.6, 0]]


@pytest.mark.parametrize("seed", range(6))
def test_confusions_are_hotcocos(seed: int):
    truth, rows = random_case(seed)  # with ties, crowds and more detections than count
    counted = rows[matched_objects(coco_eval(truth, rows), len(rows)) != NOT_COUNTED]
    matrix = coco_eval(truth, counted).confusion_matrix(iou_thr=0.5)["matrix"]
    order = np.append(hotcoco_index(truth), len(truth.classes))
    assert diagnose(truth, rows, [-1] * 4).confusion.tolist() == matrix[np.ix_(order, order)].tolist()


def test_the_largest_confusions_come_first():
    confusion = np.array([[9, 2, 0], [3, 0, 2], [0, 1, 5]])
    assert largest_confusions(confusion, 3) == [(1, 0, 3), (0, 1, 2), (1, 2, 2)]
    assert largest_confusions(np.eye(3, dtype=np.int64), 3) == []
