"""Predictions for image files, folders and glob patterns."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retinanet.data.images import SUFFIXES
from retinanet.detections import NO_DETECTIONS, Detections
from retinanet.errors import DataError
from retinanet.inference.detector import Detector
from retinanet.inference.drawing import draw_detections
from retinanet.io.pictures import write_picture


@dataclass(frozen=True)
class Prediction:
    """What was found in one file, or the `fault` that kept it from being read.

    size: (height, width) of the turned image. image: its pixels, (H, W, 3) uint8 RGB, or None once they are not needed.
    """

    file: Path
    detections: Detections = NO_DETECTIONS
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    fault: str | None = None


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
