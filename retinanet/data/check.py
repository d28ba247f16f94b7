"""What in a data set would spoil a run, or should be known before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from retinanet.anchors import STRIDES
from retinanet.config import AnchorConfig, Config, DataConfig
from retinanet.coverage import best_anchors, resized_objects
from retinanet.data import files, open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.shapes import Shapes
from retinanet.errors import DataError

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")

FIRST = 5  # ids that a finding names
MOST_DAMAGED = 0.03  # part of the images that training may replace by others
BEYOND = 1.0  # pixels over the image's edge that come from rounding
FEW = 10  # objects from which a class is hardly learnt
IMBALANCE = 100  # objects of the largest class to one of the smallest
TINY = STRIDES[0]  # pixels: the finest level has one cell for so many


@dataclass(frozen=True)
class Finding:
    """One kind of fault, or of fact.

    code: its name. split: "train" or "val"; None: both. count: how many images, annotations, categories or files have
    it, as `of` says. ids: the first of theirs, and `files` of their images. advice: what to do.
    """

    level: Level
    code: str
    split: str | None
    count: int
    of: str
    ids: tuple[int, ...]
    files: tuple[str, ...]
    text: str
    advice: str


@dataclass(frozen=True)
class Summary:
    """Counts of a split. objects: with the crowds, without the dropped boxes. classes: name -> objects but crowds."""

    images: int
    objects: int
    crowds: int
    empty_images: int
    dropped_boxes: int
    classes: dict[str, int]


@dataclass(frozen=True)
class Report:
    """splits: those that could be opened, by name. findings: errors first."""

    splits: dict[str, Summary]
    findings: list[Finding]

    def count(self, level: Level) -> int:
        return sum(finding.level == level for finding in self.findings)


@dataclass(frozen=True)
class Split:
    """A data set and its name in the config."""

    name: str
    data: Dataset

    def objects(self, rows: np.ndarray, level: Level, code: str, text: str, advice: str) -> Finding:
        """A finding about the objects `rows`, indices into the data set's columns."""
        first = rows[:FIRST]
        images = np.searchsorted(self.data.starts, first, side="right") - 1
        ids = tuple(self.data.annotation_ids[first].tolist())
        names = _unique(self.data.files[index] for index in images.tolist())
        return Finding(level, code, self.name, len(rows), "annotation", ids, names, text, advice)

    def images(self, indices: Sequence[int], level: Level, code: str, text: str, advice: str) -> Finding:
        """A finding about the images `indices`."""
        first = list(indices[:FIRST])
        ids = tuple(self.data.image_ids[first].tolist())
        names = tuple(self.data.files[index] for index in first)
        return Finding(level, code, self.name, len(indices), "image", ids, names, text, advice)

    def categories(self, labels: np.ndarray, level: Level, code: str, text: str, advice: str) -> Finding:
        """A finding about the classes `labels`."""
        ids = tuple(self.data.category_ids[label] for label in labels[:FIRST].tolist())
        return Finding(level, code, self.name, len(labels), "category", ids, (), text, advice)

    def named(self, labels: np.ndarray) -> str:
        names = [self.data.classes[label] for label in labels[:FIRST].tolist()]
        return ", ".join(names) + ", ..." * (len(labels) > FIRST)


