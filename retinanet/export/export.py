"""A detector as one file for ONNX Runtime or OpenVINO, decoding and suppression inside, in standard operators.

The file alone is enough to use it, from any language. Its inputs, with B images of one batch:

    images           (B, H, W, 3) RGB in 0..255, uint8, or float32 where `data.resize` is float: resized as the config
                     says, padded with zeros at the right and bottom; H and W are any multiples of 32
    sizes            (B, 2) int64, height and width of each image without the padding
    original_sizes   (B, 2) int64, the same before it was resized; boxes come in its pixels
    score_threshold  (1,) float32, or (K,), of each class: what a score must exceed
    iou_threshold    (1,) float32, of the suppression within a class
    max_detections   (1,) int64, of an image

In ONNX the last three may be left out: the checkpoint's values are their defaults. Its outputs, D detections or fewer:

    boxes (B, D, 4) float32 xyxy pixels   scores (B, D) float32, best first   labels (B, D) int64 in 0..K-1
    count (B,) int64: so many of each image's rows are real; the others hold 0, 0 and -1

The metadata (ONNX: metadata_props; OpenVINO: rt_info under "retina") has `config`, `classes` and `category_ids` as JSON.
"""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from retinanet.checkpoints.metadata import Metadata, to_record
from retinanet.checkpoints.pretrained import open_model
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.evaluation.detector_and_data import DataSource, data_config, known_labels
from retinanet.evaluation.evaluate import evaluate_checkpoint
from retinanet.export.agreement import Agreement, _drawn, verify
from retinanet.inference.detector import Detector
from retinanet.inference.exported_model import ONNX, OPENVINO, open_exported, openvino_core, require
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import RetinaNet

CALIBRATION_IMAGES = 300  # NNCF's default
AP_IMAGES = 500

Format = Literal["onnx", "openvino"]
SUFFIX: dict[Format, str] = {"onnx": ONNX, "openvino": OPENVINO}


@dataclass(frozen=True)
class Exported:
    """A file that was written. agreement: of its fp32 form. ap: torch's AP and the file's, on the same `images`."""

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
    progress: Callable[[str], object] = lambda doing: None,
) -> Exported:
    """Write the detector of a checkpoint, a run's folder or `coco` as one file, once its detections equal torch's.

    target: where to, with the suffix that SUFFIX says; for OpenVINO a .bin goes beside it. precision: int8 is chosen by
    images of the train split of config `data` (by default the checkpoint's), and AP measured before and after on the
    val split where there is one. With `data`, detections are compared on its images too. progress: is told what is
    being done.

    Raises: VerificationError if detections differ, and no file is left; CheckpointError, DataError; ConfigError, also
        without the extra.
    """
    for package in ("onnxscript", "onnxruntime" if to == "onnx" else "openvino"):
        require(package, to)
    if precision == "int8":
        require("nncf", "openvino")
    model, metadata = open_model(weights)
    torch_detector = Detector(TorchModel(model), metadata)
    calibration, validation, images = None, None, _drawn()
    if data is not None or precision == "int8":
        source = data_config(metadata, data, overrides)
        calibration = open_dataset(source, "train")
        validation = open_dataset(source, "val") if source.has_val else None
        if validation is not None:
            known_labels(metadata, validation, weights)
        images += [calibration.image(index) for index in range(min(4, len(calibration)))]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        file = Path(folder) / target.name
        progress("converting")
        _write(model, metadata, to, file)
        progress("comparing")
        agreement = verify(torch_detector, Detector(*open_exported(file)), images, target)
        ap, measured = None, None
        if precision == "int8":
            assert calibration is not None
            progress("quantizing")
            _quantize(file, calibration)
            if validation is not None:
                progress("measuring AP")
                measured = validation.take(np.arange(min(AP_IMAGES, len(validation))))
                ap = _ap(weights, measured), _ap(file, measured)
        for suffix in (".bin", target.suffix):  # the .xml last, as it is the one that is opened
            if file.with_suffix(suffix).exists():
                os.replace(file.with_suffix(suffix), target.with_suffix(suffix))
    return Exported(target, agreement, ap, len(measured) if measured else 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what other packages log, warn of and print."""
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
    read = openvino_core().read_model(converted)
    for key, text in record.items():
        read.set_rt_info(text, ["retina", key])
    openvino.save_model(read, file, compress_to_fp16=False)


@_quiet()
def _quantize(file: Path, images: Dataset) -> None:
    """The network of an exported file in int8; what follows it stays as it is."""
    os.environ.setdefault("NNCF_CI", "1")  # it would send its usage to its makers
    import nncf

    from retinanet.export.onnx_graph import TAIL

    model, metadata = open_exported(file)
    detector = Detector(model, metadata)

    def inputs(index: int) -> dict[str, np.ndarray]:
        return model.inputs(*detector.prepare([images.image(index)]), detector.settings)

    chosen = np.random.default_rng(0).permutation(len(images))[:CALIBRATION_IMAGES].tolist()
    calibration = nncf.Dataset(chosen, inputs)
    scope = nncf.IgnoredScope(patterns=[f".*{TAIL}/.*"])
    written = file.with_stem(f"{file.stem}-int8")  # OpenVINO reads from the other while it writes this one
    if file.suffix == OPENVINO:
        import openvino

        read = openvino_core().read_model(file)
        quantized = nncf.quantize(read, calibration, subset_size=len(chosen), ignored_scope=scope)
        openvino.save_model(quantized, written, compress_to_fp16=False)
    else:
        import onnx
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)  # NNCF's sessions would warn past what `_quiet` holds back
        quantized = nncf.quantize(onnx.load(file), calibration, subset_size=len(chosen), ignored_scope=scope)
        onnx.save(quantized, written)
    for suffix in (".bin", file.suffix):
        if written.with_suffix(suffix).exists():
            os.replace(written.with_suffix(suffix), file.with_suffix(suffix))


def _ap(path: str | Path, dataset: Dataset) -> float:
    return evaluate_checkpoint(path, DataSource(dataset)).metrics["AP"]
