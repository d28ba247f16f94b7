"""The numbers of the paper's figure 2, AP over time per image: the paper's own, and those of compared detectors."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from retinanet.paper.speed_table import PAPER as TABLE_1E

if TYPE_CHECKING:
    from retinanet.paper.detector_comparison import DetectorComparison

RETINANETS = {"resnet50": "RetinaNet-50", "resnet101": "RetinaNet-101"}
# name -> ms on an Nvidia M40, AP in percent (COCO test-dev); YOLOv2 is beyond the axes of the paper's figure
OTHERS: dict[str, tuple[int, float]] = {
    "SSD321": (61, 28.0),
    "DSSD321": (85, 28.0),
    "R-FCN, time extrapolated": (85, 29.9),
    "SSD513": (125, 31.2),
    "DSSD513": (156, 33.2),
    "Faster R-CNN, FPN": (172, 36.2),
}
# ms per image on an Nvidia M40 of RetinaNet-101-600 and of Faster R-CNN, whose AP is equal, by row of table 2
SECTION_5_2 = {"focal": TABLE_1E["resnet101", 600][0], "faster-rcnn": OTHERS["Faster R-CNN, FPN"][0]}
THEIR_TIMES = "RetinaNet-101-600 {focal} ms, Faster R-CNN with FPN of equal AP {faster-rcnn} ms".format(**SECTION_5_2)

ScalePoint = tuple[float, float, int | None]  # ms; AP in percent; scale, the short side in pixels, None if not known


def paper_points() -> dict[str, list[ScalePoint]]:
    """The points of the paper's figure by detector: RetinaNet at five scales as in table 1e, the others at one."""
    points: dict[str, list[ScalePoint]] = {name: [] for name in RETINANETS.values()}
    for (backbone, scale), (ms, ap) in TABLE_1E.items():
        points[RETINANETS[backbone]].append((ms, ap, scale))
    return points | {name: [(ms, ap, None)] for name, (ms, ap) in OTHERS.items()}


def figure_document(comparison: "DetectorComparison") -> dict[str, Any]:
    """The figure for JSON. AP is in 0..1, in the paper's points in percent. The ms of a results file are as stated."""
    names = "value", "weights", "results_file"
    detectors = [
        {name: getattr(each, name) for name in names} | {"points": [asdict(point) for point in each.points]}
        for each in comparison.detectors
    ]
    paper = [
        {"detector": name, "points": [{"scale": scale, "AP": ap, "ms": ms} for ms, ap, scale in points]}
        for name, points in paper_points().items()
    ]
    about = {"data": comparison.data, "backbone": comparison.backbone, "machine": comparison.machine}
    return about | {"detectors": detectors, "paper": paper}
