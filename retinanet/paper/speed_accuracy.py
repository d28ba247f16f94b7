"""The numbers of the paper's figure 2, AP over time per image: the paper's own, and those of compared detectors."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from retinanet.paper.speed_table import PAPER as TABLE_1E

if TYPE_CHECKING:
    from retinanet.paper.detector_comparison import ComparedDetector

RETINANETS = {"resnet50": "RetinaNet-50", "resnet101": "RetinaNet-101"}
# name -> ms on an Nvidia M40, AP in percent (COCO test-dev); YOLOv2 is beyond the axes of the paper's figure
OTHERS: dict[str, tuple[int, float]] = {
    "SSD321": (61, 28.0),
    "DSSD321": (85, 28.0),
    "R-FCN": (85, 29.9),
    "SSD513": (125, 31.2),
    "DSSD513": (156, 33.2),
    "Faster R-CNN, FPN": (172, 36.2),
}

ScalePoint = tuple[float, float, int | None]  # ms; AP in percent; scale, the short side in pixels, None if not known


def paper_points() -> dict[str, list[ScalePoint]]:
    """The points of the paper's figure by detector: RetinaNet at five scales as in table 1e, the others at one."""
    points: dict[str, list[ScalePoint]] = {name: [] for name in RETINANETS.values()}
    for (backbone, scale), (ms, ap) in TABLE_1E.items():
        points[RETINANETS[backbone]].append((ms, ap, scale))
    return points | {name: [(ms, ap, None)] for name, (ms, ap) in OTHERS.items()}


def figure_document(detectors: "Sequence[ComparedDetector]") -> dict[str, Any]:
    """The figure for JSON. AP is in 0..1, in the paper's points in percent."""
    return {
        "detectors": [
            {"value": each.value, "weights": each.weights, "points": [asdict(point) for point in each.points]}
            for each in detectors
        ],
        "paper": [
            {"detector": name, "points": [{"scale": scale, "AP": ap, "ms": ms} for ms, ap, scale in points]}
            for name, points in paper_points().items()
        ],
    }
