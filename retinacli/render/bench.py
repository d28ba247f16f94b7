"""Shows speed measurements: the stages of a detector, two detectors in turns, the paper's table 1e."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli.console import DASH, print_json, print_table
from retinacli.render.detector_facts import facts_document, facts_table, millions

if TYPE_CHECKING:
    from retinanet.benchmark.subject import Subject
    from retinanet.benchmark.timing import PairedTiming, Speed, Workload
    from retinanet.benchmark.torchvision_detectors import TorchvisionDetector
    from retinanet.evaluation.detector_facts import DetectorFacts
    from retinanet.paper.speed_table import Row

PACKAGES = {"torch": ("torch", "torchvision"), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
STAGES = {
    "decode": "{file} to RGB",
    "resize": "to {size}, padded to {padded}",
    "trunk": "normalisation, C3 to C5",
    "FPN": "P3 to P7",
    "subnets": "classes and boxes of {anchors} anchors",
    "decode + NMS": "{candidates}{detections} detections",
    "network, decode + NMS": "{detections} detections",
}


def measurement(
    subject: "Subject", weights: str | None, engine: str, repeats: int, image: Path | None, device: Any, **_: object
) -> dict[str, Any]:
    """The measured detector and the machine; part of every document."""
    detector, (height, width, _) = subject.detector, subject.image.shape
    own_file = engine != "torch" and subject.path == weights
    versions = {package: version(package) for package in ("torch", *PACKAGES[engine])}
    return {
        "weights": weights,
        "trunk": detector.backbone,
        "classes": len(detector.classes),
        "engine": engine,
        "precision": detector.model.precision,
        "score_threshold": detector.settings.score_threshold,
        "image": {
            "file": str(image) if image else None,
            "width": width,
            "height": height,
            "bytes": subject.file.stat().st_size,
        },
        "repeats": repeats,
        "exported_for_this": engine != "torch" and not own_file,
        "machine": {"device": detector.model.describe_machine(), "place": str(device), "versions": versions},
    }


def show_stages(measured: dict[str, Any], workload: "Workload", speed: "Speed", as_json: bool) -> None:
    if as_json:
        stages = [{"stage": name, "ms": ms} for name, ms in speed.stages.items()]
        times = {"ms": speed.total, "images_per_second": 1000 / speed.total, "peak_memory": speed.memory}
        print_json(measured | {"work": _work(workload), "stages": stages} | times)
        return
    image = measured["image"]
    file = Path(image["file"]).name if image["file"] else "JPEG"
    words = {
        "file": f"{file}, {image['width']} x {image['height']}, {image['bytes'] / 1000:.0f} kB,",
        "size": _size(workload.size),
        "padded": _size(workload.padded),
        "anchors": f"{workload.anchors or 0:,}",
        "candidates": "" if workload.candidates is None else f"{_candidates(measured, workload)}; ",
        "detections": workload.detections,
    }
    title = f"{_detector(measured)}, {_weights(measured)}: {_medians(measured)}"
    rows = (
        (name, STAGES[name].format(**words), f"{ms:.1f}", f"{100 * ms / speed.total:.1f} %")
        for name, ms in speed.stages.items()
    )
    total = ("total", f"{1000 / speed.total:.3g} images/s", f"{speed.total:.1f}", "")
    print_table(title, ("stage", "", "ms", "share"), rows, [total], text_columns=2)
    owner = "GPU" if measured["machine"]["place"].startswith("cuda") else "process"
    export = ", including the export" if measured["exported_for_this"] else ""
    print(f"peak memory of the {owner}{export}: {speed.memory / 2**30:.2f} GiB")
    print(_machine(measured))


def show_pair(
    measured: dict[str, Any],
    workload: "Workload",
    own: "DetectorFacts",
    other: "TorchvisionDetector",
    timing: "PairedTiming",
    as_json: bool,
) -> None:
    """Show the times of a detector and a torchvision detector. own: facts of the former, without a time."""
    facts = replace(own, ms_per_image=timing.ours), replace(other.facts, ms_per_image=timing.theirs)
    names = _detector(measured), f"torchvision's {other.name}, torch fp32"
    if as_json:
        height, width = other.padded
        against = {
            "name": other.name,
            "trunk": other.backbone,
            "precision": "fp32",
            "classes": other.classes,
            "padded": {"width": width, "height": height},
            "detections": other.detections,
        }
        times = {"ms": timing.ours, "against_ms": timing.theirs, "ratio": timing.ratio}
        print_json(measured | {"work": _work(workload), "against": against} | times | facts_document(names, facts))
        return
    title = f"From pixels to detections, in turns: {_medians(measured)}"
    ours = (names[0], measured["classes"], _size(workload.padded))
    theirs = (names[1], other.classes, _size(other.padded))
    facts_table(title, (ours, theirs), facts, "detector", "classes", "input size")
    print(f"torchvision's takes {timing.ratio:.2f} times as long (median of the pairs)")
    for note in (*_notes(measured, workload, own, other), _machine(measured)):
        print(note)


def show_table(measured: dict[str, Any], rows: "Sequence[Row]", as_json: bool) -> None:
    """Show table 1e beside the paper's numbers."""
    if as_json:
        common = {key: value for key, value in measured.items() if key != "trunk"}
        print_json(common | {"rows": [_row_document(each) for each in rows]})
        return
    with_ap = any(each.ap is not None for each in rows)
    with_scores = any(each.work.candidates is not None for each in rows)
    scores, ap = [f"scores\nabove {measured['score_threshold']:g}"] * with_scores, ["AP"] * with_ap
    columns = ("backbone", "scale", "input\nsize", "weights", *scores, "detec-\ntions", "ms", *ap)
    cells = []
    for each in rows:
        scores = [f"{each.work.candidates:,}"] if each.work.candidates is not None else []
        ap = [f"{100 * each.ap:.1f}"] if each.ap is not None else []
        size, weights = _size(each.work.padded), millions(each.weights)
        speed = (*scores, each.work.detections, f"{each.ms:.1f}", *ap, *(each.paper or (DASH, DASH)))
        cells.append((each.trunk, each.scale, size, weights, *speed))
    title = f"Table 1e of the paper, from pixels to detections: {_medians(measured)}"
    print_table(title, (*columns, "paper's\nms", "paper's\nAP"), cells)
    print("the paper's times are from an Nvidia M40, its AP is from COCO test-dev")
    print(f"{_weights(measured)}; {_engine(measured)}; {_machine(measured)}")


