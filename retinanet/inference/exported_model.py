"""Exported models, run by ONNX Runtime or OpenVINO without torch; `retinanet.export.export` describes their files."""

import copy
import importlib
import mmap
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from retinanet.checkpoints.metadata import Metadata, from_record
from retinanet.config.schema import DetectConfig
from retinanet.data.transforms import Resizing
from retinanet.detections import ABOVE_ALL_SCORES, Detections
from retinanet.devices import process_memory
from retinanet.errors import CheckpointError, ConfigError, is_out_of_memory
from retinanet.inference.compiled_models import compile_cached, file_stamps
from retinanet.inference.openvino_precision import fastest_openvino_precision, openvino_hint, openvino_precision
from retinanet.io import file_kinds
from retinanet.io.size_limits import check_size
from retinanet.messages import one_line
from retinanet.precision import Precision, PrecisionChoice, name_precision

ONNX, OPENVINO = ".onnx", ".xml"  # suffixes of the files
INPUTS = ("images", "sizes", "original_sizes", "score_threshold", "iou_threshold", "max_detections")
OUTPUTS = ("boxes", "scores", "labels", "count")
MAX_BYTES = 2**31  # of an ONNX file, and of each of OpenVINO's files; protobuf's limit

CORE_LOCK = Lock()

OPENVINO_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
# in the file of a model that NNCF has quantized
INT8_MARKS = {ONNX: b"DequantizeLinear", OPENVINO: b'type="FakeQuantize"'}


class ExportedModel:
    """An exported file with decoding and NMS inside, run on the CPU, with the methods of `TorchModel`.

    run: runs the graph on the arrays of INPUTS, by name, and returns those of OUTPUTS.
    precision: of the arithmetic; see `name_precision`.
    """

    STAGES = ("network, decode + NMS",)  # the file is one graph
    on_gpu = False
    weights = None  # their number, which the file does not tell

    def __init__(
        self,
        metadata: Metadata,
        file: Path,
        run: Callable[[dict[str, np.ndarray]], list[np.ndarray]],
        precision: str = "fp32",
    ):
        self.file, self.run, self.precision = file, run, precision
        self.dtype = np.float32 if metadata.config.data.resize == "float" else np.uint8  # of `images`
        self.classes = len(metadata.classes)
        self.kept = np.arange(self.classes)  # label in the file of each class to detect

    def resizing(self, configured: Resizing) -> Resizing:
        """`configured`, without torch."""
        return replace(configured, method="float_opencv") if configured.method == "float" else configured

    def copy_for_evaluation(self) -> "ExportedModel":
        """The model itself, since it cannot be trained."""
        return self

    def with_classes(self, labels: Sequence[int]) -> "ExportedModel":
        """A copy that detects only these classes, in this order; their scores do not change."""
        model = copy.copy(self)
        model.kept = self.kept[list(labels)]
        return model

    def detect(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        thresholds: Sequence[float] | None = None,
        observer: Callable[..., object] | None = None,
    ) -> list[Detections]:
        """Like `TorchModel.detect`.

        settings: only score_threshold, nms_iou and max_detections are used; the others are fixed in the file.
        Raises: ValueError for an observer; CheckpointError if the file does not run or its outputs are not detections;
            the engine's own error if memory runs out.
        """
        if observer is not None:
            raise ValueError("an exported model gives no logits to an observer; expected a TorchModel")
        inputs = self.inputs(images, sizes, original_sizes, settings, thresholds)
        own = np.zeros(self.classes, np.int64)  # label in the file -> label among the kept classes
        own[self.kept] = np.arange(len(self.kept))
        try:
            boxes, scores, labels, counts = outputs = self.run(inputs)
        except Exception as error:  # the engines' errors have no common base
            if is_out_of_memory(error):
                raise
            reason = one_line(error, type(error).__name__)
            raise CheckpointError(f"{self.file}: does not run as a model of retina export: {reason}") from None
        if (fault := fault_of_outputs(outputs, len(images), self.classes)) is not None:
            raise CheckpointError(f"{self.file}: does not run as a model of retina export: {fault}")
        return [
            Detections(boxes[i, :count], scores[i, :count], own[labels[i, :count]])
            for i, count in enumerate(counts.tolist())
        ]

    def detect_and_count(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
    ) -> tuple[list[Detections], int | None, int | None]:
        """`detect`, with None for the numbers of anchors and candidates, which the file does not output."""
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
        """Within the context, `detect` calls `mark` before it runs the graph."""
        run = self.run

        def marked_run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            mark()
            return run(inputs)

        self.run = marked_run
        try:
            yield
        finally:
            self.run = run

    def synchronize(self) -> None:
        """Does nothing: `run` is synchronous."""

    def peak_memory(self) -> int:
        """Peak memory of this process in bytes."""
        return process_memory()

    def describe_machine(self) -> str:
        """Description of the CPU."""
        return f"cpu, {os.cpu_count()} cores, {platform.machine()}"


