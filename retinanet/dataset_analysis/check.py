"""What in a data set would spoil a run, or should be known before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from retinanet.config.schema import Config, DataConfig
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.shapes import Shapes
from retinanet.data.transforms import training_resizings
from retinanet.dataset_analysis import image_files as files
from retinanet.dataset_analysis.annotations import (
    after_resize,
    category_gaps,
    class_counts,
    in_annotations,
    in_classes,
    no_objects,
)
from retinanet.dataset_analysis.findings import FIRST, LEVELS, Finding, Level, Split, are, counted, have, part
from retinanet.errors import DataError

MOST_DAMAGED = 0.03  # part of the images that training may replace by others


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
    findings += [finding for split in splits[:1] for finding in category_gaps(split)]
    total, before = sum(len(split.data) for split in splits), 0
    for split in splits:

        def count(done: int, before: int = before) -> None:
            progress(before + done, total)

        findings += _in_files(split, not fast, config.data.workers, count)
        findings += in_annotations(split)
        before += len(split.data)
    if splits and splits[0].name == "train":
        train = splits[0]
        findings += in_classes(train, splits[-1].data)
        if not train.data.crowd.all():
            findings += after_resize(train, training_resizings(config.data, config.train.augment), config.anchors)
    return Report(summaries, sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def errors_without_images(train: Dataset, val: Dataset | None) -> list[Finding]:
    """What of the errors that `check` finds can be told without opening an image: 0.8 s for COCO's 118,000."""
    splits = [Split("train", train)] + ([Split("val", val)] if val is not None else [])
    findings = list(_categories(splits))
    for split in splits:
        findings += [*_missing(split, _missing_files(split)), *no_objects(split)]
    return [finding for finding in findings if finding.level == "error"]


def _opened(data: DataConfig) -> tuple[list[Split], list[Finding]]:
    """The splits that can be read, and why others cannot."""
    splits: list[Split] = []
    findings: list[Finding] = []
    for name in ("train", "val"):
        if name == "val" and not data.has_val:
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
    counts = class_counts(data)
    return Summary(
        images=len(data),
        objects=len(data.boxes),
        crowds=int(data.crowd.sum()),
        empty_images=int((np.diff(data.first_object) == 0).sum()),
        dropped_boxes=sum(len(skipped.annotation_ids) for skipped in data.skipped),
        classes=dict(zip(data.classes, counts.tolist(), strict=True)),
    )


def _same_annotations(train: Dataset, val: Dataset) -> bool:
    return (
        (train.folder, train.classes) == (val.folder, val.classes)
        and np.array_equal(train.files.bytes, val.files.bytes)
        and all(
            np.array_equal(getattr(train, column), getattr(val, column))
            for column in ("image_ids", "first_object", "annotation_ids", "labels", "boxes")
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
            f"{len(pairs):,} of {counted(len(val.data), 'image')} of val {are(len(pairs))} in train too, by path or by "
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
        text = f'{counted(len(twice), "image")} {have(len(twice))} the file of an earlier image, as "{data.files[twice[0]]}"'
        advice = "merge the entries: the objects of each are background in the other"
        yield split.images(twice, "warning", "repeated-image", text, advice)

    gone = set(absent)
    present = [index for index in range(len(data)) if index not in gone]
    seen = files.look(data, present, decode, workers, progress)
    faults = seen.faults
    few = len(faults) == 1 < len(data) or len(faults) <= MOST_DAMAGED * len(data)
    level: Level = "warning" if few else "error"
    consequence = {
        "train": "training puts the next image in their place",
        "val": "evaluation counts their objects as missed",
    }[split.name]
    odd = [index for index, fault in faults.items() if fault.code == "wrong-size"]
    if unreadable := sorted(faults.keys() - set(odd)):
        text = f"{part(len(unreadable), len(data), 'image')} cannot be read; the first: {faults[unreadable[0]]}"
        advice = f"replace the files, or take them out of the annotations; {consequence}"
        yield split.images(unreadable, level, "unreadable-image", text, advice)
    if odd:
        text = (
            f"{part(len(odd), len(data), 'image')} {have(len(odd))} another size than annotated; the first: "
            f"{faults[odd[0]]}"
        )
        advice = f"correct the sizes, or put the right files there; {consequence}"
        yield split.images(odd, level, "wrong-size", text, advice)
    if renamed := sorted(seen.renamed):
        first = f'"{data.files[renamed[0]]}" is {seen.renamed[renamed[0]]}'
        text = f"{part(len(renamed), len(data), 'image')} {are(len(renamed))} of another format than the name says: {first}"
        advice = "rename them: they are read here, but other programs may go by the name"
        yield split.images(renamed, "warning", "wrong-suffix", text, advice)
    if seen.frames:
        several = "has several frames" if len(seen.frames) == 1 else "have several frames each"
        text = f'{part(len(seen.frames), len(data), "image")} {several}; the first: "{data.files[seen.frames[0]]}"'
        advice = "split them if the others matter: the first frame of each is used"
        yield split.images(seen.frames, "warning", "several-frames", text, advice)


def _missing_files(split: Split) -> list[int]:
    return files.missing(split.data) if _on_disk(split) else []


def _missing(split: Split, absent: Sequence[int]) -> Iterator[Finding]:
    if absent:
        data = split.data
        text = (
            f"{len(absent):,} of {counted(len(data), 'image file')} of {split.name} {are(len(absent))} missing; "
            f"the first: {data.folder / data.files[absent[0]]}"
        )
        advice = "restore the files, or take their images out of the annotations"
        yield split.images(absent, "error", "missing-image", text, advice)
