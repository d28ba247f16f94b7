"""Table 1e of the paper on this machine: speed and AP by depth of the backbone and scale of the image."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from retinanet.benchmark.subject import with_short_side
from retinanet.benchmark.timing import Progress, Workload, time_predict, workload
from retinanet.inference.detector import Detector, load
from retinanet.precision import PrecisionChoice

if TYPE_CHECKING:
    import torch

# backbone, short side in pixels -> ms on an Nvidia M40, AP in percent (COCO test-dev)
PAPER: dict[tuple[str, int], tuple[int, float]] = {
    ("resnet50", 400): (64, 30.5),
    ("resnet50", 500): (72, 32.5),
    ("resnet50", 600): (98, 34.3),
    ("resnet50", 700): (121, 35.1),
    ("resnet50", 800): (153, 35.7),
    ("resnet101", 400): (81, 31.9),
    ("resnet101", 500): (90, 34.4),
    ("resnet101", 600): (122, 36.0),
    ("resnet101", 700): (154, 37.1),
    ("resnet101", 800): (198, 37.8),
}


@dataclass(frozen=True)
class Row:
    """The speed of a detector at one scale.

    trunk: name of the backbone, as in a config. scale: short side of the image in pixels, less if the long side would
    exceed `long_side`. ms: median time from the RGB image to its detections. weights: their number; None for an
    exported model. ap: in 0..1; None without data or objects.
    """

    trunk: str
    scale: int
    long_side: int
    work: Workload
    ms: float
    weights: int | None
    ap: float | None = None

    @property
    def paper(self) -> tuple[int, float] | None:
        """ms and AP in percent; None for a row that the paper does not have."""
        return PAPER.get((self.trunk, self.scale))


def rows(detector: Detector, image: np.ndarray, scales: Sequence[int], repeats: int, progress: Progress) -> list[Row]:
    """Measure the speed of `detector` on `image` (H, W, 3) uint8 RGB at each of `scales`."""
    made: list[Row] = []
    runs = repeats + 1

    def step(done: int, _: int) -> None:
        progress(len(made) * runs + done, len(scales) * runs)

    for scale in scales:
        changed = copy(detector)
        changed.data = with_short_side(detector.data, scale)
        work, ms = workload(changed, image), time_predict(changed, image, repeats, step)
        made.append(Row(detector.backbone, scale, changed.data.long_side, work, ms, detector.model.weights))
    return made


def with_ap(
    rows: Sequence[Row],
    path: str,
    data: str | None,
    device: "torch.device | str",
    precision: PrecisionChoice,
    progress: Progress,
) -> list[Row]:
    """`rows` with the AP of the detector of `path` at each scale, on the val split of its own data or of config `data`.

    Raises: see `load` and `evaluate`.
    """
    from retinanet.evaluation.coco_metrics import measured
    from retinanet.evaluation.evaluate import evaluate

    detector, made = load(path, device, precision=precision), []
    for row in rows:
        size = [f"data.short_side={row.scale}", f"data.long_side={row.long_side}"]
        made.append(replace(row, ap=measured(evaluate(detector, data, "val", size, progress=progress).ap)))
    return made
