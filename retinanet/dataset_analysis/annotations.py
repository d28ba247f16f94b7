"""Findings in the annotations of a split: about its boxes, its classes, and its objects' anchors."""

from collections.abc import Iterator, Sequence

import numpy as np

from retinanet.config.schema import AnchorConfig
from retinanet.data.dataset import Dataset
from retinanet.data.transforms import Resizing
from retinanet.dataset_analysis.anchor_coverage import best_anchors, have_selected_anchor, resized_objects
from retinanet.dataset_analysis.findings import FIRST, Finding, Level, Split, agreeing, counted, part
from retinanet.model.anchors import STRIDES, AnchorShapes

BEYOND = 1.0  # pixels beyond the image's edge that are accepted as rounding
FEW = 10  # objects; fewer are too few to learn a class
IMBALANCE = 100  # objects of the largest class for each object of the smallest
MANY = 0.5  # share of the boxes of a split; faults of more of them have one cause
PIXELS = 10  # a box that is this many images away is in pixels, where fractions of the image are expected
TINY = STRIDES[0]  # pixels; an object of this side is as large as a cell of the finest level


def in_annotations(split: Split) -> Iterator[Finding]:
    yield from ruined_boxes(split)
    yield from no_objects(split)
    yield from _dropped(split)
    yield from _clipped(split)
    yield from _duplicates(split)
    data = split.data
    if len(crowds := np.flatnonzero(data.crowd)):
        text = f"{part(len(crowds), len(data.boxes), 'object', 'is a crowd')}, or marked as difficult"
        advice = "nothing to do: training ignores the anchors on them, and evaluation ignores detections there"
        yield split.objects(crowds, "info", "crowds", text, advice)
    if empty := np.flatnonzero(np.diff(data.first_object) == 0).tolist():
        text = f"{part(len(empty), len(data), 'image', 'has')} no objects"
        advice = (
            "nothing to do if they show no objects: training uses them as background; data.skip_empty leaves them out"
        )
        yield split.images(empty, "info", "empty-images", text, advice)


def no_objects(split: Split) -> Iterator[Finding]:
    data = split.data
    if data.crowd.all():
        crowds = ", only crowds" if len(data.crowd) else ""
        text = f"{split.name} has no objects{crowds} in {counted(len(data), 'image')}"
        level: Level = "error" if split.name == "train" else "warning"
        effect = "a detector cannot be trained" if level == "error" else "no AP can be measured"
        advice = f"{effect}; check the annotations and data.classes"
        yield split.images(range(len(data)), level, "no-objects", text, advice)


DROPPED = {
    "not-finite": "numbers that are not finite, or beyond 2^31",
    "no-area": "no area: width and height must be > 0",
    "outside": "no part inside the image",
}


def _dropped(split: Split) -> Iterator[Finding]:
    for skipped in split.data.skipped:
        n = len(skipped.annotation_ids)
        ids = tuple(skipped.annotation_ids[:FIRST].tolist())
        files = tuple(dict.fromkeys(skipped.files[index] for index in range(min(n, FIRST))))
        text = f"{counted(n, 'box')} {agreeing('has', n)} {DROPPED[skipped.fault]}; dropped"
        advice = "correct the annotations or delete them"
        yield Finding("warning", f"{skipped.fault}-box", split.name, n, "annotation", ids, files, text, advice)


