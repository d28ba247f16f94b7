"""A detector as one file for ONNX Runtime or OpenVINO, with decoding and suppression inside, in standard operators.

The file alone is enough to use the detector, from any language. Its inputs, for a batch of B images:

    images           (B, H, W, 3) RGB in 0..255, uint8, or float32 where `data.resize` is float; resized as the config
                     says, padded with zeros at the right and bottom; H and W are any multiples of 32
    sizes            (B, 2) int64, height and width of each image without the padding
    original_sizes   (B, 2) int64, height and width before the image was resized; boxes are in these pixels
    score_threshold  (1,) float32, or (K,), one for each class: a score must exceed it
    iou_threshold    (1,) float32, for the suppression within a class
    max_detections   (1,) int64, for each image

In ONNX the last three are optional: the checkpoint's values are their defaults. Its outputs, with D <= max_detections:

    boxes (B, D, 4) float32 xyxy pixels   scores (B, D) float32, best first   labels (B, D) int64 in 0..K-1
    count (B,) int64: the number of rows of each image that are detections; the other rows hold 0, 0 and -1

The metadata (ONNX: metadata_props; OpenVINO: rt_info under "retina") hold `config`, `classes` and `category_ids`
as JSON.
"""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from retinanet.checkpoints.metadata import Metadata, to_record
from retinanet.checkpoints.pretrained import open_model
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.transforms import memory_warning
from retinanet.evaluation.detector_and_data import data_config, known_labels
from retinanet.evaluation.evaluate import evaluate
from retinanet.export.agreement import Agreement, random_pictures, verify
from retinanet.inference.detector import Detector, load
from retinanet.inference.exported_model import ONNX, OPENVINO, open_exported, openvino_core, require
from retinanet.inference.torch_model import TorchModel
from retinanet.io.atomic import make_folder, naming
from retinanet.model.retinanet import RetinaNet

AP_IMAGES = 500
DATA_IMAGES = 4  # of the data, to compare detections on

Format = Literal["onnx", "openvino"]
SUFFIX: dict[Format, str] = {"onnx": ONNX, "openvino": OPENVINO}


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    agreement: of its fp32 form with torch. ap: torch's AP and the file's in 0..1, on the same `images` images.
    """

    file: Path
    agreement: Agreement
    ap: tuple[float, float] | None = None
    images: int = 0


def export(
    weights: str | Path,
    to: Format,
    target: Path,
    precision: Literal["fp32", "int8"] = "fp32",
    data: str | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[str], object] = lambda step: None,
) -> Exported:
    """Write the detector of a checkpoint, a run's folder or `coco` as one file, once its detections equal torch's.

    Args:
        target: the file, with the suffix that SUFFIX gives; for OpenVINO a .bin file is written beside it.
        precision: int8 is calibrated on the train split of the data; its AP and torch's are measured on the val split
            if there is one.
        data: config of the data; None: the checkpoint's own. If given, detections are also compared on its images.
        overrides: KEY=VALUE for the config of the data.
        progress: called with the name of each step, and with a warning of one line.
    Raises: VerificationError if detections differ, in which case no file is left; CheckpointError; DataError;
        ConfigError, also if a package is not installed; OSError that names `target`.
    """
    for package in ("onnxscript", "onnxruntime" if to == "onnx" else "openvino"):
        require(package, to)
    if precision == "int8":
        require("nncf", "openvino")
    model, metadata = open_model(weights)
    if warning := memory_warning(metadata.config.data, weights):
        progress(warning)
    reference = Detector(TorchModel(model, weights), metadata)
    calibration, validation, images = None, None, random_pictures()
    if data is not None or precision == "int8":
        source = data_config(metadata, data, overrides)
        calibration = open_dataset(source, "train")
        if source.has_val:
            validation = open_dataset(source, "val")
            known_labels(metadata, validation, weights)
            validation = validation.take(np.arange(min(AP_IMAGES, len(validation))))
        images += [calibration.image(index) for index in range(min(DATA_IMAGES, len(calibration)))]
    make_folder(target.parent)
    with naming(target), tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        file = Path(folder) / target.name
        progress("converting")
        _write(model, metadata, to, file)
        progress("comparing")
        done = Exported(target, verify(reference, Detector(*open_exported(file)), images, target))
        if precision == "int8":
            assert calibration is not None
            progress("quantizing")
            file = _quantize(file, calibration)
            if validation is not None:
                progress("measuring AP")
                aps = [evaluate(load(path), validation).ap for path in (weights, file)]
                if min(aps) >= 0:  # there are objects
                    done = replace(done, ap=(aps[0], aps[1]), images=len(validation))
        for suffix in (".bin", target.suffix):  # the .xml last, since it is the file that readers open
            if file.with_suffix(suffix).exists():
                os.replace(file.with_suffix(suffix), target.with_suffix(suffix))
    return done


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside the context, other packages neither log nor warn nor print."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@_quiet()
def _write(model: RetinaNet, metadata: Metadata, to: Format, file: Path) -> None:
    """Write the detector in fp32, with its metadata."""
    import onnx_ir as ir

    from retinanet.export.onnx_graph import make_graph

    settings = metadata.config.detect
    program = make_graph(model, settings, torch.float32 if metadata.config.data.resize == "float" else torch.uint8)
    record = to_record(metadata)
    if to == "onnx":
        program.metadata_props.update(record)
        defaults: dict[str, np.ndarray] = {
            "score_threshold": np.array([settings.score_threshold], np.float32),
            "iou_threshold": np.array([settings.nms_iou], np.float32),
            "max_detections": np.array([settings.max_detections], np.int64),
        }
        for value in program.graph.inputs[-len(defaults) :]:
            assert value.name is not None
            value.const_value = ir.tensor(defaults[value.name], name=value.name)
            program.graph.register_initializer(value)
        ir.save(program, file)
        return
    import openvino

    converted = file.with_suffix(ONNX)
    ir.save(program, converted)
    network = openvino_core().read_model(converted)
    for key, text in record.items():
        network.set_rt_info(text, ["retina", key])
    openvino.save_model(network, file, compress_to_fp16=False)


@_quiet()
def _quantize(file: Path, images: Dataset) -> Path:
    from retinanet.export.quantization import quantize  # imports onnx_ir, which the extra brings

    return quantize(file, images)
