"""Options that several commands share."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from retinacli.failure import fail
from retinanet.precision import PrecisionChoice

WEIGHTS = "Checkpoint, folder of a run, or coco or coco_v2 for torchvision's published weights."
DETECTOR = "Checkpoint, folder of a run, exported model, or coco or coco_v2 for torchvision's published weights."
RESULTS = f"{DETECTOR[:-1]}; or a COCO results file (.json) of any program."

Engine = Literal["torch", "onnx", "openvino"]
PRECISIONS: dict[Engine, tuple[PrecisionChoice, ...]] = {
    "torch": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "bf16"),
}
FIGURES = (".png", ".pdf", ".svg")
CLASSES_FROM_HELP = "The results file's category ids number the data's classes, from 0 or from 1."
PRECISION_HELP = (
    "Numeric precision of the network; fp16 on a GPU, bf16 also of OpenVINO models. auto measures whether fp32 or bf16 "
    "is faster here.  [default: fp32, so that results do not depend on the machine]"
)

Config = Annotated[
    str, Argument(metavar="CONFIG", help="YAML config file, or the name of a shipped example such as coco.yaml.")
]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE...", help="Override keys of the config, such as train.lr=0.005 train.seed=1."),
]
Epochs = Annotated[
    int | None, Option(metavar="N", help="Number of passes over the training images.  [default: train.epochs]")
]
Data = Annotated[str | None, Option(metavar="CONFIG", help="Config file whose data set replaces the checkpoint's.")]
Split = Annotated[str, Option(metavar="NAME", help="Split: train, val or another of the data set, such as test.")]
BatchSize = Annotated[int, Option(min=1, metavar="N", help="Number of images per batch.")]
SaveCoco = Annotated[Path | None, Option(metavar="FILE", help="Save the detections in COCO's results format (JSON).")]
NetworkPrecision = Annotated[PrecisionChoice | None, Option(help=PRECISION_HELP)]
ClassesFrom = Annotated[int | None, Option(min=0, max=1, metavar="0|1", help=CLASSES_FROM_HELP)]
Device = Annotated[str | None, Option(metavar="NAME", help="Device: auto (the default), cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, Option("--json", help="Print the result to stdout as one JSON document.")]


def output(metavar: str, help_: str) -> Any:
    """The option -o."""
    return Option("-o", "--output", metavar=metavar, help=help_)


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers from `low` to `high` whose error quotes the value, unlike typer's."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise typer.BadParameter(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse


def check_figure(option: str, file: Path) -> None:
    """Fail unless `file`, the value of `option`, has the suffix of a figure."""
    if file.suffix.lower() not in FIGURES:
        fail(f"{option} {file}: expected a name that ends in {', '.join(FIGURES[:-1])} or {FIGURES[-1]}", 2)


def overrides(given: Sequence[str] | None, **flags: object) -> list[str]:
    """The values of --set, then those of flags that override a key of `train`."""
    return [*(given or []), *(f"train.{key}={value}" for key, value in flags.items() if value is not None)]


def engine_of(weights: str) -> Engine:
    """The library that runs `weights`."""
    from retinanet.inference.exported_model import ONNX, OPENVINO

    engines: dict[str, Engine] = {ONNX: "onnx", OPENVINO: "openvino"}
    return engines.get(Path(weights).suffix.lower(), "torch")


def check_exported(weights: Sequence[str], precision: PrecisionChoice | None, device: str | None) -> None:
    """Fail if an option does not fit the exported models in `weights`."""
    for each in weights:
        engine = engine_of(each)
        if precision not in (None, "auto", *PRECISIONS[engine]):
            fail(f"--precision {precision}: {each} runs only in {' or '.join(PRECISIONS[engine])}", 2)
        if engine != "torch" and device not in (None, "auto", "cpu"):
            fail(f"--device {device}: the exported model {each} runs only on the CPU", 2)


def device_and_precision(
    weights: str, device: str | None, precision: PrecisionChoice | None
) -> tuple[Any, PrecisionChoice]:
    """The device and the numeric precision to run `weights` with; imports torch only if needed."""
    precision = precision or "fp32"
    if engine_of(weights) != "torch":
        return "cpu", precision
    from retinanet.devices import pick_device

    return pick_device(device or "auto"), precision
