"""Which class a detection of another program is of, by name or number, and whether the numbers mean what they seem."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.data.formats.coco import whole_number
from retinanet.errors import DataError
from retinanet.evaluation.coco_metrics import matched_ignoring_classes

UNKNOWN = -1  # in place of a label
MEANINGS = (None, 0, 1)  # of a number: an id of the data, or the place of a class in the data, counted from 0 or 1
ENOUGH = 10  # detections on objects that tell what the numbers mean


def class_labels(
    categories: Sequence[Any], classes_from: int | None, rows: np.ndarray, dataset: Dataset, file: Path
) -> np.ndarray:
    """(D,) int64 label of each detection, or UNKNOWN.

    categories: D names of classes, or numbers, which may be text; text that is a class's name is a name.
    rows: (D, 7) the detections; their labels are not used. file: for messages.
    Raises: DataError if the numbers evidently mean something else than `classes_from` says.
    """
    counts = Counter(dataset.classes)
    of_name = {name: label for label, name in enumerate(dataset.classes) if counts[name] == 1}
    labels = np.array([of_name.get(each, UNKNOWN) if isinstance(each, str) else UNKNOWN for each in categories], int)
    unnamed = np.flatnonzero(labels == UNKNOWN)
    numbers = {place: whole_number(categories[place]) for place in unnamed.tolist()}
    places = np.array([place for place, number in numbers.items() if number is not None], int)
    known = [number for number in numbers.values() if number is not None]
    if not known:
        return labels
    meant = {each: _labels_of(known, each, dataset) for each in MEANINGS}
    _check_meaning(known, meant, classes_from, rows[places], dataset, file)
    labels[places] = meant[classes_from]
    return labels


def _labels_of(numbers: Sequence[int], classes_from: int | None, dataset: Dataset) -> np.ndarray:
    """(n,) the label that each number means, or UNKNOWN."""
    classes = len(dataset.classes)
    ids = dataset.category_ids if classes_from is None else range(classes_from, classes_from + classes)
    label_of = {number: label for label, number in enumerate(ids)}
    return np.array([label_of.get(number, UNKNOWN) for number in numbers])


def _check_meaning(
    numbers: Sequence[int],
    meant: dict[int | None, np.ndarray],
    chosen: int | None,
    rows: np.ndarray,
    dataset: Dataset,
    file: Path,
) -> None:
    """Raise a DataError if another meaning of category ids fits the data better.

    That is so where it alone knows all numbers, unless the chosen one gives as many detections that overlap an object
    its class; or where most of these have the class by the other meaning, and less than half as many by the chosen one.
    """
    others = [each for each in meant if each != chosen and np.any(meant[each] != meant[chosen])]
    if not others:
        return
    matched = matched_ignoring_classes(dataset, rows)
    on_objects = matched >= 0
    actual, total = dataset.labels[matched[on_objects]], int(on_objects.sum())
    right = {each: int((labels[on_objects] == actual).sum()) for each, labels in meant.items()}
    complete = {each: bool((labels != UNKNOWN).all()) for each, labels in meant.items()}
    other = max(others, key=lambda each: (right[each], complete[each]))
    fits_alone = complete[other] and not complete[chosen] and (right[other] > right[chosen] or not right[chosen])
    fits_better = total >= ENOUGH and right[other] > max(total / 2, 2 * right[chosen])
    if not (fits_alone or fits_better):
        return
    ids = f"{min(dataset.category_ids)} to {max(dataset.category_ids)}"
    seem = f"the numbers of classes, counted from {other}" if other is not None else f"the data's own, {ids}"
    stated = f"the data's own, {ids}" if chosen is None else f"numbers counted from {chosen}"
    remedy = "leave out --classes-from" if other is None else f"add --classes-from {other}"
    raise DataError(
        f"{file}: its category ids, {min(numbers)} to {max(numbers)}, seem to be {seem}, not {stated}; {remedy}; of "
        f"{total:,} detections that overlap an object, {right[other]:,} then have its class, not {right[chosen]:,}"
    )