def check(
    config: Config, fast: bool = False, progress: Callable[[int, int], object] = lambda done, total: None
) -> Report:
    """Look at the training and the validation data of `config`.

    Args:
        fast: read the headers of the images, not their pixels.
        progress: is told how many images are done, and of how many.
    Raises: ConfigError if data.train is not set. What is at fault in the data is a finding.
    """
    splits, findings = _opened(config.data)
    summaries = {split.name: _summary(split.data) for split in splits}
    if len(splits) == 2 and _same_annotations(*(split.data for split in splits)):
        findings.append(_same_split(splits.pop()))
    findings += _between(splits)
    findings += [finding for split in splits[:1] for finding in _category_gaps(split)]
    total, before = sum(len(split.data) for split in splits), 0
    for split in splits:

        def count(done: int, before: int = before) -> None:
            progress(before + done, total)

        findings += _in_files(split, not fast, config.data.workers, count)
        findings += _in_annotations(split)
        before += len(split.data)
    if splits and splits[0].name == "train":
        train = splits[0]
        findings += _in_classes(train, splits[-1].data)
        if not train.data.crowd.all():
            short_sides = config.train.augment.short_sides or (config.data.short_side,)
            findings += _after_resize(train, config.data, config.anchors, short_sides)
    return Report(summaries, sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def errors_without_images(train: Dataset, val: Dataset | None) -> list[Finding]:
    """What of the errors that `check` finds can be told without opening an image: 0.8 s for COCO's 118,000."""
    splits = [Split("train", train)] + ([Split("val", val)] if val is not None else [])
    findings = list(_categories(splits))
    for split in splits:
        findings += [*_missing(split, _missing_files(split)), *_no_objects(split)]
    return [finding for finding in findings if finding.level == "error"]


def _opened(data: DataConfig) -> tuple[list[Split], list[Finding]]:
    """The splits that can be read, and why others cannot."""
    splits: list[Split] = []
    findings: list[Finding] = []
    for name in ("train", "val"):
        if name == "val" and data.val is None and data.embedded is None:
            text = "data.val is not set, so no AP is measured and no best checkpoint is kept"
            advice = "name a split, or images and annotations, that are not trained on"
            findings.append(Finding("warning", "no-val", "val", 1, "file", (), (), text, advice))
            continue
        try:
            splits.append(Split(name, open_dataset(data, name)))
        except DataError as error:
            if any(finding.text == str(error) for finding in findings):
                continue
            count, ids = max(1, len(error.ids)), tuple(error.ids[:FIRST])
            advice = "nothing can be read before it is put right"
            findings.append(Finding("error", error.code, name, count, error.of, ids, (), str(error), advice))
    return splits, findings


def _summary(data: Dataset) -> Summary:
    counts = _class_counts(data)
    return Summary(
        images=len(data),
        objects=len(data.boxes),
        crowds=int(data.crowd.sum()),
        empty_images=int((np.diff(data.starts) == 0).sum()),
        dropped_boxes=sum(len(skipped.annotation_ids) for skipped in data.skipped),
        classes=dict(zip(data.classes, counts.tolist(), strict=True)),
    )


def _same_annotations(train: Dataset, val: Dataset) -> bool:
    return (
        (train.folder, train.classes) == (val.folder, val.classes)
        and np.array_equal(train.files.bytes, val.files.bytes)
        and all(
            np.array_equal(getattr(train, column), getattr(val, column))
            for column in ("image_ids", "starts", "annotation_ids", "labels", "boxes")
        )
    )


def _same_split(val: Split) -> Finding:
    text = f"train and val are the same {len(val.data):,} images with the same annotations"
    advice = "an AP on them tells only that the detector learns; for an honest one name other images in data.val"
    return Finding("info", "same-split", None, len(val.data), "image", (), (), text, advice)


def _between(splits: Sequence[Split]) -> Iterator[Finding]:
    yield from _categories(splits)
    if len(splits) < 2 or not all(map(_on_disk, splits)):
        return
    train, val = splits
    if pairs := files.shared(train.data, val.data):
        ours, theirs = pairs[0]
        text = (
            f"{len(pairs):,} of {_counted(len(val.data), 'image')} of val {_are(len(pairs))} in train too, by path or by "
            f'content; the first: "{val.data.files[theirs]}" is "{train.data.files[ours]}" of train'
        )
        advice = "take them out of one of the two: the AP would reward what was learnt by heart"
        yield replace(val.images([index for _, index in pairs], "warning", "shared-image", text, advice), split=None)


def _categories(splits: Sequence[Split]) -> Iterator[Finding]:
    if len(splits) < 2:
        return
    train, val = (split.data for split in splits)
    if (train.classes, train.category_ids) != (val.classes, val.category_ids):
        ours = set(zip(train.category_ids, train.classes, strict=True))
        differ = sorted(ours ^ set(zip(val.category_ids, val.classes, strict=True)))
        listed = ", ".join(f"{name} ({i})" for i, name in differ[:FIRST])
        text = f"data.train and data.val have different categories: {listed or 'in another order'}"
        advice = "give both the same categories with the same ids"
        ids = tuple(dict.fromkeys(i for i, _ in differ))
        yield Finding(
            "error", "different-categories", None, max(1, len(ids)), "category", ids[:FIRST], (), text, advice
        )


def _on_disk(split: Split) -> bool:
    return not isinstance(split.data, Shapes)


def _in_files(split: Split, decode: bool, workers: int, progress: Callable[[int], object]) -> Iterator[Finding]:
    if not _on_disk(split):
        return
    data = split.data
    absent = _missing_files(split)
    yield from _missing(split, absent)
    if twice := files.repeated(data):
        text = f'{_counted(len(twice), "image")} {_have(len(twice))} the file of an earlier image, as "{data.files[twice[0]]}"'
        advice = "merge the entries: the objects of each are background in the other"
        yield split.images(twice, "warning", "repeated-image", text, advice)

    gone = set(absent)
    present = [index for index in range(len(data)) if index not in gone]
    faults = files.damaged(data, present, decode, workers, progress)
    few = len(faults) == 1 < len(data) or len(faults) <= MOST_DAMAGED * len(data)
    level: Level = "warning" if few else "error"
    consequence = {
        "train": "training puts the next image in their place",
        "val": "evaluation counts their objects as missed",
    }[split.name]
    odd = [index for index, fault in faults.items() if fault.code == "wrong-size"]
    if unreadable := sorted(faults.keys() - set(odd)):
        text = f"{_part(len(unreadable), len(data), 'image')} cannot be read; the first: {faults[unreadable[0]]}"
        advice = f"replace the files, or take them out of the annotations; {consequence}"
        yield split.images(unreadable, level, "unreadable-image", text, advice)
    if odd:
        text = (
            f"{_part(len(odd), len(data), 'image')} {_have(len(odd))} another size than annotated; the first: "
            f"{faults[odd[0]]}"
        )
        advice = f"correct the sizes, or put the right files there; {consequence}"
        yield split.images(odd, level, "wrong-size", text, advice)


def _missing_files(split: Split) -> list[int]:
    return files.missing(split.data) if _on_disk(split) else []


def _missing(split: Split, absent: Sequence[int]) -> Iterator[Finding]:
    if absent:
        data = split.data
        text = (
            f"{len(absent):,} of {_counted(len(data), 'image file')} of {split.name} {_are(len(absent))} missing; "
            f"the first: {data.folder / data.files[absent[0]]}"
        )
        advice = "restore the files, or take their images out of the annotations"
        yield split.images(absent, "error", "missing-image", text, advice)


def _in_annotations(split: Split) -> Iterator[Finding]:
    yield from _no_objects(split)
    yield from _dropped(split)
    yield from _clipped(split)
    yield from _duplicates(split)
    data = split.data
    if len(crowds := np.flatnonzero(data.crowd)):
        text = f"{_part(len(crowds), len(data.boxes), 'object')} {'is a crowd' if len(crowds) == 1 else 'are crowds'}, or marked as difficult"
        advice = "nothing: training ignores the anchors on them, and evaluation what is found there"
        yield split.objects(crowds, "info", "crowds", text, advice)
    if empty := np.flatnonzero(np.diff(data.starts) == 0).tolist():
        text = f"{_part(len(empty), len(data), 'image')} {_have(len(empty))} no objects"
        advice = "nothing, if they show none: they teach the background; data.skip_empty leaves them out"
        yield split.images(empty, "info", "empty-images", text, advice)


def _no_objects(split: Split) -> Iterator[Finding]:
    data = split.data
    if data.crowd.all():
        crowds = ", only crowds" if len(data.crowd) else ""
        text = f"{split.name} has no objects{crowds} in {_counted(len(data), 'image')}"
        advice = {"train": "there is nothing to learn", "val": "no AP can be measured"}[split.name]
        level: Level = "error" if split.name == "train" else "warning"
        yield split.images(
            range(len(data)), level, "no-objects", text, f"{advice}; see the annotations and data.classes"
        )


DROPPED = {
    "not-finite": "numbers that are not finite",
    "no-area": "no area: width and height must be > 0",
    "outside": "no part inside the image",
}


def _dropped(split: Split) -> Iterator[Finding]:
    for skipped in split.data.skipped:
        n = len(skipped.annotation_ids)
        ids = tuple(skipped.annotation_ids[:FIRST].tolist())
        names = _unique(skipped.files[index] for index in range(min(n, FIRST)))
        text = f"{_counted(n, 'box')} {_have(n)} {DROPPED[skipped.fault]}; dropped"
        advice = "correct the annotations or delete them"
        code = f"{skipped.fault}-box"
        yield Finding("warning", code, split.name, n, "annotation", ids, names, text, advice)


def _clipped(split: Split) -> Iterator[Finding]:
    data = split.data
    x, y, w, h = data.boxes.T
    height, width = np.repeat(data.sizes, np.diff(data.starts), axis=0).T
    beyond = np.max([-x, -y, x + w - width, y + h - height], axis=0)
    if len(rows := np.flatnonzero(beyond > BEYOND)):
        text = (
            f"{_part(len(rows), len(data.boxes), 'box')} {'reaches' if len(rows) == 1 else 'reach'} beyond the image, by "
            f"up to {beyond.max():,.0f} px; clipped"
        )
        advice = "look at some: many such boxes mean another image size, or corners where width and height belong"
        yield split.objects(rows, "warning", "clipped-box", text, advice)


def _duplicates(split: Split) -> Iterator[Finding]:
    data = split.data
    images = np.repeat(np.arange(len(data)), np.diff(data.starts))
    columns = np.column_stack([images, data.labels, data.boxes])  # (M, 6)
    order = np.lexsort(columns.T)
    same = (columns[order[1:]] == columns[order[:-1]]).all(axis=1)
    if len(rows := np.sort(order[1:][same])):  # a stable sort: the first of each stays
        text = (
            f"{_part(len(rows), len(data.boxes), 'box')} {_are(len(rows))} there twice: the same image, class and box"
        )
        advice = "delete the copies: evaluation counts each as an object of its own"
        yield split.objects(rows, "warning", "duplicate-box", text, advice)


def _category_gaps(split: Split) -> Iterator[Finding]:
    ids = sorted(split.data.category_ids)
    count = ids[-1] - ids[0] + 1 - len(ids)
    if count:
        first: list[int] = []
        for low, high in zip(ids, ids[1:], strict=False):
            first.extend(range(low + 1, min(high, low + 1 + FIRST - len(first))))
        text = f"the category ids, {ids[0]} to {ids[-1]}, leave out {count:,}"
        advice = "nothing: labels count without gaps, and results carry the ids of the file"
        yield Finding("info", "category-gaps", split.name, count, "category", tuple(first), (), text, advice)


def _class_counts(data: Dataset) -> np.ndarray:
    """(K,) objects of each class, crowds left out."""
    return np.bincount(data.labels[~data.crowd], minlength=len(data.classes))


def _in_classes(train: Split, val: Dataset) -> Iterator[Finding]:
    counts = _class_counts(train.data)
    if not counts.any():
        return
    total = f"of {_counted(len(counts), 'class')}"
    absent = counts == 0
    if val.classes == train.data.classes:
        untrained = absent & (_class_counts(val) > 0)
        if len(labels := np.flatnonzero(untrained)):
            text = f"{len(labels)} {total} {_have(len(labels))} objects in val but none in train: {train.named(labels)}"
            advice = "their AP will be 0: add examples to train, or leave them out with data.classes"
            yield train.categories(labels, "warning", "untrained-class", text, advice)
            absent &= ~untrained
    if len(labels := np.flatnonzero(absent)):
        text = f"{len(labels)} {total} {_have(len(labels))} no object in train: {train.named(labels)}"
        advice = "add examples, or leave them out with data.classes"
        yield train.categories(labels, "warning", "empty-class", text, advice)
    if len(labels := np.flatnonzero((counts > 0) & (counts < FEW))):
        text = f"{len(labels)} {total} {_have(len(labels))} fewer than {FEW} objects in train: {train.named(labels)}"
        advice = "expect a low AP of them; add examples"
        yield train.categories(labels, "warning", "few-objects", text, advice)
    smallest, largest = np.where(counts > 0, counts, counts.max()).argmin(), counts.argmax()
    if counts[largest] > IMBALANCE * counts[smallest]:
        names = [f"{train.data.classes[label]} ({counts[label]:,})" for label in (largest, smallest)]
        text = f"{names[0]} has {counts[largest] / counts[smallest]:,.0f} times the objects of {names[1]}"
        advice = "read the AP per class: the mean hides what the rare ones have"
        yield train.categories(np.array([largest, smallest]), "info", "imbalance", text, advice)


def _after_resize(
    train: Split, config: DataConfig, anchors: AnchorConfig, short_sides: Sequence[int]
) -> Iterator[Finding]:
    """What is too small or too odd for the anchors at each of `short_sides`."""
    objects = resized_objects(train.data, short_sides, config.long_side, config.resize)
    rows = objects.indices[: len(objects.indices) // len(short_sides)]
    sides = "" if len(short_sides) == 1 else " at any of train.augment.short_sides"

    iou, _ = best_anchors(
        objects.boxes, objects.image_sizes, anchors.sizes, anchors.scales, anchors.ratios, anchors.whole_pixels
    )
    unreached = rows[(iou < anchors.background_iou).reshape(len(short_sides), -1).all(axis=0)]
    if len(unreached) and not anchors.force_best:
        text = (
            f"{_part(len(unreached), len(rows), 'object')} {_have(len(unreached))} no anchor of IoU >= "
            f"{anchors.background_iou:g} after the resize{sides}"
        )
        advice = "they teach nothing; a larger data.short_side, or retina anchors CONFIG --optimize"
        yield train.objects(unreached, "warning", "unreached-object", text, advice)

    x1, y1, x2, y2 = objects.boxes.T
    tiny = rows[((x2 - x1) * (y2 - y1) < TINY**2).reshape(len(short_sides), -1).all(axis=0)]
    if len(tiny):
        text = (
            f"{_part(len(tiny), len(rows), 'object')} {_are(len(tiny))} smaller than {TINY} x {TINY} px after the "
            f"resize{sides}"
        )
        advice = "a cell of the finest level is as large; a larger data.short_side helps"
        yield train.objects(tiny, "warning", "tiny-object", text, advice)


def _unique(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _part(count: int, total: int, what: str) -> str:
    """Such as "3 of 120 objects (2.5 %)"."""
    return f"{count:,} of {_counted(total, what)} ({100 * count / total:.2g} %)"


def _counted(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith(("s", "x")) else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
