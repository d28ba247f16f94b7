"""What a split's annotations tell: its boxes, its classes, how its objects meet the anchors."""

from collections.abc import Iterator, Sequence

import numpy as np

from retinanet.config.schema import AnchorConfig
from retinanet.data.dataset import Dataset
from retinanet.data.transforms import Resizing
from retinanet.dataset_analysis.anchor_coverage import best_anchors, resized_objects
from retinanet.dataset_analysis.findings import FIRST, Finding, Level, Split, are, counted, have, part, unique
from retinanet.model.anchors import STRIDES, AnchorShapes

BEYOND = 1.0  # pixels over the image's edge that come from rounding
FEW = 10  # objects from which a class is hardly learnt
IMBALANCE = 100  # objects of the largest class to one of the smallest
TINY = STRIDES[0]  # pixels: the finest level has one cell for so many


def in_annotations(split: Split) -> Iterator[Finding]:
    yield from no_objects(split)
    yield from _dropped(split)
    yield from _clipped(split)
    yield from _duplicates(split)
    data = split.data
    if len(crowds := np.flatnonzero(data.crowd)):
        text = f"{part(len(crowds), len(data.boxes), 'object')} {'is a crowd' if len(crowds) == 1 else 'are crowds'}, or marked as difficult"
        advice = "nothing: training ignores the anchors on them, and evaluation what is found there"
        yield split.objects(crowds, "info", "crowds", text, advice)
    if empty := np.flatnonzero(np.diff(data.first_object) == 0).tolist():
        text = f"{part(len(empty), len(data), 'image')} {have(len(empty))} no objects"
        advice = "nothing, if they show none: they teach the background; data.skip_empty leaves them out"
        yield split.images(empty, "info", "empty-images", text, advice)


def no_objects(split: Split) -> Iterator[Finding]:
    data = split.data
    if data.crowd.all():
        crowds = ", only crowds" if len(data.crowd) else ""
        text = f"{split.name} has no objects{crowds} in {counted(len(data), 'image')}"
        advice = {"train": "there is nothing to learn", "val": "no AP can be measured"}[split.name]
        level: Level = "error" if split.name == "train" else "warning"
        yield split.images(
            range(len(data)), level, "no-objects", text, f"{advice}; see the annotations and data.classes"
        )


DROPPED = {
    "not-finite": "numbers that are not finite, or beyond 2^31",
    "no-area": "no area: width and height must be > 0",
    "outside": "no part inside the image",
}


def _dropped(split: Split) -> Iterator[Finding]:
    for skipped in split.data.skipped:
        n = len(skipped.annotation_ids)
        ids = tuple(skipped.annotation_ids[:FIRST].tolist())
        names = unique(skipped.files[index] for index in range(min(n, FIRST)))
        text = f"{counted(n, 'box')} {have(n)} {DROPPED[skipped.fault]}; dropped"
        advice = "correct the annotations or delete them"
        code = f"{skipped.fault}-box"
        yield Finding("warning", code, split.name, n, "annotation", ids, names, text, advice)


def _clipped(split: Split) -> Iterator[Finding]:
    data = split.data
    x, y, w, h = data.boxes.T
    height, width = data.sizes[data.image_index].T
    beyond = np.max([-x, -y, x + w - width, y + h - height], axis=0)
    if len(rows := np.flatnonzero(beyond > BEYOND)):
        text = (
            f"{part(len(rows), len(data.boxes), 'box')} {'reaches' if len(rows) == 1 else 'reach'} beyond the image, by "
            f"up to {beyond.max():,.0f} px; clipped"
        )
        advice = "look at some: many such boxes mean another image size, or corners where width and height belong"
        yield split.objects(rows, "warning", "clipped-box", text, advice)


def _duplicates(split: Split) -> Iterator[Finding]:
    data = split.data
    columns = np.column_stack([data.image_index, data.labels, data.boxes])  # (M, 6)
    order = np.lexsort(columns.T)
    same = (columns[order[1:]] == columns[order[:-1]]).all(axis=1)
    if len(rows := np.sort(order[1:][same])):  # a stable sort: the first of each stays
        text = f"{part(len(rows), len(data.boxes), 'box')} {are(len(rows))} there twice: the same image, class and box"
        advice = "delete the copies: evaluation counts each as an object of its own"
        yield split.objects(rows, "warning", "duplicate-box", text, advice)


