"""Shows the second part of table 2: accuracy by size of object, speed and cost of detectors, and which is the best."""

from collections.abc import Sequence
from typing import Any

from retinacli.console import DASH, headed, print_table
from retinacli.render.candidates import candidates_document, print_candidates
from retinacli.render.compare import difference_cells, difference_document
from retinacli.render.detector_facts import millions, resolution_document
from retinacli.render.train import duration
from retinanet.evaluation.detector_facts import DetectorFacts
from retinanet.paper.detector_comparison import PICTURES, ComparedDetector, DetectorComparison
from retinanet.paper.speed_accuracy import SECTION_5_2, THEIR_TIMES
from retinanet.paper.tables import SIZES


def comparison_document(comparison: DetectorComparison, facts: DetectorFacts) -> dict[str, Any]:
    """The comparison for JSON. facts: what the detectors that are trained here have in common."""
    detectors = []
    for each in comparison.detectors:
        known = {key: value for key, value in vars(each).items() if key != "points"}
        detectors.append(known | {"resolution": None if each.results_file else resolution_document(facts)})
    return {
        "detectors": detectors,
        "leader": comparison.leader,
        "best": comparison.best,
        "data": comparison.data,
        "backbone": comparison.backbone,
        "machine": comparison.machine,
        "section_5_2_ms": SECTION_5_2,
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
    if any(each.results_file and each.ms_per_image for each in comparison.detectors):
        print("stated: as given with --results, not measured here")
    times = {each.value: each.ms_per_image for each in comparison.detectors}
    ours = [f"{name} {ms:.1f} ms" for name in SECTION_5_2 if (ms := times.get(name)) is not None]
    if len(ours) == len(SECTION_5_2):
        here = f"{comparison.machine}, {comparison.backbone}, {comparison.data}"
        print(f"paper, section 5.2: {THEIR_TIMES} (Nvidia M40, ResNet-101, COCO); here: {', '.join(ours)} ({here})")
    if comparison.candidates is not None:
        print_candidates(comparison.candidates)
    leader = comparison.leader
    if not comparison.changes:
        return
    columns = ("value", "seed", leader or DASH, "value's", "change", "95 % interval", "value better", "verdict")
    rows = [
        (each.value, DASH if each.seed is None else each.seed, *difference_cells(each.difference))
        for each in comparison.changes
    ]
    print_table(f"AP compared with {leader}, the row with the highest mean", columns, rows)
    if comparison.best is not None:
        print(f"best here: {leader}; the intervals of all changes exclude 0")
    else:
        open_ = [
            each.value + ("" if each.seed is None else f" (seed {each.seed})")
            for each in comparison.changes
            if not each.difference.certain
        ]
        reason = f"the interval includes 0 for {', '.join(open_)}" if open_ else "the seeds disagree"
        print(f"best here: none; {reason}")


def print_scales(detectors: Sequence[ComparedDetector]) -> None:
    """Show the numbers of figure 2."""
    groups = (
        headed(
            [each.value],
            [(p.scale or DASH, percent(p.AP), percent(p.AP50), _time(p.ms, each)) for p in each.points],
        )
        for each in detectors
    )
    print_table("Figure 2: by short side of the images", ("value", "scale", "AP", "AP50", "ms per\nimage"), *groups)


def percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _time(ms: float | None, detector: ComparedDetector) -> str:
    if ms is None:
        return DASH
    return f"stated {ms:g}" if detector.results_file else f"{ms:.1f}"


def _cells(each: ComparedDetector) -> tuple[str, ...]:
    return (
        each.value,
        *(percent(each.metrics[name]) for name in SIZES),
        *(DASH if value is None else f"{value:.1f}" for value in each.paper.values()),
        _time(each.ms_per_image, each),
        millions(each.weights),
        DASH if each.training_seconds is None else duration(each.training_seconds),
    )
