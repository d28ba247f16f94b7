"""A trained detector at work on pictures: arrays, files, folders, globs."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retinanet.config import DetectConfig
from retinanet.data.dataset import Sample, blank_sample
from retinanet.data.images import SUFFIXES, read_image
from retinanet.data.transforms import pad, resize
from retinanet.drawing import draw_detections, write_picture
from retinanet.engines import ExportedModel, Precision, check_engine, is_exported, open_exported
from retinanet.errors import DataError
from retinanet.found import NEVER, NOTHING, Detections
from retinanet.metadata import Metadata

if TYPE_CHECKING:
    import torch

    from retinanet.model import RetinaNet


@dataclass(frozen=True)
class Prediction:
    """What was found in one file, or the `fault` that kept it from being read.

    size: (height, width) of the turned image. image: its pixels, (H, W, 3) uint8 RGB, or None once they are not needed.
    """

    file: Path
    detections: Detections = NOTHING
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    fault: str | None = None


class Detector:
    """A model with its class names, preprocessing and thresholds; `retinanet.load` makes one.

    thresholds: score that detections of each class must exceed; None: `settings.score_threshold` in all.
    """

    def __init__(
        self, model: "RetinaNet | ExportedModel", metadata: Metadata, thresholds: Sequence[float] | None = None
    ):
        self.model, self.thresholds = model, thresholds
        self.classes, self.category_ids = metadata.classes, metadata.category_ids
        self.trunk = metadata.config.model.backbone
        self.data, self.settings = metadata.config.data, metadata.config.detect

    def predict(self, image: np.ndarray | str | Path) -> Detections:
        """Objects in one image: (H, W, 3) uint8 RGB, or a file. Raises: DataError if the file cannot be read."""
        pixels = image if isinstance(image, np.ndarray) else self.read(Path(image))
        return self.predict_batch([pixels])[0]

    def read(self, file: Path) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an image file. Raises: DataError."""
        return read_image(file, max_pixels=self.data.max_pixels)

    def resized(self, image: np.ndarray) -> Sample:
        """(H, W, 3) uint8 RGB as the model takes it, but for the padding."""
        d = self.data
        method = self.model.resize if isinstance(self.model, ExportedModel) else d.resize
        return resize(_sample(image), d.short_side, d.long_side, method)

    def predict_batch(self, images: Sequence[np.ndarray], labels: Sequence[int] | None = None) -> list[Detections]:
        """Objects in each of some images, (H, W, 3) uint8 RGB. labels: the only classes to report; None: all."""
        samples = [self.resized(image) for image in images]
        thresholds = self.thresholds
        if labels is not None:
            own = [self.settings.score_threshold] * len(self.classes) if thresholds is None else thresholds
            thresholds = [own[label] if label in labels else NEVER for label in range(len(own))]
        if isinstance(self.model, ExportedModel):
            together, sizes = pad([sample.image for sample in samples])
            original_sizes = [sample.original_size for sample in samples]
            return self.model.detect(together, sizes, original_sizes, self.settings, thresholds)
        from retinanet.data.loader import collate
        from retinanet.evaluation import detect_batch

        return detect_batch(self.model, collate([(sample, []) for sample in samples]), self.settings, thresholds)


def load(
    path: str | Path,
    device: "torch.device | str" = "cpu",
    score_threshold: float | None = None,
    max_detections: int | None = None,
    thresholds: str | Path | None = None,
    precision: Precision = "fp32",
) -> Detector:
    """The detector of a checkpoint or of a run's folder (its best weights), or `coco` or `coco_v2`, torchvision's.

    Also of a file that `retina export` wrote, which runs on the CPU and does without torch.

    score_threshold, max_detections: None: the checkpoint's own. thresholds: a file that `save_thresholds` wrote, whose
    threshold of each class goes before score_threshold. precision: as `open_exported` takes it.

    Raises: CheckpointError; ConfigError for a fault in `thresholds`, or a device or precision that the model has not.
    """
    model: RetinaNet | ExportedModel
    check_engine(path, device, precision)
    if is_exported(path):
        model, metadata = open_exported(path, precision)
    else:
        import torch

        from retinanet.folding import fold_once
        from retinanet.weights import open_model

        model, metadata = open_model(path)
        model = fold_once(model).to(device).to(memory_format=torch.channels_last)
    settings: DetectConfig = metadata.config.detect
    if score_threshold is not None:
        settings = replace(settings, score_threshold=score_threshold)
    if max_detections is not None:
        settings = replace(settings, max_detections=max_detections)
    of_class = None
    if thresholds is not None:
        from retinanet.thresholds import load_thresholds

        of_class = load_thresholds(thresholds, metadata.classes, metadata.category_ids)
    return Detector(model, replace(metadata, config=replace(metadata.config, detect=settings)), of_class)


