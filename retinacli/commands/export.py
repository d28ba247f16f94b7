"""`retina export`."""

import os
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from retinacli import options
from retinacli.failure import check_writable, fail


def export_command(
    weights: Annotated[str, Argument(metavar="WEIGHTS", help=options.WEIGHTS)],
    to: Annotated[Literal["openvino", "onnx"], Option("--to", help="Format of the exported model.")],
    precision: Annotated[
        Literal["fp32", "int8"],
        Option(help="Numeric precision; int8 is calibrated on training images and AP measured."),
    ] = "fp32",
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

    name = os.path.basename(os.path.realpath(weights)).removesuffix(".safetensors")
    target = output or Path(name + SUFFIX[to])
    if target.suffix.lower() != SUFFIX[to]:
        fail(f"-o {target}: expected a name that ends in {SUFFIX[to]}", 2)
    for file in (target, target.with_suffix(".bin")) if to == "openvino" else (target,):
        if file.exists():
            fail(f"{file}: already exists; choose another file with -o", 1)
        check_writable(file)
    try:
        exported = export(weights, to, target, precision, data, set_ or [], message)
    except VerificationError as error:
        fail(str(error), 3)
    show_export(exported, json_)
