"""Detection in image files, folders and glob patterns."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from retinanet.data.formats.files import named
from retinanet.data.images import SUFFIXES
from retinanet.detections import NO_DETECTIONS, Detections
from retinanet.errors import DataError
from retinanet.inference.detector import Detector
from retinanet.inference.drawing import draw_detections
from retinanet.io.pictures import write_picture

WRITTEN = (".jpg", ".jpeg", ".png")  # suffixes of annotated copies
SUBFOLDERS = "; its subfolders are searched with --recursive"


@dataclass(frozen=True)
class Prediction:
    """The detections in one file, or the `fault` why it could not be read.

    size: (height, width) after EXIF orientation. image: (H, W, 3) uint8 RGB, or None once it is no longer needed.
    """

    file: Path
    detections: Detections = NO_DETECTIONS
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    fault: str | None = None


def predict(
    detector: Detector, files: Iterable[str | Path], batch_size: int = 1, labels: Sequence[int] | None = None
) -> Iterator[Prediction]:
    """Detect objects in each of `files`, in order. labels: the only classes to report; None: all.

    A thread reads the files of the next batch while the detector computes.
    """
    for group in _read_ahead(detector, map(Path, files), batch_size):
        images = [item.image for item in group if item.image is not None]
        detections = iter(detector.predict_batch(images, labels) if images else [])
        for item in group:
            yield item if item.image is None else replace(item, detections=next(detections))


def annotate(predictions: Iterable[Prediction], names: Sequence[Path], classes: Sequence[str]) -> Iterator[Prediction]:
    """Yield the predictions after drawing each on a copy of its image, saved under its name. Raises: OSError."""
    for item, name in zip(predictions, names, strict=True):
        if item.image is not None:
            d = item.detections
            write_picture(draw_detections(item.image, d.boxes, d.labels, d.scores, classes), name)
        yield item


def find_images(sources: Sequence[str], recursive: bool = False) -> list[Path]:
    """Image files of `sources`: files, folders and glob patterns; ~ stands for the user's folder.

    recursive: look into the subfolders of folders, too. Raises: DataError for a source without files.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            found = sorted(_images_in(path, "**/*" if recursive else "*"))
            if not found:
                inner = "" if recursive or not any(each.is_dir() for each in path.iterdir()) else SUBFOLDERS
                raise DataError(f"{source}: contains no image ({', '.join(SUFFIXES)}){inner}")
        elif path.exists():
            found = [path]
        else:
            found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file())
            if not found:
                raise DataError(f"{source}: no such file or folder, and no file matches it as a pattern")
        files.extend(found)
    return list(dict.fromkeys(files))


def left_out(sources: Sequence[str]) -> Iterator[str]:
    """A line for each folder of `sources` whose subfolders contain images, too, which `find_images` leaves out."""
    for folder in dict.fromkeys(Path(source).expanduser() for source in sources):
        if folder.is_dir():
            inner = [each.name for each in sorted(folder.glob("*/")) if any(_images_in(each, "*"))]
            if inner:
                yield f"{folder}: left out the images in {', '.join(inner[:3])}{', ...' * (len(inner) > 3)}{SUBFOLDERS}"


def _images_in(folder: Path, pattern: str) -> Iterator[Path]:
    return (file for file in folder.glob(pattern) if named(file.name, SUFFIXES) and not file.is_dir())


def output_names(files: Sequence[Path], output: Path) -> list[Path]:
    """A distinct path for the annotated copy of each file, which overwrites none of the files.

    output: their folder, or the path itself for a single file. Raises: DataError for a path of one file that does not
    fit.
    """
    if output.suffix.lower() in WRITTEN and not output.is_dir():
        if len(files) > 1:
            raise DataError(f"{output}: is one file, for {len(files):,} annotated images; expected a folder")
        if os.path.realpath(output) == os.path.realpath(files[0]):
            raise DataError(f"{output}: is the image itself; expected another file, or a folder")
        return [output]
    used = {os.path.realpath(file) for file in files}  # Path.resolve raises for circular links
    names = []
    for file in files:
        suffix = file.suffix if file.suffix.lower() in WRITTEN else ".png"
        name = output / f"{file.stem}{suffix}"
        count = 1
        while os.path.realpath(name) in used:
            name = output / f"{file.stem}-{count}{suffix}"
            count += 1
        used.add(os.path.realpath(name))
        names.append(name)
    return names


def _read_ahead(detector: Detector, files: Iterator[Path], batch_size: int) -> Iterator[list[Prediction]]:
    """The images of `files` in batches; the next batch is read while the caller uses the last one."""

    def read(batch: list[Path]) -> list[Prediction]:
        return [_read(detector, file) for file in batch]

    with ThreadPoolExecutor(1) as reader:
        # `files` itself may belong to this thread, such as rows of a data base
        coming = reader.submit(read, list(islice(files, batch_size)))
        while group := coming.result():
            coming = reader.submit(read, list(islice(files, batch_size)))
            yield group


def _read(detector: Detector, file: Path) -> Prediction:
    try:
        image = detector.read(file)
    except DataError as error:
        return Prediction(file, fault=str(error))
    return Prediction(file, size=image.shape[:2], image=image)