def ruined_boxes(split: Split) -> Iterator[Finding]:
    """Errors where most boxes of a split are at fault, with the likely cause."""
    data = split.data
    dropped = [ids for skipped in data.skipped for ids in skipped.annotation_ids.tolist()]
    total = len(data.boxes) + len(dropped)
    if len(dropped) > MANY * total:
        text = f"{part(len(dropped), total, 'box', 'is')} dropped in {split.name}: most have {_worst(data)}"
        files = tuple(dict.fromkeys(skipped.files[0] for skipped in data.skipped))
        advice = f"{_cause(data)}; correct the annotations"
        ids = tuple(sorted(dropped)[:FIRST])
        yield Finding("error", "most-boxes-dropped", split.name, len(dropped), "annotation", ids, files, text, advice)
    within = np.flatnonzero((data.boxes[:, :2] + data.boxes[:, 2:] <= 1).all(axis=1))
    if len(within) > MANY * total:
        text = f"{part(len(within), total, 'box', 'is')} within the first pixel of the image in {split.name}"
        advice = (
            "the numbers look like fractions of the image; COCO and Pascal VOC want pixels; correct the annotations"
        )
        yield split.objects(within, "error", "boxes-in-fractions", text, advice)

    x, y, w, h = data.boxes.T
    height, width = data.sizes[data.image_index].T
    beyond = np.flatnonzero((x + w > width + BEYOND) | (y + h > height + BEYOND))
    corners = (w > x) & (h > y) & (w <= width + BEYOND) & (h <= height + BEYOND)
    if len(data.boxes) >= FEW and len(beyond) > MANY * len(data.boxes) and corners.all():
        reach = part(len(beyond), len(data.boxes), "box", "reaches")
        text = f"{reach} beyond the image in {split.name}; none would as corners"
        advice = "the numbers look like [x1, y1, x2, y2]; COCO wants [x, y, width, height]; correct the annotations"
        yield split.objects(beyond, "error", "boxes-as-corners", text, advice)


def _worst(data: Dataset) -> str:
    return DROPPED[max(data.skipped, key=lambda skipped: len(skipped.annotation_ids)).fault]


def _cause(data: Dataset) -> str:
    """The likely cause of the fault that most skipped boxes have."""
    worst = max(data.skipped, key=lambda skipped: len(skipped.annotation_ids))
    ends = worst.boxes[:, :2] + worst.boxes[:, 2:]
    if worst.fault == "outside" and np.median(ends.max(axis=1)) > PIXELS:
        return "the numbers look like pixels or per cent; YOLO wants fractions of the image's width and height"
    return {
        "not-finite": "the numbers look damaged",
        "no-area": "the boxes look like points, or like corners in another order than the format's",
        "outside": "the boxes look made for images of another size or order",
    }[worst.fault]


def _clipped(split: Split) -> Iterator[Finding]:
    data = split.data
    x, y, w, h = data.boxes.T
    height, width = data.sizes[data.image_index].T
    beyond = np.max([-x, -y, x + w - width, y + h - height], axis=0)
    if len(rows := np.flatnonzero(beyond > BEYOND)):
        reach = part(len(rows), len(data.boxes), "box", "reaches")
        text = f"{reach} beyond the image, by up to {beyond.max():,.0f} px; clipped"
        advice = "look at some: are the images resized, or the boxes corners instead of width and height?"
        yield split.objects(rows, "warning", "clipped-box", text, advice)


def _duplicates(split: Split) -> Iterator[Finding]:
    data = split.data
    columns = np.column_stack([data.image_index, data.labels, data.boxes])  # (M, 6)
    order = np.lexsort(columns.T)
    same = (columns[order[1:]] == columns[order[:-1]]).all(axis=1)
    if len(rows := np.sort(order[1:][same])):  # lexsort is stable: the first of each is no copy
        text = f"{part(len(rows), len(data.boxes), 'box', 'is')} listed twice: the same image, class and box"
        advice = "delete the copies: evaluation counts each as a separate object"
        yield split.objects(rows, "warning", "duplicate-box", text, advice)


def category_gaps(split: Split) -> Iterator[Finding]:
    ids = sorted(split.data.category_ids)
    if count := ids[-1] - ids[0] + 1 - len(ids):
        first: list[int] = []
        for low, high in zip(ids, ids[1:], strict=False):
            first.extend(range(low + 1, min(high, low + 1 + FIRST - len(first))))
        text = f"{count:,} of the category ids {ids[0]} to {ids[-1]} are not used"
        advice = "nothing to do: results have the category ids of the file"
        yield Finding("info", "category-gaps", split.name, count, "category", tuple(first), (), text, advice)