def _row_document(each: "Row") -> dict[str, Any]:
    paper = each.paper and {"ms": each.paper[0], "AP": each.paper[1]}
    times = {"weights": each.weights, "ms": each.ms, "AP": each.ap, "paper": paper}
    return {"trunk": each.trunk, "scale": each.scale, "work": _work(each.work)} | times


def _notes(
    measured: dict[str, Any], workload: "Workload", own: "DetectorFacts", other: "TorchvisionDetector"
) -> list[str]:
    """Notes for a fair comparison."""
    from retinanet.benchmark.torchvision_detectors import THRESHOLD
    from retinanet.paper.speed_accuracy import SECTION_5_2

    ours = _weights(measured)
    if workload.candidates is not None:
        ours += f", {_candidates(measured, workload)}"
    theirs = f", {other.candidates:,} scores above {THRESHOLD:g}" if other.candidates is not None else ""
    notes = [f"RetinaNet: {ours}; torchvision's: random weights{theirs}"]
    if measured["trunk"] != other.backbone:
        notes.append(f"the backbones differ: {measured['trunk']} and {other.backbone}")
    if other.name == "fasterrcnn_resnet101_fpn" and own.resolution is not None and own.resolution[0] == 600:
        notes.append(
            f"paper, section 5.2, with ResNet-101 on an Nvidia M40: RetinaNet {SECTION_5_2['focal']} ms at 600 pixels, "
            f"Faster R-CNN {SECTION_5_2['faster-rcnn']} ms at equal AP and the 800 pixels of its own paper; here both "
            "have the same resolution"
        )
    elif other.name.startswith("ssd"):
        notes.append("SSD resizes every image to 300 x 300 pixels")
    return notes


def _detector(measured: dict[str, Any]) -> str:
    return f"RetinaNet {measured['trunk']}, {_engine(measured)}"


def _engine(measured: dict[str, Any]) -> str:
    return f"{measured['engine']} {measured['precision']}"


def _weights(measured: dict[str, Any]) -> str:
    return measured["weights"] or "random weights"


def _medians(measured: dict[str, Any]) -> str:
    return f"medians of {measured['repeats']} runs" if measured["repeats"] > 1 else "one run"


def _machine(measured: dict[str, Any]) -> str:
    machine = measured["machine"]
    return ", ".join([machine["device"], *(" ".join(package) for package in machine["versions"].items())])


def _candidates(measured: dict[str, Any], workload: "Workload") -> str:
    return f"{workload.candidates:,} scores above {measured['score_threshold']:g}"


def _work(workload: "Workload") -> dict[str, Any]:
    sides = {"size": workload.size, "padded": workload.padded}
    return {name: {"width": width, "height": height} for name, (height, width) in sides.items()} | {
        "anchors": workload.anchors,
        "candidates": workload.candidates,
        "detections": workload.detections,
    }


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width} x {height}"
