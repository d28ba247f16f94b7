"""Exported models at work by ONNX Runtime or OpenVINO, without torch; `retinanet.export.export` says what they take and give."""

import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retinanet.checkpoints.metadata import Metadata, from_record
from retinanet.config.schema import DetectConfig
from retinanet.data.transforms import Resize
from retinanet.detections import ABOVE_ALL_SCORES, Detections
from retinanet.errors import CheckpointError, ConfigError
from retinanet.io.size_limits import check_size
from retinanet.messages import one_line

ONNX, OPENVINO = ".onnx", ".xml"  # what the files' names end in
INPUTS = ("images", "sizes", "original_sizes", "score_threshold", "iou_threshold", "max_detections")
OUTPUTS = ("boxes", "scores", "labels", "count")
MAX_BYTES = 2**31  # of an ONNX file, and of OpenVINO's weights; what protobuf can hold

Precision = Literal["fp32", "bf16"]


class ExportedModel:
    """A model file with decoding and suppression inside.

    resize: how images are to be resized for it, without torch. pixels: the kind that it takes.
    """

    def __init__(self, metadata: Metadata, file: Path):
        self.file = file
        as_float = metadata.config.data.resize == "float"
        self.resize: Resize = "float_opencv" if as_float else metadata.config.data.resize
        self.pixels = np.float32 if as_float else np.uint8
        self.classes = len(metadata.classes)
        self.kept = np.arange(self.classes)  # the file's label of each class that is looked for

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The OUTPUTS for what `inputs` gives."""
        raise NotImplementedError

    def keep_classes(self, labels: Sequence[int]) -> None:
        """Look for these of the classes alone, in this order; what is left scores as before."""
        self.kept = self.kept[list(labels)]

    def detect(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        thresholds: Sequence[float] | None = None,
    ) -> list[Detections]:
        """Objects in each of B images, in pixels of the original ones.

        images, sizes: as `pad` gives them, RGB in 0..255, resized. original_sizes: (height, width) of each before that.
        thresholds: (K,) score that detections of each class must exceed; None: that of `settings` for all.
            What else `settings` holds beside nms_iou and max_detections is fixed in the file.
        """
        inputs = self.inputs(images, sizes, original_sizes, settings, thresholds)
        own = np.zeros(self.classes, np.int64)
        own[self.kept] = np.arange(len(self.kept))
        try:
            boxes, scores, labels, counts = self.run(inputs)
            found = enumerate(counts.tolist())
            return [Detections(boxes[i, :count], scores[i, :count], own[labels[i, :count]]) for i, count in found]
        except Exception as error:  # of the engine, whose errors have no base of their own; or the outputs are others
            raise CheckpointError(f"{self.file}: does not run as one of retina export's: {one_line(error)}") from None

    def inputs(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        thresholds: Sequence[float] | None = None,
    ) -> dict[str, np.ndarray]:
        """What `run` takes, of what `detect` takes."""
        of_class = np.full(self.classes, ABOVE_ALL_SCORES, np.float32)
        of_class[self.kept] = settings.score_threshold if thresholds is None else thresholds
        return {
            "images": images.astype(self.pixels, copy=False),
            "sizes": sizes,
            "original_sizes": np.array(original_sizes, np.int64),
            "score_threshold": of_class,
            "iou_threshold": np.array([settings.nms_iou], np.float32),
            "max_detections": np.array([settings.max_detections], np.int64),
        }


class OnnxModel(ExportedModel):
    """By ONNX Runtime, on the CPU."""

    def __init__(self, metadata: Metadata, file: Path, session: Any):
        super().__init__(metadata, file)
        self.session = session

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(list(OUTPUTS), dict(inputs))


class OpenVinoModel(ExportedModel):
    """By OpenVINO, on the CPU."""

    def __init__(self, metadata: Metadata, file: Path, compiled: Any):
        super().__init__(metadata, file)
        self.request = compiled.create_infer_request()

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found = self.request.infer(dict(inputs), share_inputs=True)
        return [np.array(found[name]) for name in OUTPUTS]


def is_exported(path: str | Path) -> bool:
    """Whether the name is that of an exported model's file."""
    return Path(path).suffix.lower() in (ONNX, OPENVINO)