def predict(
    detector: Detector, files: Iterable[Path], batch_size: int = 1, labels: Sequence[int] | None = None
) -> Iterator[Prediction]:
    """Each of `files` with what was found in it, in their order; a file that cannot be read is told in its `fault`."""
    group: list[Prediction] = []
    for file in files:
        try:
            image = detector.read(file)
            group.append(Prediction(file, size=image.shape[:2], image=image))
        except DataError as error:
            group.append(Prediction(file, fault=str(error)))
        if len(group) == batch_size:
            yield from _detect(detector, group, labels)
            group = []
    yield from _detect(detector, group, labels)


def annotate(found: Iterable[Prediction], names: Sequence[Path], classes: Sequence[str]) -> Iterator[Prediction]:
    """The same predictions, each drawn on a copy of its image that is written to its name. Raises: OSError."""
    for item, name in zip(found, names, strict=True):
        if item.image is not None:
            d = item.detections
            drawn = draw_detections(item.image, d.boxes, d.labels, d.scores, classes)
            write_picture(drawn, name)
        yield item


def to_json(found: Sequence[Prediction], detector: Detector) -> dict[str, Any]:
    """Readable files with their detections, best first, in xyxy pixels; the others under "faults"."""
    images = [
        {
            "file": str(item.file),
            "width": item.size[1],
            "height": item.size[0],
            "detections": [
                {
                    "label": detector.classes[label],
                    "category_id": detector.category_ids[label],
                    "score": round(score, 5),
                    "box": [round(x, 3) for x in box],
                }
                for label, score, box in zip(
                    item.detections.labels.tolist(),
                    item.detections.scores.tolist(),
                    item.detections.boxes.tolist(),
                    strict=True,
                )
            ],
        }
        for item in found
        if item.fault is None
    ]
    return {"images": images, "faults": [item.fault for item in found if item.fault is not None]}


def to_coco(found: Sequence[Prediction], detector: Detector) -> list[dict[str, Any]]:
    """COCO's results format with file names; image ids count the readable files from 1, in their order."""
    from retinanet.scoring import coco_results, coco_rows

    readable = [item for item in found if item.fault is None]
    return [
        result | {"file_name": str(item.file)}
        for image_id, item in enumerate(readable, 1)
        for result in coco_results(coco_rows(item.detections, image_id, detector.category_ids))
    ]


def find_images(sources: Sequence[str]) -> list[Path]:
    """The files that `sources` name: files, folders (their images, not those of folders inside), glob patterns.

    Raises: DataError for a source that names nothing.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise DataError(f"{source}: holds no image ({', '.join(SUFFIXES)})")
        elif path.exists():
            found = [path]
        else:
            matches = (Path(match) for match in glob.glob(source, recursive=True))
            found = sorted(file for file in matches if file.is_file())
            if not found:
                raise DataError(f"{source}: no such file or folder, and no file matches it as a pattern")
        files.extend(found)
    return list(dict.fromkeys(files))


def output_names(files: Sequence[Path], folder: Path) -> list[Path]:
    """A path in `folder` for the annotated copy of each file: no two are equal and none is an input."""
    taken = {os.path.realpath(file) for file in files}  # pathlib's raises at a link to itself
    names = []
    for file in files:
        suffix = file.suffix if file.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
        name = folder / f"{file.stem}{suffix}"
        count = 1
        while os.path.realpath(name) in taken:
            name = folder / f"{file.stem}-{count}{suffix}"
            count += 1
        taken.add(os.path.realpath(name))
        names.append(name)
    return names


def _detect(detector: Detector, group: list[Prediction], labels: Sequence[int] | None) -> Iterator[Prediction]:
    images = [item.image for item in group if item.image is not None]
    found = iter(detector.predict_batch(images, labels) if images else [])
    for item in group:
        yield item if item.image is None else replace(item, detections=next(found))


def _sample(image: np.ndarray) -> Sample:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is {image.dtype} of shape {image.shape}, expected uint8 of shape (H, W, 3), RGB")
    return replace(blank_sample(0, ""), image=image, original_size=image.shape[:2])
