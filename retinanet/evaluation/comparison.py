"""Comparison of two detectors on the same images, with confidence intervals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import METRICS, Scores, score
from retinanet.evaluation.resampled_metrics import ResampledMetrics

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """One metric, or the AP of one class, of both detectors.

    first, second: 0..1, or NaN without objects. change: second - first. better: share of resamples where it is > 0.
    interval: 95 % confidence interval of the change, by bootstrap over the images (Efron 1979, percentiles), or NaN.
    """

    name: str
    first: float
    second: float
    change: float
    interval: tuple[float, float]
    better: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Comparison:
    """metrics: the 12 COCO metrics. per_class: AP of each class."""

    images: int
    resamples: int
    metrics: list[Difference]
    per_class: list[Difference]


def compare(
    dataset: Dataset,
    first: np.ndarray,
    second: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Comparison:
    """The change of each metric from the results `first` to `second`, with its confidence interval.

    Both detectors use the same resamples, so that images that are hard for both do not widen the interval. hotcoco's
    own comparison counts repeated images once: its intervals are a quarter too narrow (40 images: 0.075, not 0.099).

    first, second: (D, 7), columns image index, x, y, w, h, score, label. progress: called with (done, all).
    """
    changes = np.full((resamples, len(METRICS) + len(dataset.classes)), np.nan)
    for done, (a, b) in enumerate(resampled(dataset, [first, second], resamples, seed)):
        changes[done] = b - a
        progress(done + 1, resamples)
    a, b = _values(score(dataset, first)).tolist(), _values(score(dataset, second)).tolist()
    differences = [difference(*each) for each in zip([*METRICS, *dataset.classes], a, b, changes.T, strict=True)]
    return Comparison(len(dataset), resamples, differences[: len(METRICS)], differences[len(METRICS) :])


def resampled(
    dataset: Dataset, detectors: Sequence[np.ndarray], resamples: int, seed: int
) -> Iterator[list[np.ndarray]]:
    """For each resample of the images, the metrics of every detector: (12 + K,), as `ResampledMetrics` gives them.

    detectors: the results of each, (D, 7) as in `compare`.
    """
    rng = np.random.default_rng(seed)
    several = [ResampledMetrics(dataset, results) for results in detectors]
    for _ in range(resamples):
        counts = np.bincount(rng.integers(len(dataset), size=len(dataset)), minlength=len(dataset))
        yield [metrics(counts) for metrics in several]


def _values(scores: Scores) -> np.ndarray:
    """(12 + K,) the metrics, then AP of each class; NaN without objects."""
    values = np.array([*scores.metrics.values(), *(each.AP for each in scores.per_class)])
    return np.where(values < 0, np.nan, values)


def difference(name: str, first: float, second: float, changes: np.ndarray) -> Difference:
    """The difference of a metric. changes: (resamples,), that of each resample, or NaN without objects."""
    known = changes[~np.isnan(changes)]
    if not len(known):
        return Difference(name, first, second, second - first, (np.nan, np.nan), np.nan)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Difference(name, first, second, second - first, (low, high), float((known > 0).mean()))
