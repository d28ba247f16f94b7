"""A finding of a data check: what it is, where, how often, and what to do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retinanet.data.dataset import Dataset

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")
FIRST = 5  # number of ids that a finding lists
PLURALS = {
    "is": "are",
    "has": "have",
    "reaches": "reach",
    "is a crowd": "are crowds",
    "has several frames": "have several frames each",
}


@dataclass(frozen=True)
class Finding:
    """One kind of fault in a data set, or a fact worth knowing.

    code: its name. split: "train" or "val"; None: both. count: the number of images, annotations, categories or files
    that have it; `of` is which of these. ids: their first ids. files: of the images of `ids`. advice: what to do.
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
class Split:
    """A data set and its name in the config."""

    name: str
    data: Dataset

    def objects(self, rows: np.ndarray, level: Level, code: str, text: str, advice: str) -> Finding:
        """A finding about the objects `rows`, indices into the data set's columns."""
        first = rows[:FIRST]
        images = np.searchsorted(self.data.first_object, first, side="right") - 1
        ids = tuple(self.data.annotation_ids[first].tolist())
        names = tuple(dict.fromkeys(self.data.files[index] for index in images.tolist()))
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


def part(count: int, total: int, what: str, verb: str) -> str:
    """A text such as "1 of 50 boxes (2 %) has" or "3 of 50 boxes (6 %) have". verb: in the singular."""
    return f"{count:,} of {counted(total, what)} ({percentage(count, total)} %) {agreeing(verb, count)}"


def percentage(count: int, total: int) -> str:
    """100 * count / total, with two digits of what it differs by from 0 or 100, such as "0.012", "33" or "99.9"."""
    distance = 100 * min(count, total - count) / total or 100
    return f"{100 * count / total:.{max(0, 1 - math.floor(math.log10(distance)))}f}".removesuffix(".0")


def counted(count: int, what: str) -> str:
    """A text such as "1 box" or "2 boxes"."""
    plural = f"{what}es" if what.endswith(("s", "x")) else f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def agreeing(verb: str, count: int) -> str:
    """The verb in the singular, or in the plural for a count other than 1."""
    return verb if count == 1 else PLURALS.get(verb, verb)
