"""Options that several commands share, and how a command ends."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as train.lr=0.005; repeatable.")
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Images at once.")]
SaveCoco = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the detections in COCO's results format.")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout and nothing else.")]
WEIGHTS = "A checkpoint, a run's folder, or coco or coco_v2, torchvision's."
DETECTOR = "A checkpoint, a run's folder, an exported model, or coco or coco_v2, torchvision's."
ARITHMETIC = "Of the arithmetic of an OpenVINO model (.xml).  [default: fp32]"
LONGEST = 2000  # letters of a fault, which may tell of a name that has a million


class Precision(Enum):
    FP32 = "fp32"
    BF16 = "bf16"


class ExportPrecision(Enum):
    FP32 = "fp32"
    INT8 = "int8"


class Format(Enum):
    OPENVINO = "openvino"
    ONNX = "onnx"


def number(low: float, high: float) -> Callable[[str], float]:
    """An option's parser for numbers in `low` to `high`; its error tells the value, which typer's own does not."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise typer.BadParameter(f"{text!r} is not a number in {low:g} to {high:g}")
        return value

    return parse


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, then exit `code`: 1 a file's fault, 2 usage, 3 a threshold not met, 130 interrupted."""
    from retinanet.messages import printable

    line = printable(message)
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    print(f"retina: {line}", file=sys.stderr)
    raise SystemExit(code)


def check_writable(file: Path) -> None:
    """Fail where it can be known before the work that `file` cannot be written."""
    if os.path.isdir(file):
        fail(f"{file}: cannot be written: it is a folder", 1)
    folder = next(folder for folder in file.absolute().parents if os.path.exists(folder))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        fault = "read-only for this user" if os.path.isdir(folder) else "a file"
        fail(f"{file}: cannot be written: {folder} is {fault}", 1)


def overrides(given: Sequence[str] | None, **flags: object) -> list[str]:
    """What --set gives, then the flags that stand for a key of `train`."""
    return [*(given or []), *(f"train.{key}={value}" for key, value in flags.items() if value is not None)]


def show_version(asked: bool) -> None:
    if asked:
        from retinanet import __version__

        print(f"retina {__version__}")
        raise typer.Exit


def class_labels(names: Sequence[str] | None, classes: Sequence[str]) -> list[int] | None:
    """Labels of the classes asked for; None: all. A name may itself hold commas if it is a class as it stands."""
    from retinanet.messages import did_you_mean

    if not names:
        return None
    wanted = [part for name in names for part in ([name] if name in classes else name.split(","))]
    labels = []
    for name in wanted:
        if name not in classes:
            hint = did_you_mean(name, classes) or f"the model knows {', '.join(classes[:10])}"
            fail(f"--classes: unknown class {name!r}; {hint}", 2)
        labels.append(classes.index(name))
    return labels


def tables(names: Sequence[str] | None, values: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The tables asked for, each once."""
    wanted = list(dict.fromkeys(names or ["1b"]))
    for name in wanted:
        if name not in known:
            fail(f"--table: there is no {name!r}; expected {', '.join(known)}", 2)
    if values and len(wanted) > 1:
        fail(
            f"--values: which of the tables {', '.join(wanted)}? Run them one by one; the results are kept together", 2
        )
    return wanted


def check_predict(
    weights: str, score: float | None, thresholds: Path | None, precision: bool, device: str | None
) -> None:
    """Fail where options of `predict` exclude each other. precision: whether it was given."""
    if score is not None and thresholds is not None:
        fail("--score is for all classes, --thresholds for each: give one of them", 2)
    check_engine([weights], "--precision" if precision else None, device)


def check_engine(weights: Sequence[str], precision: str | None, device: str | None) -> None:
    """Fail where exported models are not among `weights` as the options need them, or cannot do what they ask.

    precision: the name of the option that chooses that of OpenVINO, where it was given.
    """
    from retinanet.inference.exported_model import OPENVINO, is_exported

    if precision and not any(Path(each).suffix.lower() == OPENVINO for each in weights):
        fail(f"{precision} is for models of OpenVINO ({OPENVINO}), not for {' or '.join(weights)}", 2)
    for each in weights:
        if is_exported(each) and device not in (None, "auto", "cpu"):
            fail(f"--device {device}: {each} runs on the cpu", 2)


def device(weights: str, name: str | None) -> Any:
    """Where `weights` are to run; what needs no torch does not load it."""
    from retinanet.inference.exported_model import is_exported

    if is_exported(weights):
        return "cpu"
    from retinanet.devices import pick_device

    return pick_device(name or "auto")


def export_target(weights: str, output: Path | None, suffix: str) -> Path:
    """The file that `export` writes: `output`, or one here with the name of the weights or of their run."""
    name = os.path.basename(os.path.realpath(weights))
    target = output or Path(name.removesuffix(".safetensors") + suffix)
    if target.suffix.lower() != suffix:
        fail(f"-o {target}: expected a name that ends in {suffix}", 2)
    for part in (target, target.with_suffix(".bin"))[: 2 if suffix == ".xml" else 1]:
        if part.exists():
            fail(f"{part}: exists; -o names another file", 1)
    return target


def check_anchors(
    config: str | None,
    min_coverage: float | None,
    vis: Path | None,
    output: Path,
    optimize: bool,
    per_cell: int | None,
) -> None:
    """Fail where one option of `anchors` needs another."""
    if config is None and (optimize or min_coverage is not None):
        name = "--optimize" if optimize else "--min-coverage"
        fail(f"{name} looks at the objects of a data set; name a CONFIG, such as bccd.yaml", 2)
    if per_cell is not None and not optimize:
        fail("--per-cell is the number of anchors that --optimize may use; add --optimize", 2)
    if vis is not None and output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        fail(f"-o {output}: expected a name that ends in .png or .jpg", 2)
    if vis is not None and os.path.realpath(output) == os.path.realpath(vis):
        fail(f"-o {output}: is the image itself; expected another name", 2)
