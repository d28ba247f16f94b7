"""Shows the second part of table 2: accuracy by size of object, speed and cost of detectors, and which is the best."""

from collections.abc import Sequence
from typing import Any

from retinacli.console import DASH, headed, print_table
from retinacli.render.candidates import candidates_document, print_candidates
from retinacli.render.compare import difference_cells, difference_document
from retinacli.render.detector_facts import millions
from retinacli.render.train import duration
from retinanet.paper.detector_comparison import PICTURES, ComparedDetector, DetectorComparison
from retinanet.paper.tables import SIZES


def comparison_document(comparison: DetectorComparison) -> dict[str, Any]:
    """The comparison for JSON."""
    return {
        "detectors": [
            {key: value for key, value in vars(each).items() if key != "points"} for each in comparison.detectors
        ],
        "leader": comparison.leader,
        "best": comparison.best,
        "changes_of_AP": [
            {"value": each.value, "seed": each.seed} | difference_document(each.difference)
            for each in comparison.changes
        ],
        "imbalance": comparison.candidates and candidates_document(comparison.candidates),
    }


def print_comparison(comparison: DetectorComparison) -> None:
    columns = ("value", *SIZES, *(f"paper's\n{name}" for name in SIZES), "ms per\nimage", "weights", "training")
    print_table("Table 2: by size of object, and cost", columns, map(_cells, comparison.detectors))
    print(
        f"ms per image: from the resized image to its detections, median of the first {PICTURES} images or fewer, each "
        "alone, which all rows detect in turns"
    )
    if comparison.candidates is not None:
        print_candidates(comparison.candidates)
    leader = comparison.leader
    if not comparison.changes:
        return
    columns = ("value", "seed", leader or DASH, "value's", "change", "95 % interval", "value better", "verdict")
    rows = [(each.value, str(each.seed), *difference_cells(each.difference)) for each in comparison.changes]
    print_table(f"AP compared with {leader}, the row with the highest mean", columns, rows)
    if comparison.best is not None:
        print(f"best here: {leader}; the intervals of all changes exclude 0")
    else:
        open_ = [f"{each.value} (seed {each.seed})" for each in comparison.changes if not each.difference.certain]
        reason = f"the interval includes 0 for {', '.join(open_)}" if open_ else "the seeds disagree"
        print(f"best here: none; {reason}")


def print_scales(detectors: Sequence[ComparedDetector]) -> None:
    """Show the numbers of figure 2."""
    groups = (
        headed(
            [each.value],
            [(point.scale, *map(_percent, (point.AP, point.AP50)), _ms(point.ms)) for point in each.points],
        )
        for each in detectors
    )
    print_table("Figure 2: by short side of the images", ("value", "scale", "AP", "AP50", "ms per\nimage"), *groups)


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _ms(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def _cells(each: ComparedDetector) -> tuple[str, ...]:
    return (
        each.value,
        *(_percent(each.metrics[name]) for name in SIZES),
        *(DASH if value is None else f"{value:.1f}" for value in each.paper.values()),
        _ms(each.ms_per_image),
        millions(each.weights),
        DASH if each.training_seconds is None else duration(each.training_seconds),
    )
