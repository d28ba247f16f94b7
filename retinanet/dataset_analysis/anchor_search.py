"""Search for anchor sizes, scales and ratios that overlap the objects of a data set better."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retinanet.config.schema import Config
from retinanet.dataset_analysis.anchor_coverage import Objects, anchor_sides, best_anchors, level_ious, nearest_cells
from retinanet.model.anchors import STRIDES, AnchorShapes

SAMPLE = 10_000  # objects that the search looks at; what it finds is measured on all
TRIES = 8_000  # sets of anchors looked at, for up to 9 anchors per cell: 7 s with 5,000 objects on one core
# The paper's anchors are 4 to 6.35 strides wide; at most an octave beyond either end, so that a level keeps to the
# objects that it sees best. Without a bound, P3, whose cells are densest, would take most of them.
NARROWEST, WIDEST = 2.0, 12.7
STEEPEST = 10.0  # height / width, or its inverse
HEATS = 2  # of each start
FIRST_STEP, LAST_STEP = 0.4, 0.02  # standard deviation of a change, in log units
FINALISTS = 20  # of the sample's best sets, tried on all objects


@dataclass(frozen=True)
class Figures:
    """coverage: share of objects whose best anchor has IoU >= foreground_iou, 0 to 1. mean_iou: of the best anchors."""

    coverage: float
    mean_iou: float
    per_cell: int


@dataclass(frozen=True)
class Found:
    """anchors: the start itself where nothing better was found, else with numbers of three digits."""

    anchors: AnchorShapes
    before: Figures
    after: Figures


def search_config(
    config: Config,
    objects: Objects,
    per_cell: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Found:
    """`search_anchors` from the anchors of `config`, on the objects that `data_coverage` gives for it."""
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
) -> Found:
    """Anchors of higher coverage and mean best IoU, by random changes of which the better ones are kept.

    The sum of the two figures is raised. At the same number of anchors per cell neither ends below the start's. The
    start and some sets for each way to split `per_cell` into scales and ratios race for half of the tries; the best of
    them takes the rest. The same arguments give the same anchors.

    Args:
        boxes: (M, 4) xyxy pixels of the resized images, M > 0. image_sizes: (M, 2), their heights and widths.
        per_cell: anchors per cell; None: as many as `start` has.
        tries: sets to look at; fewer for more than 9 anchors per cell, for the same time.
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
        """The sum of both figures; 2 more where both are above the start's, below 0 where either falls short of it."""
        nonlocal done
        done += 1
        progress(min(done, tries), tries)
        share, mean = sampled(anchors)
        shortfall = max(0.0, lowest[0] - share) + max(0.0, lowest[1] - mean)
        return -shortfall if shortfall else share + mean + 2 * (share > lowest[0] and mean > lowest[1])

    tries = tries * 9 // max(9, per_cell)
    starts = [start] if per_cell == start.per_cell else []
    allowed = _bounds(start)
    splits = _splits(boxes[chosen], start, per_cell)
    starts += list(filter(allowed, splits)) or splits
    sprint = tries // 2 // (HEATS * len(starts))
    trail = [step for first in starts * HEATS for step in _climb(first, score, allowed, sprint, rng)]
    _, winner = max(trail, key=_by_score)
    trail += _climb(winner, score, allowed, tries // 2, rng)
    for _, anchors in sorted(trail, key=_by_score, reverse=True)[:FINALISTS]:
        after = figures(boxes, image_sizes, anchors, foreground_iou)
        if per_cell != start.per_cell or (after.coverage >= before.coverage and after.mean_iou >= before.mean_iou):
            return Found(anchors, before, after)
    return Found(start, before, before)


def figures(boxes: np.ndarray, image_sizes: np.ndarray, anchors: AnchorShapes, foreground_iou: float) -> Figures:
    """What `anchors` reach on all of `boxes` (M, 4), M > 0, in images of `image_sizes` (M, 2), height and width."""
    iou, _ = best_anchors(boxes, image_sizes, anchors)
    return Figures(float((iou >= foreground_iou).mean()), float(iou.mean()), anchors.per_cell)


def _climb(
    first: AnchorShapes,
    score: Callable[[AnchorShapes], float],
    allowed: Callable[[AnchorShapes], bool],
    tries: int,
    rng: np.random.Generator,
) -> list[tuple[float, AnchorShapes]]:
    """`first` and every better set that smaller and smaller random changes led to, each with its score."""
    steps = [(score(first), first)]
    for spread in np.geomspace(FIRST_STEP, LAST_STEP, tries):
        best, anchors = steps[-1]
        changed = _change(anchors, spread, rng)
        if allowed(changed) and (value := score(changed)) > best:
            steps.append((value, changed))
    return steps


def _change(anchors: AnchorShapes, spread: float, rng: np.random.Generator) -> AnchorShapes:
    """One to three of the numbers times exp(N(0, spread)); all are rounded to three digits."""
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


def _splits(boxes: np.ndarray, start: AnchorShapes, per_cell: int) -> list[AnchorShapes]:
    """For each product scales * ratios = per_cell: scales that part one or two octaves, ratios as the objects have them."""
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
    """Whether a set keeps within the bounds above, or within the start's own where those are wider."""

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
