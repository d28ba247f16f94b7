"""The 12 COCO numbers, equal to pycocotools' to the last bit."""

import contextlib
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.scoring_cases import dataset, pycocotools_evaluation, random_case

from retinanet.data.dataset import Dataset
from retinanet.detections import Detections
from retinanet.evaluation import coco_metrics
from retinanet.evaluation.coco_metrics import METRICS, score
from retinanet.evaluation.pycocotools_metrics import reference_metrics
from retinanet.inference.results import coco_results, coco_rows


def reference(truth: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' 12 numbers, and its precisions at all areas and 100 detections (IoU, recall, K)."""
    evaluation = pycocotools_evaluation(truth, rows)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"][:, :, :, 0, -1]


@pytest.mark.parametrize("seed", range(6))
def test_the_numbers_equal_pycocotools_to_the_last_bit(seed):
    truth, rows = random_case(seed)
    got = score(truth, rows)
    stats, precision = reference(truth, rows)
    assert list(got.metrics) == list(METRICS)
    assert list(got.metrics.values()) == stats.tolist()
    assert 0.05 < got.metrics["AP"] < 0.95 and min(got.metrics.values()) > 0  # each number had something to measure

    by_id = dict(zip(sorted(truth.category_ids), np.moveaxis(precision, 2, 0), strict=True))
    for result, label in zip(got.per_class, range(4), strict=True):
        of_class = by_id[result.category_id]
        if result.category_id == 7:
            assert (result.AP, result.AP50, result.objects) == (-1, -1, 0)
            continue
        assert pytest.approx(of_class.mean(), abs=1e-12) == result.AP
        assert pytest.approx(of_class[0].mean(), abs=1e-12) == result.AP50
        assert result.objects == ((truth.labels == label) & ~truth.crowd).sum() > 0
    assert [(r.label, r.category_id) for r in got.per_class] == list(
        zip(truth.classes, truth.category_ids, strict=True)
    )


def as_found(truth: Dataset) -> np.ndarray:
    """Every object that is no crowd, found exactly."""
    scores = np.full(len(truth.boxes), 0.9)
    return np.column_stack([truth.image_index, truth.boxes, scores, truth.labels])[~truth.crowd]


def test_perfect_detections_are_perfect():
    # areas 100, 2500 and 40000: small, medium and large
    truth = dataset([2, 0, 1], [[10, 10, 10, 10], [50, 50, 50, 50], [100, 100, 200, 200]], [0, 1, 0])
    got = score(truth, as_found(truth))
    assert list(got.metrics.values()) == pytest.approx([1] * 12)
    assert [value for r in got.per_class for value in (r.AP, r.AP50)] == pytest.approx([1] * 4)
    assert [r.objects for r in got.per_class] == [2, 1]


def test_a_range_without_objects_is_minus_one():
    truth = dataset([1], [[10, 10, 10, 10]], [0])
    metrics = score(truth, as_found(truth)).metrics
    assert {name for name, value in metrics.items() if value == -1} == {"APm", "APl", "ARm", "ARl"}
    assert metrics["AP"] == metrics["APs"] == pytest.approx(1)


def test_finding_nothing_is_worth_nothing():
    truth = dataset([1, 1], [[10, 10, 10, 10], [50, 50, 200, 200]], [0, 1])
    got = score(truth, np.zeros((0, 7)))
    assert {name: value for name, value in got.metrics.items() if value != -1} == dict.fromkeys(
        set(METRICS) - {"APm", "ARm"}, 0
    )
    assert [(r.AP, r.objects) for r in got.per_class] == [(0, 1), (0, 1)]


def test_without_any_object_nothing_can_be_said():
    truth = dataset([0, 0], [], [])
    for rows in (np.zeros((0, 7)), np.array([[0, 1, 1, 5, 5, 0.9, 1]])):
        assert set(score(truth, rows).metrics.values()) == {-1}


def test_half_of_the_objects_found_by_hand():
    # AP at any IoU: precision 1 up to recall 0.5, which is 51 of the 101 recalls
    truth = dataset([1, 1], [[10, 10, 10, 10], [20, 20, 10, 10]], [0, 0], category_ids=(1,))
    metrics = score(truth, as_found(truth)[:1]).metrics
    assert metrics["AP"] == pytest.approx(51 / 101)
    assert metrics["AR100"] == pytest.approx(0.5)


def test_rows_are_xywh_and_gain_ids_in_the_results():
    found = Detections(
        boxes=np.array([[1, 2, 4, 8], [0.5, 0, 1, 1]], np.float32),
        scores=np.array([0.7, 0.1], np.float32),
        labels=np.array([1, 0]),
    )
    rows = coco_rows(found, 5)
    np.testing.assert_array_equal(rows, [[5, 1, 2, 3, 6, np.float32(0.7), 1], [5, 0.5, 0, 0.5, 1, np.float32(0.1), 0]])
    assert coco_results(rows, [0, 0, 0, 0, 0, 42], (90, 3))[0] == {
        "image_id": 42,
        "category_id": 3,
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "score": float(np.float32(0.7)),
    }
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert coco_rows(nothing, 5).shape == (0, 7)


@pytest.mark.parametrize("image_offset", [-600, 2**62])
@pytest.mark.parametrize("category_offset", [-90, 2**62])
def test_ids_that_are_negative_or_beyond_float64_change_nothing(image_offset, category_offset):
    truth, rows = random_case(0)
    ids = tuple(i + category_offset for i in truth.category_ids)
    moved = replace(truth, image_ids=truth.image_ids + image_offset, category_ids=ids)
    got, expected = score(moved, rows), score(truth, rows)
    assert got.metrics == expected.metrics == reference_metrics(moved, rows)
    assert [(each.AP, each.objects) for each in got.per_class] == [
        (each.AP, each.objects) for each in expected.per_class
    ]
    saved = coco_results(rows[:9], moved.image_ids.tolist(), moved.category_ids)
    assert [each["image_id"] for each in saved] == [int(moved.image_ids[int(i)]) for i in rows[:9, 0]]
    assert [each["category_id"] for each in saved] == [ids[int(label)] for label in rows[:9, 6]]


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_number_of_classes_at_once_changes_no_bit(monkeypatch, at_once: int):
    truth, rows = random_case(3)
    expected = score(truth, rows)
    monkeypatch.setattr(coco_metrics, "CLASSES_AT_ONCE", at_once)
    assert score(truth, rows) == expected


def test_memory_grows_little_with_the_classes():
    script = """
import sys
sys.path.append("tests")
from helpers.scoring_cases import dataset
import numpy as np
from retinanet.devices import process_memory
from retinanet.evaluation.coco_metrics import score

def peak(classes):
    truth = dataset([1] * classes, [[10, 10, 50, 50]] * classes, range(classes), category_ids=range(1, 1 + classes))
    rows = np.tile([0, 10, 10, 50, 50, 0.9, 0], (classes, 1))
    rows[:, 0] = rows[:, 6] = range(classes)
    score(truth, rows)
    return process_memory()

print(-peak(80) + peak(3000))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / 3000 < 100_000  # bytes; hotcoco's arrays of a class take 193,920
