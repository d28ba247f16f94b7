"""How long a detector takes for one image: stage by stage, and in turns with another.

What runs is `Detector.predict`; the clocks hang at the model's parts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinanet.data.transforms import Resizing, padded, resized_size
from retinanet.detections import Detections
from retinanet.inference.detector import Detector

FILE_STAGES = ("decode", "resize")  # the stages before the model's own STAGES

Progress = Callable[[int, int], object]  # told how many runs are done, and of how many


@dataclass(frozen=True)
class Work:
    """What an image asks of a detector.

    size: (height, width) that it is resized to. padded: with the padding. detections: how many are found.
    anchors, candidates: how many there are, and how many scores exceed the threshold; None where a file hides them.
    """

    size: tuple[int, int]
    padded: tuple[int, int]
    detections: int
    anchors: int | None
    candidates: int | None


@dataclass(frozen=True)
class Speed:
    """Medians of several runs in ms: of each stage, and of a whole run. memory: bytes at the peak."""

    stages: dict[str, float]
    total: float
    memory: int


@dataclass(frozen=True)
class PairedTiming:
    """Two ways to the same in turns: medians of several runs in ms. ratio: the median of each pair's theirs / ours."""

    ours: float
    theirs: float
    ratio: float


def measure(detector: Detector, file: Path, repeats: int, progress: Progress = lambda done, total: None) -> Speed:
    """The time from an image file to its objects, by stage. One run more warms up. Raises: DataError."""
    runs = _repeat(lambda: staged(detector, file)[1], repeats, progress)
    medians = np.median(runs, axis=0).tolist()
    names = (*FILE_STAGES, *detector.model.STAGES)
    total = float(np.median(runs.sum(axis=1)))
    return Speed(dict(zip(names, medians, strict=True)), total, detector.model.peak_memory())


def time_predict(
    detector: Detector, image: np.ndarray, repeats: int, progress: Progress = lambda done, total: None
) -> float:
    """The median time in ms from (H, W, 3) uint8 RGB to its objects. One run more warms up."""
    return float(np.median(_repeat(lambda: [_seconds(detector, detector.predict, image)], repeats, progress)))


def race(
    detector: Detector,
    other: Callable[[np.ndarray], object],
    image: np.ndarray,
    repeats: int,
    progress: Progress = lambda done, total: None,
) -> PairedTiming:
    """Both on the same (H, W, 3) uint8 RGB in turns, since a machine's load changes. A pair more warms up."""
    both = (detector.predict, other)
    runs = _repeat(lambda: [_seconds(detector, find, image) for find in both], repeats, progress)
    ours, theirs = runs.T
    return PairedTiming(float(np.median(ours)), float(np.median(theirs)), float(np.median(theirs / ours)))


def staged(detector: Detector, file: Path) -> tuple[Detections, list[float]]:
    """What `detector.predict(file)` gives, and the seconds of each of FILE_STAGES and of the model's STAGES.

    Padding and the way to the device belong to resize, normalisation to trunk. Raises: DataError.
    """
    marks: list[float] = []

    def mark() -> None:
        marks.append(_now(detector))

    with detector.model.at_stages(mark):
        mark()
        image = detector.read(file)
        mark()
        found = detector.predict(image)
        mark()
    return found, np.diff(marks).tolist()


def work(detector: Detector, image: np.ndarray) -> Work:
    """image: (H, W, 3) uint8 RGB."""
    size = resized_size((image.shape[0], image.shape[1]), Resizing.from_config(detector.data))
    sides = (padded(size[0]), padded(size[1]))
    [found], anchors, candidates = detector.model.detect_and_count(*detector.prepare([image]), detector.settings)
    return Work(size, sides, len(found), anchors, candidates)


def _repeat(run: Callable[[], list[float]], repeats: int, progress: Progress) -> np.ndarray:
    """(repeats, times of a run) in ms, without the first run, which warms up."""
    seconds = []
    for done in range(1 + repeats):
        progress(done, 1 + repeats)
        seconds.append(run())
    return 1000 * np.array(seconds[1:])


def _seconds(detector: Detector, find: Callable[[np.ndarray], object], image: np.ndarray) -> float:
    start = _now(detector)
    find(image)
    return _now(detector) - start


def _now(detector: Detector) -> float:
    """The time in seconds at which the detector's device has done all of its work."""
    detector.model.synchronize()
    return time.perf_counter()
