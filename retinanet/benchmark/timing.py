"""How long a detector takes for one image: stage by stage, alone, and in turns with another.

The code that is timed is `Detector.predict`; its model reports where its stages begin.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from retinanet.data.transforms import Resizing, padded, resized_size
from retinanet.detections import Detections
from retinanet.inference.detector import Detector

T = TypeVar("T")
FILE_STAGES = ("decode", "resize")  # the stages before those of the model

Progress = Callable[[int, int], object]  # called with the number of finished runs and the number of all runs


@dataclass(frozen=True)
class Workload:
    """The work of a detector for one image.

    size: (height, width) of the resized image. padded: the same with the padding. detections: their number.
    anchors, candidates: the number of anchors, and of scores above the threshold; None for an exported model.
    """

    size: tuple[int, int]
    padded: tuple[int, int]
    detections: int
    anchors: int | None
    candidates: int | None


@dataclass(frozen=True)
class Speed:
    """Medians of several runs in ms, of each stage and of a whole run. memory: bytes at the peak."""

    stages: dict[str, float]
    total: float
    memory: int


@dataclass(frozen=True)
class PairedTiming:
    """Medians in ms of two detectors that run in turns. ratio: the median over all pairs of theirs / ours."""

    ours: float
    theirs: float
    ratio: float


def workload(detector: Detector, image: np.ndarray) -> Workload:
    """The work of `detector` for `image`, (H, W, 3) uint8 RGB."""
    size = resized_size((image.shape[0], image.shape[1]), Resizing.from_config(detector.data))
    [found], anchors, candidates = detector.model.detect_and_count(*detector.prepare([image]), detector.settings)
    return Workload(size, (padded(size[0]), padded(size[1])), len(found), anchors, candidates)


def time_stages(detector: Detector, file: Path, repeats: int, progress: Progress) -> Speed:
    """Time the stages from an image file to its detections, after one run to warm up. Raises: DataError."""
    runs = _repeat(lambda: predict_in_stages(detector, file)[1], repeats, progress)
    names = (*FILE_STAGES, *detector.model.STAGES)
    stages = dict(zip(names, np.median(runs, axis=0).tolist(), strict=True))
    return Speed(stages, float(np.median(runs.sum(axis=1))), detector.model.peak_memory())


def time_predict(detector: Detector, image: np.ndarray, repeats: int, progress: Progress) -> float:
    """The median time in ms from an image, (H, W, 3) uint8 RGB, to its detections, after one run to warm up."""
    return float(np.median(_repeat(lambda: [_seconds(detector, detector.predict, image)], repeats, progress)))


def time_pairs(
    detector: Detector, other: Callable[[np.ndarray], object], image: np.ndarray, repeats: int, progress: Progress
) -> PairedTiming:
    """Time both on the same image in turns, since the load of a machine changes, after one pair to warm up.

    other: runs on the same device. image: (H, W, 3) uint8 RGB.
    """
    both = (detector.predict, other)
    runs = _repeat(lambda: [_seconds(detector, predict, image) for predict in both], repeats, progress)
    ours, theirs = runs.T
    return PairedTiming(float(np.median(ours)), float(np.median(theirs)), float(np.median(theirs / ours)))


def time_in_turns(calls: Sequence[Callable[[T], object]], inputs: Sequence[T]) -> list[float]:
    """The median time in ms of each of `calls`, of which each input is given to all in turns, the first twice.

    The calls return when their device has done all of its work. The first input warms up.
    """
    seconds: list[list[float]] = []
    for each in [*inputs[:1], *inputs]:
        seconds.append([])
        for call in calls:
            start = time.perf_counter()
            call(each)
            seconds[-1].append(time.perf_counter() - start)
    return (1000 * np.median(seconds[1:], axis=0)).tolist()


def predict_in_stages(detector: Detector, file: Path) -> tuple[Detections, list[float]]:
    """The result of `detector.predict(file)`, and the seconds of each of FILE_STAGES and the model's STAGES.

    Padding and the copy to the device belong to "resize", normalisation to "trunk". Raises: DataError.
    """
    marks: list[float] = []

    def mark() -> None:
        marks.append(_now(detector))

    with detector.model.at_stages(mark):
        mark()
        image = detector.read(file)
        mark()
        detections = detector.predict(image)
        mark()
    return detections, np.diff(marks).tolist()


def _repeat(run: Callable[[], list[float]], repeats: int, progress: Progress) -> np.ndarray:
    """(repeats, times of a run) in ms, without the first run, which warms up."""
    seconds = []
    for done in range(1 + repeats):
        progress(done, 1 + repeats)
        seconds.append(run())
    return 1000 * np.array(seconds[1:])


def _seconds(detector: Detector, predict: Callable[[np.ndarray], object], image: np.ndarray) -> float:
    start = _now(detector)
    predict(image)
    return _now(detector) - start


def _now(detector: Detector) -> float:
    """The time in seconds at which the detector's device has done all of its work."""
    detector.model.synchronize()
    return time.perf_counter()
