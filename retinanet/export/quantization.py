"""The network of an exported file in int8, calibrated on images, by NNCF."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.export.onnx_detection import TAIL
from retinanet.inference.detector import Detector
from retinanet.inference.exported_model import OPENVINO, open_exported, openvino_core

CALIBRATION_IMAGES = 300  # NNCF's default
WARNING, FATAL = 2, 4  # severities of ONNX Runtime; WARNING is its default


def quantize(file: Path, images: Dataset) -> Path:
    """Write an exported file anew with a network that computes in int8; detection after the network stays in fp32.

    Returns: the new file, beside `file`.
    """
    nncf = _import_nncf()
    model, metadata = open_exported(file)
    detector = Detector(model, metadata)

    def inputs(index: int) -> dict[str, np.ndarray]:
        return model.inputs(*detector.prepare([images.image(index)]), detector.settings)

    chosen = np.random.default_rng(0).permutation(len(images))[:CALIBRATION_IMAGES].tolist()
    calibration = nncf.Dataset(chosen, inputs)
    settings = {"subset_size": len(chosen), "ignored_scope": nncf.IgnoredScope(patterns=[f".*{TAIL}/.*"])}
    written = file.with_stem(f"{file.stem}-int8")
    if file.suffix == OPENVINO:
        import openvino

        quantized = nncf.quantize(openvino_core().read_model(file), calibration, **settings)
        openvino.save_model(quantized, written, compress_to_fp16=False)
    else:
        import onnx
        import onnxruntime

        # the sessions that NNCF opens warn in native code, past Python's stderr
        onnxruntime.set_default_logger_severity(FATAL)
        try:
            quantized = nncf.quantize(onnx.load(file), calibration, **settings)
        finally:
            onnxruntime.set_default_logger_severity(WARNING)  # the previous severity cannot be read
        onnx.save(quantized, written)
    return written


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
