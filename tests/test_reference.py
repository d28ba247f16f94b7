"""The 12 numbers by pycocotools on a data set's own columns, and that ours are the same."""

import dataclasses

import numpy as np
import pytest
from scoring_cases import dataset, random_case

from retinanet.data.dataset import Dataset
from retinanet.data.formats import open_split
from retinanet.reference import pycocotools_stats
from retinanet.scoring import METRICS, score


def assert_equal(truth: Dataset, rows: np.ndarray) -> dict[str, float]:
    metrics = score(truth, rows).metrics
    assert metrics == dict(zip(METRICS, pycocotools_stats(truth, rows), strict=True))
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
    assert assert_equal(dataset([0, 0], [], []), np.array([[0, 10, 10, 50, 50, 0.5, 2]]))["AP"] == -1


@pytest.mark.parametrize("first", [0, -1])
def test_the_annotation_with_the_id_0_can_be_found(first):
    # pycocotools by itself takes a match with it for none
    truth = dataset([2], [[10, 10, 50, 50], [200, 200, 50, 50]], [0, 0])
    truth = dataclasses.replace(truth, annotation_ids=np.array([first, first + 1]))
    rows = np.array([[0, 10, 10, 50, 50, 0.9, 1], [0, 200, 200, 50, 50, 0.8, 1]])
    assert assert_equal(truth, rows)["AP"] == pytest.approx(1)


def jittered(truth: Dataset, seed: int, copies: int) -> np.ndarray:
    """Each object several times, less and less exact, with tied scores, some under another class; and boxes anywhere."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(truth)), np.diff(truth.starts))
    ids, image_ids = np.array(truth.category_ids), truth.image_ids
    rows = []
    for spread in np.linspace(0, 0.3, copies):
        total = len(owners)
        boxes = truth.boxes + spread * np.tile(truth.boxes[:, 2:], 2) * rng.standard_normal((total, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
        labels = np.where(rng.random(total) < 0.1, rng.integers(len(ids), size=total), truth.labels)
        scores = (rng.random(total) * (1 - spread)).round(2)
        rows.append(np.column_stack([image_ids[owners], boxes, scores, ids[labels]])[rng.random(total) < 0.9])
    anywhere = np.column_stack(
        [
            image_ids[rng.integers(len(image_ids), size=500)],
            rng.uniform(0, 300, (500, 4)),
            rng.random(500).round(2),
            ids[rng.integers(len(ids), size=500)],
        ]
    )
    every = np.concatenate([*rows, anywhere])
    return every[rng.permutation(len(every))].astype(np.float32).astype(np.float64)


def test_coco128(shared_data):
    root = shared_data / "coco128"
    [annotations] = root.rglob("*.json")
    truth = open_split(root, images="train2017", annotations=str(annotations.relative_to(root)))
    assert truth.crowd.sum() == 10 and (np.diff(truth.starts) == 0).sum() == 2
    assert min(assert_equal(truth, jittered(truth, 0, copies=8)).values()) > 0


@pytest.mark.slow
def test_500_000_detections():
    # 5000 images, some empty; 80 classes, one in ten without objects; crowds, mask areas and ties
    rng = np.random.default_rng(0)
    images, category_ids = 5000, tuple((rng.permutation(90) + 1)[:80].tolist())
    counts = rng.poisson(7, images) * (rng.random(images) < 0.95)
    total = int(counts.sum())
    sides = np.exp(rng.uniform(np.log(4), np.log(300), (total, 2))).round(2)
    truth = dataset(
        counts,
        np.concatenate([rng.uniform(0, 300, (total, 2)).round(2), sides], axis=1),
        labels=rng.integers(0, 72, total),
        crowd=rng.random(total) < 0.05,
        areas=(sides.prod(axis=1) * rng.uniform(0.4, 1, total)).round(2),
        image_ids=rng.permutation(600_000)[:images],
        category_ids=category_ids,
    )
    rows = jittered(truth, 1, copies=18)
    assert len(rows) > 500_000
    metrics = assert_equal(truth, rows[:500_000])
    assert min(metrics.values()) > 0.1 and max(metrics.values()) < 0.99
