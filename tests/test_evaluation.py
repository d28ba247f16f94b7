"""The 12 COCO numbers, equal to pycocotools' to the last bit."""

import contextlib
import copy
import dataclasses
import io

import numpy as np
import pytest
import torch
from scoring_cases import dataset, pycocotools_evaluation, random_case

from retinanet.config import DetectConfig
from retinanet.data.dataset import Dataset
from retinanet.data.shapes import open_shapes
from retinanet.detections import Detections
from retinanet.errors import DataError
from retinanet.evaluation import METRICS, coco_results, coco_rows, evaluate, score
from retinanet.model import Predictions


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
    np.testing.assert_array_equal(got.results, rows)

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
    owners = np.repeat(truth.image_ids, np.diff(truth.starts))
    ids = np.array(truth.category_ids)[truth.labels]
    return np.column_stack([owners, truth.boxes, np.full(len(owners), 0.9), ids])[~truth.crowd]


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


def test_rows_are_xywh_with_outside_ids():
    found = Detections(
        boxes=np.array([[1, 2, 4, 8], [0.5, 0, 1, 1]], np.float32),
        scores=np.array([0.7, 0.1], np.float32),
        labels=np.array([1, 0]),
    )
    rows = coco_rows(found, 42, (90, 3))
    np.testing.assert_array_equal(
        rows, [[42, 1, 2, 3, 6, np.float32(0.7), 3], [42, 0.5, 0, 0.5, 1, np.float32(0.1), 90]]
    )
    assert coco_results(rows)[0] == {
        "image_id": 42,
        "category_id": 3,
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "score": float(np.float32(0.7)),
    }
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert coco_rows(nothing, 42, (90, 3)).shape == (0, 7)


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    """The first 20 images of the embedded data set."""
    val, some = open_shapes("val"), 20
    end = val.starts[some]
    of_images = {name: getattr(val, name)[:some] for name in ("image_ids", "sizes")}
    of_objects = {name: getattr(val, name)[:end] for name in ("boxes", "areas", "labels", "crowd", "annotation_ids")}
    return dataclasses.replace(val, starts=val.starts[: some + 1], **of_images, **of_objects)


class Oracle(torch.nn.Module):
    """A detector that knows the pictures of a data set: one anchor per object, its class sure. Others are red circles."""

    def __init__(self, truth: Dataset, scale: float = 1):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(1))
        self.samples = {sample.image.tobytes(): sample for sample in (truth[i] for i in range(len(truth)))}
        self.scale, self.modes = scale, []

    def forward(self, images, sizes):
        self.modes.append(self.training)
        [image] = images.permute(0, 2, 3, 1)
        sample = self.samples.get(image.contiguous().numpy().tobytes())
        labels = torch.from_numpy(sample.labels) if sample else torch.zeros(1, dtype=torch.int64)
        boxes = self.scale * torch.from_numpy(sample.boxes) if sample else torch.tensor([[0.0, 0, 32, 32]])
        logits = torch.full((1, len(labels), 6), -20.0)
        logits[0, torch.arange(len(labels)), labels] = 5.0
        return Predictions([logits], [torch.zeros(1, len(boxes), 4)], [boxes])


@pytest.mark.parametrize("training", [True, False])
def test_a_detector_that_knows_all_gets_everything(shapes, training):
    told = []
    oracle = Oracle(shapes).train(training)
    got = evaluate(oracle, shapes, 128, 128, DetectConfig(nms_iou=1), progress=lambda *done: told.append(done))
    assert got.metrics["AP"] == pytest.approx(1)
    assert len(got.results) == len(shapes.boxes) and got.notes == ()
    assert told == [(i, 20) for i in range(1, 21)]
    assert got.funnel is got.reference is None
    assert oracle.training == training and not any(oracle.modes)  # evaluated as such, and left as it was


def test_a_detector_that_sees_all_at_half_size_gets_little(shapes):
    assert evaluate(Oracle(shapes, scale=0.5), shapes, 128, 128, DetectConfig(nms_iou=1)).metrics["AP"] < 0.05


def test_the_objects_of_an_unreadable_image_are_missed(shapes):
    torn = copy.copy(shapes)

    def image(index: int) -> np.ndarray:
        if index == 3:
            raise DataError(f"{shapes.files[index]}: cannot be read")
        return shapes.image(index)

    torn.image = image
    got = evaluate(Oracle(shapes), torn, 128, 128, DetectConfig(nms_iou=1))
    assert len(got.results) == len(shapes.boxes) - (shapes.starts[4] - shapes.starts[3])
    assert 3 not in got.results[:, 0]
    [note] = got.notes
    assert note.startswith("shapes-val-00003.png: cannot be read") and "missed" in note
    assert [result.objects for result in got.per_class] == np.bincount(shapes.labels, minlength=6).tolist()


def test_with_funnel_and_reference_the_results_are_the_same(shapes):
    torn = copy.copy(shapes)

    def image(index: int) -> np.ndarray:
        if index == 3:
            raise DataError("cannot be read")
        return shapes.image(index)

    torn.image = image
    arguments = (torn, 128, 128, DetectConfig(nms_iou=1))
    for oracle in (Oracle(shapes), Oracle(shapes, scale=0.8)):
        plain, told = evaluate(oracle, *arguments), evaluate(oracle, *arguments, funnel=True, reference=True)
        np.testing.assert_array_equal(plain.results, told.results)
        assert plain.metrics == told.metrics == told.reference
        counts = {at.stage: at.missed for at in told.funnel.lost}
        assert counts["unreadable image"] == shapes.starts[4] - shapes.starts[3]
        assert told.funnel.objects == len(shapes.boxes)
    assert (
        counts["no anchor"] == told.funnel.missed - counts["unreadable image"] > 10
    )  # an oracle's anchors are its boxes
