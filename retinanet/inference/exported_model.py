"""Exported models at work by ONNX Runtime or OpenVINO, without torch; `retinanet.export.export` says what they take and give."""

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retinanet import devices
from retinanet.checkpoints.metadata import Metadata, from_record
from retinanet.config.schema import DetectConfig
from retinanet.data.transforms import Resizing
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
    """A model file with decoding and suppression inside, which runs on the CPU. Its methods are those of `TorchModel`."""

    STAGES = ("network, decode + NMS",)  # the file is one graph
    on_gpu = False

    def __init__(self, metadata: Metadata, file: Path):
        self.file = file
        self.dtype = np.float32 if metadata.config.data.resize == "float" else np.uint8  # of `images`
        self.classes = len(metadata.classes)
        self.kept = np.arange(self.classes)  # the file's label of each class to detect

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph on INPUTS. Returns: the OUTPUTS."""
        raise NotImplementedError

    def resizing(self, configured: Resizing) -> Resizing:
        """How to resize images for this model if the config says `configured`: never with torch."""
        return replace(configured, method="float_opencv") if configured.method == "float" else configured

    def copy_for_evaluation(self) -> "ExportedModel":
        """The model itself, since it cannot be trained."""
        return self

    def keep_classes(self, labels: Sequence[int]) -> None:
        """Detect only these of the classes, in this order; their scores do not change."""
        self.kept = self.kept[list(labels)]

    def detect(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        thresholds: Sequence[float] | None = None,
        observer: Callable[..., object] | None = None,
    ) -> list[Detections]:
        """Detect objects in each image of a batch.

        Args:
            images, sizes, original_sizes, thresholds: as `TorchModel.detect` takes them.
            settings: only score_threshold, nms_iou and max_detections count; the file fixes the other settings.
            observer: must be None.
        Returns: B of Detections, in pixels of the original images.
        Raises: ValueError for an observer; CheckpointError if the file does not run.
        """
        if observer is not None:
            raise ValueError("an exported model gives no logits to an observer; expected a TorchModel")
        inputs = self.inputs(images, sizes, original_sizes, settings, thresholds)
        own = np.zeros(self.classes, np.int64)  # the label of each of the file's labels
        own[self.kept] = np.arange(len(self.kept))
        try:
            boxes, scores, labels, counts = self.run(inputs)
            return [
                Detections(boxes[i, :count], scores[i, :count], own[labels[i, :count]])
                for i, count in enumerate(counts.tolist())
            ]
        except Exception as error:  # the engines' errors have no common base, and a damaged file may give any outputs
            raise CheckpointError(f"{self.file}: does not run as a model of retina export: {one_line(error)}") from None

    def detect_and_count(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
    ) -> tuple[list[Detections], int | None, int | None]:
        """`detect`, with None for the numbers of anchors and of scores above the threshold, which the file hides."""
        return self.detect(images, sizes, original_sizes, settings), None, None

    def inputs(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        thresholds: Sequence[float] | None = None,
    ) -> dict[str, np.ndarray]:
        """The INPUTS of `run` for the arguments of `detect`."""
        of_class = np.full(self.classes, ABOVE_ALL_SCORES, np.float32)
        of_class[self.kept] = settings.score_threshold if thresholds is None else thresholds
        return {
            "images": images.astype(self.dtype, copy=False),
            "sizes": sizes,
            "original_sizes": np.array(original_sizes, np.int64),
            "score_threshold": of_class,
            "iou_threshold": np.array([settings.nms_iou], np.float32),
            "max_detections": np.array([settings.max_detections], np.int64),
        }

    @contextmanager
    def at_stages(self, mark: Callable[[], None]) -> Iterator[None]:
        """Inside the context, `detect` calls `mark` before it runs the graph."""
        run = self.run

        def marked_run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            mark()
            return run(inputs)

        self.run = marked_run  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.run

    def synchronize(self) -> None:
        """Nothing to wait for: `run` returns when it is done."""

    def peak_memory(self) -> int:
        """Bytes of this process at the peak."""
        return devices.process_memory()

    def describe_machine(self) -> str:
        """The CPU in words."""
        return devices.describe_cpu()


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
        raise ConfigError(f'{package} is not installed; pip install "retina-detector[{extra}]"') from None


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