def fault_of_outputs(outputs: Sequence[np.ndarray], batch: int, classes: int) -> str | None:
    """Why the arrays of OUTPUTS are not the detections of `batch` images, or None if they are."""
    rows = outputs[1].shape[1] if outputs[1].ndim == 2 else 0
    shapes = ((batch, rows, 4), (batch, rows), (batch, rows), (batch,))
    for name, output, shape in zip(OUTPUTS, outputs, shapes, strict=True):
        if output.shape != shape or output.dtype.kind != ("f" if name in ("boxes", "scores") else "i"):
            kind = "real numbers" if name in ("boxes", "scores") else "integers"
            return f"its {name} are {output.dtype} of shape {output.shape}, expected {kind} of shape {shape}"
    boxes, scores, labels, count = outputs
    if ((count < 0) | (count > rows)).any():
        return f"its count is {count[(count < 0) | (count > rows)][0]}, expected 0 to {rows}"
    used = np.arange(rows) < count[:, None]  # (B, D)
    if not (np.isfinite(boxes[used]).all() and np.isfinite(scores[used]).all()):
        return "its boxes or scores are not finite"
    if ((scores[used] < 0) | (scores[used] > 1)).any():
        return "a score lies outside 0 to 1"
    if ((labels[used] < 0) | (labels[used] >= classes)).any():
        return f"a label lies outside 0 to {classes - 1}"
    return None


def is_exported(path: str | Path) -> bool:
    """Whether `path` has the suffix of an exported model."""
    return Path(path).suffix.lower() in (ONNX, OPENVINO)


def check_engine(path: str | Path, device: Any, precision: PrecisionChoice) -> None:
    """Raises: ConfigError if the detector of `path` cannot run on `device` in `precision`."""
    if is_exported(path) and str(device) not in ("cpu", "auto"):
        raise ConfigError(f"{path}: an exported model runs on the cpu, not on {device}")
    allowed = OPENVINO_PRECISIONS if Path(path).suffix.lower() == OPENVINO else ("fp32",)
    if is_exported(path) and precision not in (*allowed, "auto"):
        raise ConfigError(f"precision {precision}: {path} runs only in {' or '.join(allowed)}")


def open_exported(path: str | Path, precision: PrecisionChoice = "fp32") -> tuple[ExportedModel, Metadata]:
    """Open a file that `retina export` wrote. precision: of the arithmetic; see `check_engine`.

    Raises: CheckpointError if the file cannot be read or another program wrote it; ConfigError if its runtime is not
        installed.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(
            f"{file}: no such file; expected a model that retina export wrote{file_kinds.similar_file(file)}"
        )
    return _open_onnx(file) if file.suffix.lower() == ONNX else _open_openvino(file, precision)


def require(package: str, extra: Literal["onnx", "openvino"]) -> Any:
    """Import `package` of the extra `extra`. Raises: ConfigError if it is not installed."""
    try:
        with _silent_stderr():  # ONNX Runtime warns here of graphics cards that it cannot use
            return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f'{package} is not installed; pip install "retina-detector[{extra}]"') from None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Inside the context, nothing reaches stderr, not even from C libraries."""
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def openvino_core() -> Any:
    """The only `openvino.Core` of this process. Raises: ConfigError if OpenVINO is not installed.

    Each Core replaces the signal stack and restores the previous one when deleted. With several Cores a freed stack may
    be restored, and the next signal, such as Ctrl-C, would crash the process.
    """
    with CORE_LOCK:  # several threads may open their first model at the same time
        return _core()


