"""`retina export`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from retinacli import options
from retinacli.failure import fail


class ExportPrecision(StrEnum):
    FP32 = "fp32"
    INT8 = "int8"


class Format(StrEnum):
    OPENVINO = "openvino"
    ONNX = "onnx"


def export_command(
    weights: Annotated[str, Argument(metavar="WEIGHTS", help=options.WEIGHTS)],
    to: Annotated[Format, Option("--to", help="Format of the exported model.")],
    precision: Annotated[
        ExportPrecision, Option(help="Numeric precision; int8 is calibrated on training images and AP measured.")
    ] = ExportPrecision.FP32,
    data: options.Data = None,
    set_: options.Set = None,
    output: Annotated[
        Path | None, options.output("FILE", "File to write.  [default: <WEIGHTS' name>.onnx or .xml]")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Convert a detector to ONNX or OpenVINO.

    The exported model runs without PyTorch. It is written only if its detections match those of the original.
    """
    from retinacli.console import message
    from retinacli.render.export import show_export
    from retinanet.errors import VerificationError
    from retinanet.export.export import SUFFIX, export

    form: Any = to.value
    target = target_file(weights, output, SUFFIX[form])
    try:
        exported = export(weights, form, target, precision.value, data, set_ or [], message)
    except VerificationError as error:
        fail(str(error), 3)
    show_export(exported, json_)


def target_file(weights: str, output: Path | None, suffix: str) -> Path:
    """`output`, or a file in the working folder named after the weights or their run."""
    name = os.path.basename(os.path.realpath(weights))
    target = output or Path(name.removesuffix(".safetensors") + suffix)
    if target.suffix.lower() != suffix:
        fail(f"-o {target}: expected a name that ends in {suffix}", 2)
    for part in (target, target.with_suffix(".bin"))[: 2 if suffix == ".xml" else 1]:
        if part.exists():
            fail(f"{part}: already exists; choose another file with -o", 1)
    return target