def same_names(split: Split) -> Iterator[Finding]:
    names = np.array(split.data.classes, object)
    unique, counts = np.unique(names, return_counts=True)
    if len(labels := np.flatnonzero(np.isin(names, unique[counts > 1]))):
        listed = ", ".join(f'"{names[label]}" ({split.data.category_ids[label]})' for label in labels[:FIRST])
        text = f"{len(labels)} of {counted(len(names), 'category')} have the name of another: {listed}"
        advice = "give them different names or one id: training takes them for different classes"
        yield split.categories(labels, "warning", "repeated-name", text, advice)


def class_counts(data: Dataset) -> np.ndarray:
    """(K,) objects of each class, without crowds."""
    return np.bincount(data.labels[~data.crowd], minlength=len(data.classes))


def in_classes(train: Split, val: Dataset) -> Iterator[Finding]:
    counts, names = class_counts(train.data), train.data.classes
    if not counts.any():
        return

    def warning(chosen: np.ndarray, code: str, what: str, advice: str) -> Iterator[Finding]:
        if len(labels := np.flatnonzero(chosen)):
            first = ", ".join([names[label] for label in labels[:FIRST]] + ["..."] * (len(labels) > FIRST))
            text = f"{len(labels)} of {counted(len(names), 'class')} {agreeing('has', len(labels))} {what}: {first}"
            yield train.categories(labels, "warning", code, text, advice)

    absent = counts == 0
    untrained = absent & (class_counts(val) > 0) if val.classes == names else np.zeros_like(absent)
    advice = "their AP will be 0: add examples to train, or leave the classes out with data.classes"
    yield from warning(untrained, "untrained-class", "objects in val but none in train", advice)
    advice = "add examples, or leave the classes out with data.classes"
    yield from warning(absent & ~untrained, "empty-class", "no object in train", advice)
    few, advice = (counts > 0) & (counts < FEW), "their AP will be low; add examples"
    yield from warning(few, "few-objects", f"fewer than {FEW} objects in train", advice)
    smallest, largest = np.where(counts > 0, counts, counts.max() + 1).argmin(), counts.argmax()
    if counts[largest] > IMBALANCE * counts[smallest]:
        most, fewest = (f"{names[label]} ({counts[label]:,})" for label in (largest, smallest))
        text = f"{most} has {counts[largest] / counts[smallest]:,.0f} times the objects of {fewest}"
        advice = "look at the AP per class: the mean hides that of rare classes"
        yield train.categories(np.array([largest, smallest]), "info", "imbalance", text, advice)


def after_resize(train: Split, resizings: Sequence[Resizing], anchors: AnchorConfig) -> Iterator[Finding]:
    """Objects whose size or shape does not fit the anchors after any of `resizings`."""
    objects = resized_objects(train.data, resizings)
    rows = objects.indices[: len(objects.indices) // len(resizings)]
    sides = "" if len(resizings) == 1 else " at any of train.augment.short_sides"

    if anchors.matching == "atss":
        missed, which = ~have_selected_anchor(objects, anchors), "that ATSS selects"
        advice = "training ignores them; set a larger data.short_side"
    else:
        iou, _ = best_anchors(objects.boxes, objects.image_sizes, AnchorShapes.from_config(anchors))
        missed, which = iou < anchors.background_iou, f"of IoU >= {anchors.background_iou:g}"
        advice = "training ignores them; set a larger data.short_side, or use retina anchors CONFIG --optimize"
    unreached = rows[missed.reshape(len(resizings), -1).all(axis=0)]
    if len(unreached) and not anchors.force_best:
        none = f"{part(len(unreached), len(rows), 'object', 'has')} no anchor"
        text = f"{none} {which} after the resize{sides}"
        yield train.objects(unreached, "warning", "unreached-object", text, advice)

    x1, y1, x2, y2 = objects.boxes.T
    tiny = rows[((x2 - x1) * (y2 - y1) < TINY**2).reshape(len(resizings), -1).all(axis=0)]
    if len(tiny):
        smaller = f"{part(len(tiny), len(rows), 'object', 'is')} smaller than {TINY} x {TINY} px"
        text = f"{smaller} after the resize{sides}"
        advice = "they are smaller than a cell of the finest level; use a larger data.short_side"
        yield train.objects(tiny, "warning", "tiny-object", text, advice)
