"""The 12 numbers by pycocotools on a data set's own columns, and that ours are the same."""

import dataclasses

import numpy as np
import pytest
from helpers.scoring_cases import dataset, jittered, large_case, random_case

from retinanet.config.schema import SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.recognise import open_split
from retinanet.evaluation.coco_metrics import score
from retinanet.evaluation.pycocotools_metrics import reference_metrics


def assert_equal(truth: Dataset, rows: np.ndarray) -> dict[str, float]:
    metrics = score(truth, rows).metrics
    assert metrics == reference_metrics(truth, rows)
    return metrics


@pytest.mark.parametrize("seed", range(6, 9))
def test_random_cases(seed, capsys):
    metrics = assert_equal(*random_case(seed))
    assert min(metrics.values()) > 0
    assert capsys.readouterr() == ("", "")


def test_nothing_found_and_nothing_to_find():
    nothing = np.zeros((0, 7))
    assert assert_equal(dataset([1, 0], [[10, 10, 50, 50]], [1]), nothing)["AP"] == 0
    assert assert_equal(dataset([0, 0], [], []), nothing)["AP"] == -1
    assert assert_equal(dataset([0, 0], [], []), np.array([[0, 10, 10, 50, 50, 0.5, 1]]))["AP"] == -1


@pytest.mark.parametrize("first", [0, -1])
def test_the_annotation_with_the_id_0_can_be_found(first):
    # pycocotools by itself takes a match with it for none
    truth = dataset([2], [[10, 10, 50, 50], [200, 200, 50, 50]], [0, 0])
    truth = dataclasses.replace(truth, annotation_ids=np.array([first, first + 1]))
    rows = np.array([[0, 10, 10, 50, 50, 0.9, 0], [0, 200, 200, 50, 50, 0.8, 0]])
    assert assert_equal(truth, rows)["AP"] == pytest.approx(1)


def test_coco128(shared_data):
    root = shared_data / "coco128"
    [annotations] = root.rglob("*.json")
    truth = open_split(root, SplitConfig(images="train2017", annotations=str(annotations.relative_to(root))))
    assert truth.crowd.sum() == 10 and (np.diff(truth.first_object) == 0).sum() == 2
    assert min(assert_equal(truth, jittered(truth, 0, copies=8)).values()) > 0


@pytest.mark.slow
def test_500_000_detections():
    metrics = assert_equal(*large_case())
    assert min(metrics.values()) > 0.1 and max(metrics.values()) < 0.99
