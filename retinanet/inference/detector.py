"""A trained detector for images: arrays, images of Pillow, or files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from PIL import Image

from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import DetectConfig
from retinanet.config.validation import require_detect_settings
from retinanet.data.dataset import Sample, blank_sample
from retinanet.data.images import pixels_of, read_image
from retinanet.data.transforms import Resizing, pad, resize
from retinanet.detections import ABOVE_ALL_SCORES, DEFAULT_SCORE_THRESHOLD, Detections
from retinanet.devices import pick_device
from retinanet.inference.exported_model import ExportedModel, check_engine, is_exported, open_exported
from retinanet.inference.threshold_file import load_thresholds
from retinanet.precision import PrecisionChoice

if TYPE_CHECKING:
    import torch

    from retinanet.inference.torch_model import TorchModel


Picture: TypeAlias = np.ndarray | Image.Image | str | Path


class Detector:
    """A model with its classes, preprocessing and thresholds; `retinanet.load` makes one.

    metadata: the checkpoint's. settings: those of its config for detection, with what `load` was given.
    thresholds: (K,) in 0..1, the score that detections of each class must exceed; None: `settings.score_threshold`.
    """

    def __init__(self, model: "TorchModel | ExportedModel", metadata: Metadata):
        self.model = model
        self.thresholds: Sequence[float] | None = None
        self.classes, self.category_ids = metadata.classes, metadata.category_ids
        self.metadata = metadata
        self.backbone = metadata.config.model.backbone
        self.data, self.settings = metadata.config.data, metadata.config.detect

    @overload
    def predict(
        self, image: Picture, score: float | None = None, labels: Sequence[int] | None = None
    ) -> Detections: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...],
        score: float | None = None,
        labels: Sequence[int] | None = None,
        batch_size: int = 1,
    ) -> list[Detections]: ...

    def predict(
        self,
        image: Picture | list[Any] | tuple[Any, ...],
        score: float | None = None,
        labels: Sequence[int] | None = None,
        batch_size: int = 1,
    ) -> Detections | list[Detections]:
        """Detect objects in one image, or in each of a list.

        Args:
            image: (H, W, 3) uint8 RGB, an image of Pillow, a file, or a list of these, which gives a list of results.
            score: 0..1, the score that detections must exceed; None: what `load` was given, else 0.3.
            labels: the only classes to report; None: all.
            batch_size: images of a list that run at once; above 1, padding changes the last digits of scores.
        Raises: DataError if a file cannot be read; ValueError for any other wrong argument.
        """
        if not isinstance(image, (list, tuple)):
            return self.predict_batch([self.pixels(image)], labels, score=score)[0]
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        batches = (image[start : start + batch_size] for start in range(0, len(image), batch_size))
        read = ([self.pixels(each) for each in batch] for batch in batches)
        return [found for batch in read for found in self.predict_batch(batch, labels, score=score)]

    def pixels(self, image: Picture) -> np.ndarray:
        """The pixels of `image`, (H, W, 3) uint8 RGB. Raises: see `predict`."""
        if isinstance(image, np.ndarray):
            return image
        if isinstance(image, Image.Image):
            return pixels_of(image)
        if isinstance(image, (str, Path)):
            return self.read(Path(image))
        raise ValueError(f"image is a {type(image).__name__}, expected an array, an image of Pillow, a file or a list")

    def read(self, file: Path) -> np.ndarray:
        """The pixels of an image file, (H, W, 3) uint8 RGB. Raises: DataError."""
        return read_image(file, max_pixels=self.data.max_pixels)

    def prepare(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
        """Images, sizes and original_sizes for the model's `detect`. images: each (H, W, 3) uint8 RGB."""
        resizing = self.model.resizing(Resizing.from_config(self.data))
        samples = [resize(_sample(image), resizing) for image in images]
        return *pad([sample.image for sample in samples]), [sample.original_size for sample in samples]

    def predict_batch(
        self, images: Sequence[np.ndarray], labels: Sequence[int] | None = None, *, score: float | None = None
    ) -> list[Detections]:
        """Detect objects in images, each (H, W, 3) uint8 RGB, which run as one batch. labels, score: see `predict`."""
        settings, thresholds = self.settings, self.thresholds
        if score is not None:
            settings, thresholds = replace(settings, score_threshold=score), None
            require_detect_settings(settings)
        if labels is not None:
            own = [settings.score_threshold] * len(self.classes) if thresholds is None else thresholds
            thresholds = [own[label] if label in labels else ABOVE_ALL_SCORES for label in range(len(own))]
        return self.model.detect(*self.prepare(images), settings, thresholds) if images else []


def load(
    path: str | Path,
    device: "torch.device | str" = "cpu",
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    max_detections: int | None = None,
    thresholds: str | Path | None = None,
    precision: PrecisionChoice = "fp32",
) -> Detector:
    """Load a detector.

    Args:
        path: a checkpoint, a run's folder (its best weights are loaded), `coco` or `coco_v2` for torchvision's weights,
            or a file that `retina export` wrote, which runs on the CPU without torch.
        device: cpu, cuda, cuda:N, mps, or auto, the best there is.
        score_threshold: the score that detections must exceed. max_detections: None: the checkpoint's own.
        thresholds: a file that `save_thresholds` wrote; its threshold of each class replaces score_threshold.
        precision: of the network: fp32, bf16 or, on a GPU, fp16; of exported files, only those of OpenVINO have bf16.
            auto is the faster of fp32 and bf16 by a short measurement, and differs by processor; `model.precision`
            of the detector tells which it is.
    Raises: CheckpointError; ConfigError if `thresholds` is invalid, or the model lacks the device or the precision;
        ValueError if `score_threshold` is outside 0..1 or `max_detections` below 1.
    """
    model: TorchModel | ExportedModel
    given: dict[str, Any] = {"score_threshold": score_threshold}
    if max_detections is not None:
        given["max_detections"] = max_detections
    require_detect_settings(replace(DetectConfig(), **given))
    check_engine(path, device, precision)
    if is_exported(path):
        model, metadata = open_exported(path, precision)
    else:
        from retinanet.inference.torch_model import open_for_inference

        model, metadata = open_for_inference(path, pick_device(str(device)), precision)
    detector = Detector(model, metadata)
    detector.settings = replace(detector.settings, **given)
    if thresholds is not None:
        detector.thresholds = load_thresholds(thresholds, metadata.classes, metadata.category_ids)
    return detector


def _sample(image: np.ndarray) -> Sample:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is {image.dtype} of shape {image.shape}, expected uint8 of shape (H, W, 3), RGB")
    return replace(blank_sample(0, ""), image=image, original_size=image.shape[:2])
