"""What a measurement of speed runs: a detector and a picture. Without torch where the detector is exported."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from retinanet.config.schema import DataConfig
from retinanet.data.images import read_image
from retinanet.data.synthetic_image import drawn
from retinanet.inference.detector import Detector, load
from retinanet.inference.exported_model import Precision, is_exported
from retinanet.io.pictures import write_picture

if TYPE_CHECKING:
    import torch

    from retinanet.export.export import Format

Engine = Literal["torch", "onnx", "openvino"]


@dataclass(frozen=True)
class Subject:
    """What is timed: the detector of `path` on the image of `file`, (H, W, 3) uint8 RGB."""

    path: str
    detector: Detector
    file: Path
    image: np.ndarray


@contextmanager
def opened(
    weights: str | None,
    engine: Engine = "torch",
    depth: int = 50,
    short_side: int | None = None,
    picture: Path | None = None,
    device: "torch.device | str" = "cpu",
    precision: Precision = "fp32",
    progress: Callable[[str], object] = lambda doing: None,
) -> Iterator[Subject]:
    """The detector of `weights`, or a stand-in of `depth` where they are None, as `retinanet.load` gives it.

    What must be written for that lies in a temporary folder; so does the picture that is drawn where none is given.
    short_side: None: the detector's own. device, precision: as `load` takes them. progress: is told what is being done.
    Raises: as `load` and `export`; DataError if `picture` cannot be read.
    """
    # a model that is still open cannot be removed on Windows
    with tempfile.TemporaryDirectory(prefix="retina-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        file = picture or folder / "drawn.jpg"
        if picture is None:
            write_picture(drawn(np.random.default_rng(0), 480, 640, 40, 32), file)
        image = read_image(file)
        path = weights or _stand_in(folder, depth, image, short_side)
        if engine != "torch" and not is_exported(path):
            path = _export(path, folder, engine, progress)
        detector = load(path, device, precision=precision)
        if short_side is not None:
            detector = sized(detector, short_side)
        yield Subject(path, detector, file, image)


def sized(detector: Detector, short_side: int) -> Detector:
    """The same for images of another size, the limit of the long side in proportion."""
    changed = copy.copy(detector)
    changed.data = _sized(detector.data, short_side)
    return changed


def _sized(data: DataConfig, short_side: int) -> DataConfig:
    return replace(data, short_side=short_side, long_side=round(data.long_side * short_side / data.short_side))


def _stand_in(folder: Path, depth: int, image: np.ndarray, short_side: int | None) -> str:
    from retinanet.benchmark.random_detector import save_random_detector

    file = folder / "stand-in.safetensors"
    data = DataConfig()
    save_random_detector(file, depth, image, data if short_side is None else _sized(data, short_side))
    return str(file)


def _export(path: str, folder: Path, engine: "Format", progress: Callable[[str], object]) -> str:
    from retinanet.export.export import SUFFIX, export

    target = folder / f"model{SUFFIX[engine]}"
    progress(f"exporting for {engine}, into a temporary folder")
    export(path, engine, target, progress=progress)
    return str(target)
