"""Shows what must be known of detectors to compare them fairly."""

from collections.abc import Sequence
from typing import Any

from retinacli.console import DASH, print_table
from retinanet.evaluation.detector_facts import DetectorFacts, resolutions_differ

COLUMNS = ("resolution", "detections\nper image", "at most", "weights", "ms per\nimage")


def facts_document(names: Sequence[str], facts: Sequence[DetectorFacts]) -> dict[str, Any]:
    """The facts of each detector, null where unknown."""
    each_one = [{"name": name} | _document(each) for name, each in zip(names, facts, strict=True)]
    return {"detectors": each_one, "resolutions_differ": resolutions_differ(*facts)}


def facts_table(title: str, rows: Sequence[Sequence[object]], facts: Sequence[DetectorFacts], *columns: str) -> None:
    """A row for each detector, and a note where the resolutions differ. rows: the first cells of each, of `columns`."""
    print_table(title, (*columns, *COLUMNS), [(*row, *_cells(each)) for row, each in zip(rows, facts, strict=True)])
    if resolutions_differ(*facts):
        sides = " and ".join(dict.fromkeys(resolution(each) for each in facts if each.resolution is not None))
        print(f"note: the resolutions differ, {sides} pixels, so that a difference may be due to them")


def millions(weights: int | None) -> str:
    """A number of weights, or a dash."""
    return DASH if weights is None else f"{weights / 1e6:.1f} M"


def resolution_document(facts: DetectorFacts) -> dict[str, int] | None:
    """The resolution for JSON."""
    return None if facts.resolution is None else dict(zip(("short_side", "long_side"), facts.resolution, strict=True))


def resolution(facts: DetectorFacts) -> str:
    """The resolution as text, or a dash."""
    return DASH if facts.resolution is None else "{} x {}".format(*facts.resolution)


def _document(facts: DetectorFacts) -> dict[str, Any]:
    return {
        "resolution": resolution_document(facts),
        "max_detections": facts.max_detections,
        "detections_per_image": facts.detections_per_image,
        "weights": facts.weights,
        "ms_per_image": facts.ms_per_image,
    }


def _cells(facts: DetectorFacts) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    limit, mean, ms = facts.max_detections, facts.detections_per_image, facts.ms_per_image
    return (
        resolution(facts),
        DASH if mean is None else f"{mean:.1f}",
        DASH if limit is None else f"{limit:,}",
        millions(facts.weights),
        DASH if ms is None else f"{ms:.1f}",
    )
