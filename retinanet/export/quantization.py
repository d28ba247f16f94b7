"""The network of an exported file in int8, calibrated on images, by NNCF."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.export.onnx_detection import TAIL
from retinanet.inference.detector import Detector
from retinanet.inference.exported_model import OPENVINO, open_exported, openvino_core

CALIBRATION_IMAGES = 300  # NNCF's default
WARNING, FATAL = 2, 4  # severities of ONNX Runtime; WARNING is its default


def quantize(file: Path, images: Dataset) -> None:
    """Replace an exported file by one whose network computes in int8; detection after the network stays in fp32."""
    nncf = _import_nncf()
    model, metadata = open_exported(file)
    detector = Detector(model, metadata)

    def inputs(index: int) -> dict[str, np.ndarray]:
        return model.inputs(*detector.prepare([images.image(index)]), detector.settings)

    chosen = np.random.default_rng(0).permutation(len(images))[:CALIBRATION_IMAGES].tolist()
    calibration = nncf.Dataset(chosen, inputs)
    settings = {"subset_size": len(chosen), "ignored_scope": nncf.IgnoredScope(patterns=[f".*{TAIL}/.*"])}
    written = file.with_stem(f"{file.stem}-int8")  # OpenVINO still reads from `file` while it writes this one
    if file.suffix == OPENVINO:
        import openvino

        quantized = nncf.quantize(openvino_core().read_model(file), calibration, **settings)
        openvino.save_model(quantized, written, compress_to_fp16=False)
    else:
        import onnx

        with _silent_onnxruntime():
            quantized = nncf.quantize(onnx.load(file), calibration, **settings)
        onnx.save(quantized, written)
    for suffix in (".bin", file.suffix):
        if written.with_suffix(suffix).exists():
            os.replace(written.with_suffix(suffix), file.with_suffix(suffix))


def _import_nncf() -> Any:
    """The module, without its telemetry, which it turns on or off once, when it is imported."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    return nncf


@contextmanager
def _silent_onnxruntime() -> Iterator[None]:
    """No warnings of the sessions that NNCF opens: native code writes them, past Python's stderr.

    The previous severity cannot be read, so the default one follows.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(WARNING)