@cache
def _core() -> Any:
    return require("openvino", "openvino").Core()


def _open_onnx(file: Path) -> tuple[ExportedModel, Metadata]:
    runtime = require("onnxruntime", "onnx")
    runtime.set_default_logger_severity(4)  # of what is not of a session, such as a search for GPUs
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # fatal only: other errors are raised
    check_size(file, MAX_BYTES, CheckpointError)
    try:
        session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        record = session.get_modelmeta().custom_metadata_map
        names = {entry.name for entry in (*session.get_inputs(), *session.get_overridable_initializers())}
        results = {entry.name for entry in session.get_outputs()}
    except Exception as error:  # the runtime's errors have no common base
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{file}: is not a readable ONNX file: {_reason(file, ONNX, error)}") from None
    metadata = _checked_metadata(record, file, names, results)

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Runs in another thread, since Python hears no signal while the main thread is inside the runtime."""
        run_options = runtime.RunOptions()
        with ThreadPoolExecutor(1) as thread:
            outputs = thread.submit(session.run, list(OUTPUTS), inputs, run_options)
            try:
                return outputs.result()
            except BaseException:
                run_options.terminate = True
                raise

    return ExportedModel(metadata, file, run, name_precision("fp32", _is_int8(file))), metadata


def _open_openvino(file: Path, precision: PrecisionChoice) -> tuple[ExportedModel, Metadata]:
    core = openvino_core()
    import openvino

    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"{file}: its weights, {weights.name}, are not in the same folder")
    metadata = None
    try:
        for part in (file, weights):
            check_size(part, MAX_BYTES, CheckpointError)
        stamps = file_stamps((file, weights))
        model = core.read_model(file, weights)
        keys = ("format", "version", "config", "classes", "category_ids", "progress")
        record = {
            key: model.get_rt_info(["retina", key]).astype(str) for key in keys if model.has_rt_info(["retina", key])
        }
        names, results = ({name for end in ends for name in end.names} for ends in (model.inputs, model.outputs))
        metadata = _checked_metadata(record, file, names, results)
        if precision == "auto":
            precision = fastest_openvino_precision(openvino, core, metadata.config.model.head_channels)
        compiled = compile_cached(openvino, core, model, (file, weights), stamps, openvino_hint(precision))
        request, used = compiled.create_infer_request(), openvino_precision(openvino, compiled)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        kind = "is not a readable OpenVINO model" if metadata is None else f"OpenVINO cannot compute it in {precision}"
        raise CheckpointError(f"{file}: {kind}: {_reason(file, OPENVINO, error)}") from None

    turn = Lock()  # a request serves one thread at a time, and its results are overwritten by the next

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with turn:
            results = request.infer(inputs, share_inputs=True)
            return [np.array(results[name]) for name in OUTPUTS]

    return ExportedModel(metadata, file, run, name_precision(used, _is_int8(file))), metadata


def _is_int8(file: Path) -> bool:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(INT8_MARKS[file.suffix.lower()]) >= 0


def _reason(file: Path, suffix: str, error: Exception) -> str:
    """Why a model with this suffix cannot be read: what the file is, or else the engine's error."""
    own = {ONNX: file_kinds.ONNX, OPENVINO: file_kinds.OPENVINO}[suffix]
    kind = file_kinds.file_kind(file)
    return one_line(error) if kind in (None, own) else f"it is {kind}"


def _checked_metadata(record: Mapping[str, str], file: Path, inputs: set[str], outputs: set[str]) -> Metadata:
    """The metadata of a model. inputs, outputs: names. Raises: CheckpointError if another program wrote it."""
    if record.get("format") != "retina":
        raise CheckpointError(f"{file}: is a model of another program; expected a model that retina export wrote")
    if absent := {*INPUTS, *OUTPUTS} - inputs - outputs:
        raise CheckpointError(f"{file}: has no {', '.join(sorted(absent))}; expected a model that retina export wrote")
    return from_record(record, file)
