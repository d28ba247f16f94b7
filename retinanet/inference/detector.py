"""A trained detector for images: arrays or files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import DetectConfig
from retinanet.config.validation import require_detect_settings
from retinanet.data.dataset import Sample, blank_sample
from retinanet.data.images import read_image
from retinanet.data.transforms import Resizing, pad, resize
from retinanet.detections import ABOVE_ALL_SCORES, Detections
from retinanet.inference.exported_model import ExportedModel, Precision, check_engine, is_exported, open_exported
from retinanet.inference.threshold_file import load_thresholds

if TYPE_CHECKING:
    import torch

    from retinanet.inference.torch_model import TorchModel


class Detector:
    """A model with its classes, preprocessing and thresholds; `retinanet.load` makes one.

    thresholds: (K,) in 0..1, the score that detections of each class must exceed; None: `settings.score_threshold`.
    """

    def __init__(self, model: "TorchModel | ExportedModel", metadata: Metadata):
        self.model = model
        self.thresholds: Sequence[float] | None = None
        self.classes, self.category_ids = metadata.classes, metadata.category_ids
        self.backbone = metadata.config.model.backbone
        self.data, self.settings = metadata.config.data, metadata.config.detect

    def predict(self, image: np.ndarray | str | Path) -> Detections:
        """Detect objects in one image: (H, W, 3) uint8 RGB, or a file. Raises: DataError if the file cannot be read."""
        pixels = image if isinstance(image, np.ndarray) else self.read(Path(image))
        return self.predict_batch([pixels])[0]

    def read(self, file: Path) -> np.ndarray:
        """The pixels of an image file, (H, W, 3) uint8 RGB. Raises: DataError."""
        return read_image(file, max_pixels=self.data.max_pixels)

    def prepare(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
        """Images, sizes and original_sizes for the model's `detect`. images: each (H, W, 3) uint8 RGB."""
        resizing = self.model.resizing(Resizing.from_config(self.data))
        samples = [resize(_sample(image), resizing) for image in images]
        return *pad([sample.image for sample in samples]), [sample.original_size for sample in samples]

    def predict_batch(self, images: Sequence[np.ndarray], labels: Sequence[int] | None = None) -> list[Detections]:
        """Detect objects in images, each (H, W, 3) uint8 RGB. labels: the only classes to report; None: all."""
        thresholds = self.thresholds
        if labels is not None:
            own = [self.settings.score_threshold] * len(self.classes) if thresholds is None else thresholds
            thresholds = [own[label] if label in labels else ABOVE_ALL_SCORES for label in range(len(own))]
        return self.model.detect(*self.prepare(images), self.settings, thresholds)


def load(
    path: str | Path,
    device: "torch.device | str" = "cpu",
    score_threshold: float | None = None,
    max_detections: int | None = None,
    thresholds: str | Path | None = None,
    precision: Precision = "fp32",
) -> Detector:
    """Load a detector.

    Args:
        path: a checkpoint, a run's folder (its best weights are loaded), `coco` or `coco_v2` for torchvision's weights,
            or a file that `retina export` wrote, which runs on the CPU without torch.
        score_threshold, max_detections: None: the checkpoint's own.
        thresholds: a file that `save_thresholds` wrote; its threshold of each class replaces score_threshold.
        precision: as `open_exported` takes it.
    Raises: CheckpointError; ConfigError if `thresholds` is invalid, or the model lacks the device or the precision;
        ValueError if `score_threshold` is outside 0..1 or `max_detections` below 1.
    """
    model: TorchModel | ExportedModel
    settings = {"score_threshold": score_threshold, "max_detections": max_detections}
    given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    require_detect_settings(replace(DetectConfig(), **given))
    check_engine(path, device, precision)
    if is_exported(path):
        model, metadata = open_exported(path, precision)
    else:
        from retinanet.inference.torch_model import open_for_inference

        model, metadata = open_for_inference(path, device)
    detector = Detector(model, metadata)
    detector.settings = replace(detector.settings, **given)
    if thresholds is not None:
        detector.thresholds = load_thresholds(thresholds, metadata.classes, metadata.category_ids)
    return detector


def _sample(image: np.ndarray) -> Sample:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is {image.dtype} of shape {image.shape}, expected uint8 of shape (H, W, 3), RGB")
    return replace(blank_sample(0, ""), image=image, original_size=image.shape[:2])