def category_gaps(split: Split) -> Iterator[Finding]:
    ids = sorted(split.data.category_ids)
    count = ids[-1] - ids[0] + 1 - len(ids)
    if count:
        first: list[int] = []
        for low, high in zip(ids, ids[1:], strict=False):
            first.extend(range(low + 1, min(high, low + 1 + FIRST - len(first))))
        text = f"the category ids, {ids[0]} to {ids[-1]}, leave out {count:,}"
        advice = "nothing: labels count without gaps, and results carry the ids of the file"
        yield Finding("info", "category-gaps", split.name, count, "category", tuple(first), (), text, advice)


def class_counts(data: Dataset) -> np.ndarray:
    """(K,) objects of each class, crowds left out."""
    return np.bincount(data.labels[~data.crowd], minlength=len(data.classes))


def in_classes(train: Split, val: Dataset) -> Iterator[Finding]:
    counts = class_counts(train.data)
    if not counts.any():
        return
    total = f"of {counted(len(counts), 'class')}"
    absent = counts == 0
    if val.classes == train.data.classes:
        untrained = absent & (class_counts(val) > 0)
        if len(labels := np.flatnonzero(untrained)):
            text = f"{len(labels)} {total} {have(len(labels))} objects in val but none in train: {train.named(labels)}"
            advice = "their AP will be 0: add examples to train, or leave them out with data.classes"
            yield train.categories(labels, "warning", "untrained-class", text, advice)
            absent &= ~untrained
    if len(labels := np.flatnonzero(absent)):
        text = f"{len(labels)} {total} {have(len(labels))} no object in train: {train.named(labels)}"
        advice = "add examples, or leave them out with data.classes"
        yield train.categories(labels, "warning", "empty-class", text, advice)
    if len(labels := np.flatnonzero((counts > 0) & (counts < FEW))):
        text = f"{len(labels)} {total} {have(len(labels))} fewer than {FEW} objects in train: {train.named(labels)}"
        advice = "expect a low AP of them; add examples"
        yield train.categories(labels, "warning", "few-objects", text, advice)
    smallest, largest = np.where(counts > 0, counts, counts.max() + 1).argmin(), counts.argmax()
    if counts[largest] > IMBALANCE * counts[smallest]:
        names = [f"{train.data.classes[label]} ({counts[label]:,})" for label in (largest, smallest)]
        text = f"{names[0]} has {counts[largest] / counts[smallest]:,.0f} times the objects of {names[1]}"
        advice = "read the AP per class: the mean hides what the rare ones have"
        yield train.categories(np.array([largest, smallest]), "info", "imbalance", text, advice)


def after_resize(train: Split, resizings: Sequence[Resizing], anchors: AnchorConfig) -> Iterator[Finding]:
    """Objects that after each of `resizings` are too small, or of too odd a shape, for the anchors."""
    objects = resized_objects(train.data, resizings)
    rows = objects.indices[: len(objects.indices) // len(resizings)]
    sides = "" if len(resizings) == 1 else " at any of train.augment.short_sides"

    iou, _ = best_anchors(objects.boxes, objects.image_sizes, AnchorShapes.from_config(anchors))
    unreached = rows[(iou < anchors.background_iou).reshape(len(resizings), -1).all(axis=0)]
    if len(unreached) and not anchors.force_best:
        text = (
            f"{part(len(unreached), len(rows), 'object')} {have(len(unreached))} no anchor of IoU >= "
            f"{anchors.background_iou:g} after the resize{sides}"
        )
        advice = "they teach nothing; a larger data.short_side, or retina anchors CONFIG --optimize"
        yield train.objects(unreached, "warning", "unreached-object", text, advice)

    x1, y1, x2, y2 = objects.boxes.T
    tiny = rows[((x2 - x1) * (y2 - y1) < TINY**2).reshape(len(resizings), -1).all(axis=0)]
    if len(tiny):
        text = (
            f"{part(len(tiny), len(rows), 'object')} {are(len(tiny))} smaller than {TINY} x {TINY} px after the "
            f"resize{sides}"
        )
        advice = "a cell of the finest level is as large; a larger data.short_side helps"
        yield train.objects(tiny, "warning", "tiny-object", text, advice)
