"""A random search for anchor sizes, scales and ratios that overlap the objects of a data set better."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from operator import itemgetter

import numpy as np

from retinanet.config.schema import AnchorConfig
from retinanet.dataset_analysis.anchor_coverage import Objects, anchor_sides, best_anchors, level_ious, nearest_cells
from retinanet.model.anchors import STRIDES, AnchorShapes

SAMPLE = 10_000  # objects on which candidates are scored; the best candidates are scored on all objects
TRIES = 8_000  # candidates for up to 9 anchors per cell: 7 s with 5,000 objects on one core
# the paper's 4 to 6.35 strides, plus an octave at both ends; without bounds most anchors would move to P3, which is
# densest, even for objects that other levels detect better
NARROWEST, WIDEST = 2.0, 12.7  # strides
STEEPEST = 10.0  # height / width, or its inverse
CLIMBS_PER_START = 2
FIRST_STEP, LAST_STEP = 0.4, 0.02  # standard deviation of a change, in log units
FINALISTS = 20  # number of the sample's best candidates that are measured on all objects


@dataclass(frozen=True)
class Figures:
    """How well anchors overlap objects, by the IoU of each object with its best anchor.

    coverage: share of the objects whose IoU is at least foreground_iou, 0 to 1. per_cell: number of anchors per cell.
    """

    coverage: float
    mean_iou: float
    per_cell: int


@dataclass(frozen=True)
class SearchResult:
    """The best anchors of a search, rounded to three digits, or its start if none are better."""

    anchors: AnchorShapes
    before: Figures
    after: Figures


def search_anchors(
    objects: Objects,
    config: AnchorConfig,
    per_cell: int | None = None,
    seed: int = 0,
    tries: int = TRIES,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> SearchResult:
    """Random hill climbing that maximises the sum of coverage and mean best IoU.

    With as many anchors per cell as in `config`, neither value decreases. Half of the tries climb from the anchors of
    `config` and from each split of `per_cell` into scales and ratios, the other half from the best result. The search
    is deterministic.

    Args:
        objects: at least one. config: the anchors to start from, and foreground_iou.
        per_cell: anchors per cell; None: as many as in `config`.
        tries: number of candidates; fewer for more than 9 anchors per cell, so that the time stays the same.
        progress: receives the numbers of candidates so far and in all.
    """
    start = AnchorShapes.from_config(config)
    per_cell = per_cell or start.per_cell
    same_number = per_cell == start.per_cell
    before = figures(objects, start, config.foreground_iou)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(objects.boxes))[:SAMPLE]
    boxes, image_sizes = objects.boxes[chosen], objects.image_sizes[chosen]
    distances = nearest_cells(boxes, image_sizes, start.whole_pixels).astype(np.float32)
    tries = tries * 9 // max(9, per_cell)
    numbers = count(1)

    def sampled(anchors: AnchorShapes) -> tuple[float, float]:
        iou = level_ious(distances, anchor_sides(anchors).astype(np.float32)).max(axis=0)
        return float((iou >= config.foreground_iou).mean()), float(iou.mean(dtype=np.float64))

    lowest = sampled(start) if same_number else (0.0, 0.0)

    def score(anchors: AnchorShapes) -> float:
        """Coverage plus mean IoU; plus 2 if both exceed those of `start`, below 0 if either is lower."""
        progress(min(next(numbers), tries), tries)
        share, mean = sampled(anchors)
        shortfall = max(0.0, lowest[0] - share) + max(0.0, lowest[1] - mean)
        return -shortfall if shortfall else share + mean + 2 * (share > lowest[0] and mean > lowest[1])

    limits = np.maximum(_extent(start), (-NARROWEST, WIDEST, STEEPEST))
    others = _other_starts(boxes, start, per_cell)
    starts = [start] * same_number + ([each for each in others if _allowed(each, limits)] or others)
    tries_per_climb = tries // 2 // (CLIMBS_PER_START * len(starts))
    trail = [step for first in starts * CLIMBS_PER_START for step in _climb(first, score, limits, tries_per_climb, rng)]
    _, winner = max(trail, key=itemgetter(0))
    trail += _climb(winner, score, limits, tries // 2, rng)
    for _, anchors in sorted(trail, key=itemgetter(0), reverse=True)[:FINALISTS]:
        after = figures(objects, anchors, config.foreground_iou)
        if not same_number or (after.coverage >= before.coverage and after.mean_iou >= before.mean_iou):
            return SearchResult(anchors, before, after)
    return SearchResult(start, before, before)


def figures(objects: Objects, anchors: AnchorShapes, foreground_iou: float) -> Figures:
    """How well `anchors` overlap `objects`, of which there is at least one."""
    iou, _ = best_anchors(objects.boxes, objects.image_sizes, anchors)
    return Figures(float((iou >= foreground_iou).mean()), float(iou.mean()), anchors.per_cell)


def _climb(
    first: AnchorShapes,
    score: Callable[[AnchorShapes], float],
    limits: np.ndarray,
    tries: int,
    rng: np.random.Generator,
) -> list[tuple[float, AnchorShapes]]:
    """`first` and its successive improvements by ever smaller random changes, with their scores."""
    steps = [(score(first), first)]
    for spread in np.geomspace(FIRST_STEP, LAST_STEP, tries):
        best, anchors = steps[-1]
        changed = _change(anchors, spread, rng)
        if _allowed(changed, limits) and (value := score(changed)) > best:
            steps.append((value, changed))
    return steps


def _change(anchors: AnchorShapes, spread: float, rng: np.random.Generator) -> AnchorShapes:
    """Multiply one to three of the numbers by exp(N(0, spread)) and round all to three digits."""
    values = np.array([*anchors.sizes, *anchors.scales, *anchors.ratios], np.float64)
    which = rng.choice(len(values), size=rng.integers(1, 4), replace=False)
    values[which] *= np.exp(rng.normal(0, spread, len(which)))
    rounded = _rounded(values)
    levels, scales = len(anchors.sizes), len(anchors.scales)
    return replace(
        anchors,
        sizes=rounded[:levels],
        scales=tuple(sorted(rounded[levels : levels + scales])),
        ratios=tuple(sorted(rounded[levels + scales :])),
    )


def _other_starts(boxes: np.ndarray, start: AnchorShapes, per_cell: int) -> list[AnchorShapes]:
    """For each product scales * ratios = per_cell: scales that divide one or two octaves, ratios from the objects."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    steep = np.clip(height / np.maximum(width, 1e-6), 1 / STEEPEST, STEEPEST)
    sets = []
    for scales in range(1, per_cell + 1):
        ratios, left = divmod(per_cell, scales)
        if left == 0:
            middle = np.quantile(steep, (np.arange(ratios) + 0.5) / ratios)
            for octaves in (1, 2) if scales > 1 else (1,):
                parts = 2 ** (octaves * np.arange(scales) / scales)
                sets.append(replace(start, scales=_rounded(parts), ratios=_rounded(middle)))
    return sets


def _allowed(anchors: AnchorShapes, limits: np.ndarray) -> bool:
    ascending = all(a < b for a, b in zip(anchors.sizes, anchors.sizes[1:], strict=False))
    return ascending and bool((_extent(anchors) <= limits).all())


def _extent(anchors: AnchorShapes) -> np.ndarray:
    """(3,): the smallest side, negative, and the largest side, both in strides; the most extreme height / width."""
    relative = np.divide(anchors.sizes, STRIDES)
    steepest = max(max(anchors.ratios), 1 / min(anchors.ratios))
    return np.array([-relative.min() * min(anchors.scales), relative.max() * max(anchors.scales), steepest])


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in values)