def check_engine(path: str | Path, device: Any, precision: Precision) -> None:
    """Raises: ConfigError if the detector of `path` cannot run on `device` or in `precision`."""
    if is_exported(path) and str(device) != "cpu":
        raise ConfigError(f"{path}: an exported model runs on the cpu, not on {device}")
    if not is_exported(path) and precision != "fp32":
        raise ConfigError(f"precision {precision} is for models of OpenVINO (.xml), not for {path}")


def open_exported(path: str | Path, precision: Precision = "fp32") -> tuple[ExportedModel, Metadata]:
    """The model of a file that `retina export` wrote, on the CPU. precision: bf16 is for OpenVINO alone.

    Raises: CheckpointError if the file cannot be read or is of another program; ConfigError without the package to run it.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; expected a model that retina export wrote")
    if file.suffix.lower() == ONNX:
        if precision != "fp32":
            raise ConfigError(f"precision {precision} is for models of OpenVINO (.xml); {file} is ONNX Runtime's")
        return _open_onnx(file)
    return _open_openvino(file, precision)


def require(package: str, extra: Literal["onnx", "openvino"]) -> Any:
    """Module `package`. Raises: ConfigError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f'{package} is not installed; pip install "retina[{extra}]"') from None


@functools.cache
def openvino_core() -> Any:
    """The one of this process. Raises: ConfigError if OpenVINO is not installed.

    Each sets a stack for signals aside and puts the one before back when it ends: of two that do not end in the reverse
    order of their beginning, one is put back that is gone, and the next signal, such as Ctrl-C, would end the process.
    """
    return require("openvino", "openvino").Core()


def _open_onnx(file: Path) -> tuple[ExportedModel, Metadata]:
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # fatal: what concerns the user is raised
    try:
        check_size(file, MAX_BYTES, CheckpointError)
        session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        record = session.get_modelmeta().custom_metadata_map
        names = {entry.name for entry in (*session.get_inputs(), *session.get_overridable_initializers())}
        results = {entry.name for entry in session.get_outputs()}
    except CheckpointError:
        raise
    except Exception as error:  # the runtime's errors have no base of their own
        raise CheckpointError(f"{file}: is not a readable ONNX file: {one_line(error)}") from None
    metadata = _own(record, file, names, results)
    return OnnxModel(metadata, file, session), metadata


def _open_openvino(file: Path, precision: Precision) -> tuple[ExportedModel, Metadata]:
    core = openvino_core()
    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"{file}: its weights, {weights.name}, do not lie beside it")
    # said in any case: left alone, OpenVINO takes bf16 on a CPU that has it
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
    try:
        for part in (file, weights):
            check_size(part, MAX_BYTES, CheckpointError)
        model = core.read_model(file, weights)
        keys = ("format", "version", "config", "classes", "category_ids", "progress")
        record = {key: model.get_rt_info(["retina", key]).astype(str) for key in keys if _has(model, key)}
        names, results = ({name for end in ends for name in end.names} for ends in (model.inputs, model.outputs))
        metadata = _own(record, file, names, results)
        return OpenVinoModel(metadata, file, core.compile_model(model, "CPU", hint)), metadata
    except RuntimeError as error:
        raise CheckpointError(f"{file}: is not a readable OpenVINO model: {one_line(error)}") from None


def _has(model: Any, key: str) -> bool:
    return model.has_rt_info(["retina", key])


def _own(record: Mapping[str, str], file: Path, inputs: set[str], outputs: set[str]) -> Metadata:
    """The metadata of a model of ours, as it and the names of what it takes and gives tell."""
    if record.get("format") != "retina":
        raise CheckpointError(f"{file}: is a model of another program, expected one written by retina export")
    if absent := {*INPUTS, *OUTPUTS} - inputs - outputs:
        raise CheckpointError(f"{file}: has no {', '.join(sorted(absent))}, expected a model written by retina export")
    return from_record(record, file)
