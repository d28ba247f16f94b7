"""Ground truth and detections to score, and pycocotools to compare with."""

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from retinanet.data.dataset import Dataset, Strings
from retinanet.inference.results import coco_results


def dataset(counts, boxes, labels, crowd=None, areas=None, image_ids=None, category_ids=(1, 2)) -> Dataset:
    """Images of 640 x 480 with `counts` objects each. boxes: xywh."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return Dataset(
        classes=tuple(f"class {i}" for i in category_ids),
        category_ids=tuple(category_ids),
        folder=Path(),
        files=Strings(f"{i}.jpg" for i in range(len(counts))),
        image_ids=np.arange(len(counts)) if image_ids is None else image_ids,
        sizes=np.tile(np.array([480, 640], np.int32), (len(counts), 1)),
        sizes_annotated=True,
        first_object=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3] if areas is None else areas,
        labels=np.asarray(labels, np.int32),
        crowd=np.zeros(len(boxes), bool) if crowd is None else crowd,
        annotation_ids=np.arange(1, len(boxes) + 1, dtype=np.int64),
    )


def random_case(seed: int) -> tuple[Dataset, np.ndarray]:
    """Objects and detections with crowds, mask areas, tied scores, overlaps, empty images, a class without objects."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, 40) * (rng.random(40) < 0.8)
    total = counts.sum()
    sides = np.exp(rng.uniform(np.log(4), np.log(300), (total, 2))).round()  # small, medium and large
    boxes = np.concatenate([rng.uniform(0, 300, (total, 2)).round(), sides], axis=1)
    category_ids = (90, 3, 44, 7)  # neither in order nor without gaps; 7 has no objects
    truth = dataset(
        counts,
        boxes,
        labels=rng.integers(0, 3, total),
        crowd=rng.random(total) < 0.1,
        areas=(sides.prod(axis=1) * rng.uniform(0.4, 1, total)).round(2),
        image_ids=rng.permutation(1000)[:40],
        category_ids=category_ids,
    )
    owners = np.repeat(np.arange(40), counts)
    rows = []
    for spread in (0, 0.03, 0.1, 0.3):  # each object four times, less and less exact
        kept = rng.random(total) < 0.8
        moved = boxes + spread * np.tile(sides, 2) * rng.standard_normal((total, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], 1)
        labels = np.where(rng.random(total) < 0.1, rng.choice(4, total), truth.labels)
        scores = (rng.random(total) * (1 - spread)).round(1)  # ties
        rows.append(np.column_stack([owners, moved, scores, labels])[kept])
    crowded = np.tile([0, 5, 5, 40, 40, 0.5, 0], (150, 1))  # more than the 100 that count
    crowded[:, 3:5] += rng.integers(0, 3, (150, 2))
    rows = np.concatenate([*rows, crowded])
    return truth, rows[rng.permutation(len(rows))].astype(np.float32).astype(np.float64)


def jittered(truth: Dataset, seed: int, copies: int) -> np.ndarray:
    """Each object several times, less and less exact, with tied scores, some of another class; and boxes anywhere."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(truth)), np.diff(truth.first_object))
    classes = len(truth.classes)
    rows = []
    for spread in np.linspace(0, 0.3, copies):
        total = len(owners)
        boxes = truth.boxes + spread * np.tile(truth.boxes[:, 2:], 2) * rng.standard_normal((total, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
        labels = np.where(rng.random(total) < 0.1, rng.integers(classes, size=total), truth.labels)
        scores = (rng.random(total) * (1 - spread)).round(2)
        rows.append(np.column_stack([owners, boxes, scores, labels])[rng.random(total) < 0.9])
    anywhere = np.column_stack(
        [
            rng.integers(len(truth), size=500),
            rng.uniform(0, 300, (500, 4)),
            rng.random(500).round(2),
            rng.integers(classes, size=500),
        ]
    )
    every = np.concatenate([*rows, anywhere])
    return every[rng.permutation(len(every))].astype(np.float32).astype(np.float64)


def large_case() -> tuple[Dataset, np.ndarray]:
    """5,000 images, some empty, with 500,000 detections; 80 classes, a tenth without objects; crowds, areas, ties."""
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
    return truth, rows[:500_000]


def pycocotools_evaluation(truth: Dataset, rows: np.ndarray) -> COCOeval:
    """pycocotools after its `evaluate`."""
    owners = np.repeat(truth.image_ids, np.diff(truth.first_object)).tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": int(i), "height": 480, "width": 640} for i in truth.image_ids],
            "categories": [{"id": i, "name": name} for i, name in zip(truth.category_ids, truth.classes, strict=True)],
            "annotations": [
                {
                    "id": int(truth.annotation_ids[j]),
                    "image_id": owners[j],
                    "category_id": truth.category_ids[truth.labels[j]],
                    "bbox": truth.boxes[j].tolist(),
                    "area": float(truth.areas[j]),
                    "iscrowd": int(truth.crowd[j]),
                }
                for j in range(len(owners))
            ],
        }
        coco.createIndex()
        evaluation = COCOeval(
            coco, coco.loadRes(coco_results(rows, truth.image_ids.tolist(), truth.category_ids)), "bbox"
        )
        evaluation.evaluate()
    return evaluation
