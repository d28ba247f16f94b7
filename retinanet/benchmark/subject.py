"""The detector and the picture of a measurement of speed. Without torch where the detector is exported."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from retinanet.config.schema import DataConfig
from retinanet.data.images import read_image
from retinanet.data.synthetic_image import random_picture
from retinanet.data.transforms import memory_warning
from retinanet.evaluation.detector_facts import DetectorFacts
from retinanet.inference.detector import Detector, load
from retinanet.inference.exported_model import is_exported
from retinanet.io.pictures import write_picture
from retinanet.precision import PrecisionChoice

if TYPE_CHECKING:
    import torch

Engine = Literal["torch", "onnx", "openvino"]


@dataclass(frozen=True)
class Subject:
    """The detector of `path`, to be timed on the image of `file`, (H, W, 3) uint8 RGB."""

    path: str
    detector: Detector
    file: Path
    image: np.ndarray


@contextmanager
def open_subject(
    weights: str | None,
    engine: Engine = "torch",
    depth: int = 50,
    short_side: int | None = None,
    picture: Path | None = None,
    device: "torch.device | str" = "cpu",
    precision: PrecisionChoice = "fp32",
    progress: Callable[[str], object] = lambda step: None,
) -> Iterator[Subject]:
    """The detector that `retinanet.load` makes of `weights`, or one with random weights.

    A temporary folder holds the files that this needs, until the context ends.

    Args:
        weights: as `load` takes them; None: random weights, with a ResNet of `depth` layers.
        engine: unless it is torch, a checkpoint is first exported for it.
        short_side: in pixels; None: the detector's own. picture: an image file; None: a random picture.
        device, precision: as `load` takes them. progress: called with each step of an export, and a warning.
    Raises: as `load` and `export`; DataError if `picture` cannot be read.
    """
    # Windows cannot remove a model that is still open
    with tempfile.TemporaryDirectory(prefix="retina-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        file = picture or folder / "picture.jpg"
        if picture is None:
            write_picture(random_picture(np.random.default_rng(0), 480, 640, 40, 32), file)
        image = read_image(file)
        path = weights or str(folder / "random.safetensors")
        if not weights:
            from retinanet.benchmark.random_detector import save_random_detector

            save_random_detector(Path(path), depth, image, with_short_side(DataConfig(), short_side))
        if engine != "torch" and not is_exported(path):
            from retinanet.export.export import SUFFIX, export

            target = folder / f"model{SUFFIX[engine]}"
            progress(f"exporting for {engine}, into a temporary folder")
            path = str(export(path, engine, target, progress=progress).file)
        detector = load(path, device, precision=precision)
        # at the threshold of evaluations, as torchvision's detectors, which find more than people see
        detector.settings = detector.metadata.config.detect
        detector.data = with_short_side(detector.data, short_side)
        if warning := memory_warning(detector.data, weights or "random weights"):
            progress(warning)
        yield Subject(path, detector, file, image)


def facts_of(detector: Detector, detections: float) -> DetectorFacts:
    """What a comparison of `detector` depends on, without a time. detections: their mean number per image."""
    sides, limit = (detector.data.short_side, detector.data.long_side), detector.settings.max_detections
    return DetectorFacts(detections, sides, limit, detector.model.weights)


def with_short_side(data: DataConfig, short_side: int | None) -> DataConfig:
    """`data` with another short side, and the limit of the long side in proportion. None: unchanged."""
    if short_side is None:
        return data
    return replace(data, short_side=short_side, long_side=round(data.long_side * short_side / data.short_side))
