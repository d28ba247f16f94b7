"""A random search for anchor sizes, scales and ratios that overlap the objects of a data set better."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retinanet.config.schema import Config
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


def search_config(
    config: Config,
    objects: Objects,
    per_cell: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> SearchResult:
    """`search_anchors` from the anchors of `config`, for the objects that `data_coverage` returns."""
    start, foreground_iou = AnchorShapes.from_config(config.anchors), config.anchors.foreground_iou
    return search_anchors(objects.boxes, objects.image_sizes, start, per_cell, foreground_iou, seed, progress=progress)


def search_anchors(
    boxes: np.ndarray,
    image_sizes: np.ndarray,
    start: AnchorShapes,
    per_cell: int | None = None,
    foreground_iou: float = 0.5,
    seed: int = 0,
    tries: int = TRIES,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> SearchResult:
    """Random hill climbing that maximises the sum of coverage and mean best IoU.

    With as many anchors per cell as `start`, neither value decreases. Half of the tries climb from `start` and from
    each split of `per_cell` into scales and ratios, the other half from the best result. The search is deterministic.

    Args:
        boxes: (M, 4) xyxy pixels of the resized images, M > 0. image_sizes: (M, 2), their heights and widths.
        per_cell: anchors per cell; None: as many as `start` has.
        tries: number of candidates; fewer for more than 9 anchors per cell, so that the time stays the same.
        progress: receives the numbers of candidates so far and in all.
    """
    per_cell = per_cell or start.per_cell
    before = figures(boxes, image_sizes, start, foreground_iou)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(boxes))[:SAMPLE]
    distances = nearest_cells(boxes[chosen], image_sizes[chosen], start.whole_pixels).astype(np.float32)
    done = 0

    def sampled(anchors: AnchorShapes) -> tuple[float, float]:
        iou = level_ious(distances, anchor_sides(anchors).astype(np.float32)).max(axis=0)
        return float((iou >= foreground_iou).mean()), float(iou.mean(dtype=np.float64))

    lowest = sampled(start) if per_cell == start.per_cell else (0.0, 0.0)

    def score(anchors: AnchorShapes) -> float:
        """Coverage plus mean IoU; plus 2 if both exceed those of `start`, below 0 if either is lower."""
        nonlocal done
        done += 1
        progress(min(done, tries), tries)
        share, mean = sampled(anchors)
        shortfall = max(0.0, lowest[0] - share) + max(0.0, lowest[1] - mean)
        return -shortfall if shortfall else share + mean + 2 * (share > lowest[0] and mean > lowest[1])

    tries = tries * 9 // max(9, per_cell)
    starts = [start] if per_cell == start.per_cell else []
    allowed = _bounds(start)
    others = _other_starts(boxes[chosen], start, per_cell)
    starts += list(filter(allowed, others)) or others
    tries_per_climb = tries // 2 // (CLIMBS_PER_START * len(starts))
    trail = [
        step for first in starts * CLIMBS_PER_START for step in _climb(first, score, allowed, tries_per_climb, rng)
    ]
    _, winner = max(trail, key=_by_score)
    trail += _climb(winner, score, allowed, tries // 2, rng)
    for _, anchors in sorted(trail, key=_by_score, reverse=True)[:FINALISTS]:
        after = figures(boxes, image_sizes, anchors, foreground_iou)
        if per_cell != start.per_cell or (after.coverage >= before.coverage and after.mean_iou >= before.mean_iou):
            return SearchResult(anchors, before, after)
    return SearchResult(start, before, before)


def figures(boxes: np.ndarray, image_sizes: np.ndarray, anchors: AnchorShapes, foreground_iou: float) -> Figures:
    """Coverage and mean IoU of `boxes` (M, 4), M > 0, in images of `image_sizes` (M, 2), height and width."""
    iou, _ = best_anchors(boxes, image_sizes, anchors)
    return Figures(float((iou >= foreground_iou).mean()), float(iou.mean()), anchors.per_cell)


def _climb(
    first: AnchorShapes,
    score: Callable[[AnchorShapes], float],
    allowed: Callable[[AnchorShapes], bool],
    tries: int,
    rng: np.random.Generator,
) -> list[tuple[float, AnchorShapes]]:
    """`first` and its successive improvements by ever smaller random changes, with their scores."""
    steps = [(score(first), first)]
    for spread in np.geomspace(FIRST_STEP, LAST_STEP, tries):
        best, anchors = steps[-1]
        changed = _change(anchors, spread, rng)
        if allowed(changed) and (value := score(changed)) > best:
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


def _bounds(start: AnchorShapes) -> Callable[[AnchorShapes], bool]:
    """A function that says whether anchors are within the bounds above, widened to include `start`."""

    def extent(anchors: AnchorShapes) -> tuple[float, float, float]:
        relative = np.divide(anchors.sizes, STRIDES)
        narrowest, widest = relative.min() * min(anchors.scales), relative.max() * max(anchors.scales)
        return narrowest, widest, max(max(anchors.ratios), 1 / min(anchors.ratios))

    narrowest, widest, steepest = extent(start)
    low, high, steep = min(NARROWEST, narrowest), max(WIDEST, widest), max(STEEPEST, steepest)

    def allowed(anchors: AnchorShapes) -> bool:
        narrowest, widest, steepest = extent(anchors)
        ascending = all(a < b for a, b in zip(anchors.sizes, anchors.sizes[1:], strict=False))
        return narrowest >= low and widest <= high and steepest <= steep and ascending

    return allowed


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in values)


def _by_score(step: tuple[float, AnchorShapes]) -> float:
    return step[0]
