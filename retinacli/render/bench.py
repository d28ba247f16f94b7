"""What `retina bench` shows."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli import console as render

if TYPE_CHECKING:
    from retinacli.commands.bench import BenchRequest
    from retinanet.benchmark.subject import Subject
    from retinanet.benchmark.timing import PairedTiming, Speed, Workload
    from retinanet.benchmark.torchvision_detectors import BaselineDetector
    from retinanet.paper.speed_table import Row

PACKAGES = {"torch": ("torch", "torchvision"), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
DASH = "\u2013"
STAGES = {
    "decode": "{file} to RGB",
    "resize": "to {size}, padded to {padded}",
    "trunk": "normalisation, C3 to C5",
    "FPN": "P3 to P7",
    "subnets": "classes and boxes of {anchors} anchors",
    "decode + NMS": "{candidates}{detections} detections",
    "network, decode + NMS": "{detections} detections",
}


def about(asked: "BenchRequest", subject: "Subject") -> dict[str, Any]:
    """What was measured, and on what."""
    detector, (height, width) = subject.detector, subject.image.shape[:2]
    named = asked.engine != "torch" and subject.path == asked.weights
    versions = {package: version(package) for package in ("torch", *PACKAGES[asked.engine])}
    return {
        "weights": asked.weights,
        "trunk": subject.detector.backbone,
        "classes": len(detector.classes),
        "engine": asked.engine,
        # whether a file that exists already is int8 is not told in it
        "precision": None if named and asked.precision == "fp32" else asked.precision,
        "score_threshold": detector.settings.score_threshold,
        "image": {
            "file": str(asked.image) if asked.image else None,
            "width": width,
            "height": height,
            "bytes": subject.file.stat().st_size,
        },
        "repeats": asked.repeats,
        "exported_for_this": asked.engine != "torch" and not named,
        "machine": {"device": detector.model.describe_machine(), "place": str(asked.device), "versions": versions},
    }


def stages_document(about: dict[str, Any], work: "Workload", speed: "Speed") -> dict[str, Any]:
    return about | {
        "work": _work(work),
        "stages": [{"stage": name, "ms": ms} for name, ms in speed.stages.items()],
        "ms": speed.total,
        "images_per_second": 1000 / speed.total,
        "peak_memory": speed.memory,
    }


def stages_table(about: dict[str, Any], work: "Workload", speed: "Speed") -> None:
    image = about["image"]
    name = Path(image["file"]).name if image["file"] else "JPEG"
    words = {
        "file": f"{name}, {image['width']} x {image['height']}, {image['bytes'] / 1000:.0f} kB,",
        "size": _size(work.size),
        "padded": _size(work.padded),
        "anchors": f"{work.anchors or 0:,}",
        "candidates": _candidates(about, work),
        "detections": work.detections,
    }
    made = render.table(
        f"{_detector(about)}, {_weights(about)}: {_medians(about)}", "stage", "", "ms", "share", text_columns=2
    )
    for name, ms in speed.stages.items():
        render.row(made, name, STAGES[name].format(**words), _ms(ms), f"{100 * ms / speed.total:.1f} %")
    made.add_section()
    render.row(made, "in all", f"{1000 / speed.total:.3g} images/s", _ms(speed.total), "")
    render.print_table(made)
    whose = "GPU" if about["machine"]["place"].startswith("cuda") else "process"
    export = ", with the export" if about["exported_for_this"] else ""
    print(f"peak memory of the {whose}{export}: {speed.memory / 2**30:.2f} GiB")
    print(_machine(about))


def race_document(
    about: dict[str, Any], work: "Workload", other: "BaselineDetector", race: "PairedTiming"
) -> dict[str, Any]:
    height, width = other.padded
    return about | {
        "work": _work(work),
        "against": {
            "name": other.name,
            "classes": other.classes,
            "padded": {"width": width, "height": height},
            "detections": other.detections,
        },
        "ms": race.ours,
        "against_ms": race.theirs,
        "ratio": race.ratio,
    }


def race_table(about: dict[str, Any], work: "Workload", other: "BaselineDetector", race: "PairedTiming") -> None:
    title = f"From pixels to objects, in turns: {_medians(about)}"
    made = render.table(title, "detector", "classes", "network sees", "detections", "ms")
    render.row(made, _detector(about), about["classes"], _size(work.padded), work.detections, _ms(race.ours))
    theirs = f"torchvision's {other.name}"
    render.row(made, theirs, other.classes, _size(other.padded), other.detections, _ms(race.theirs))
    render.print_table(made)
    print(f"torchvision's takes {race.ratio:.2f} times as long (median of the pairs)")
    for note in (*_notes(about, work, other), _machine(about)):
        print(note)


def table_document(about: dict[str, Any], rows: "Sequence[Row]") -> dict[str, Any]:
    common = {key: value for key, value in about.items() if key != "trunk"}
    return common | {
        "rows": [
            {
                "trunk": row.trunk,
                "scale": row.scale,
                "work": _work(row.work),
                "ms": row.ms,
                "AP": row.ap,
                "paper": {"ms": row.paper[0], "AP": row.paper[1]} if row.paper else None,
            }
            for row in rows
        ]
    }


def table(about: dict[str, Any], rows: "Sequence[Row]") -> None:
    measured = any(row.ap is not None for row in rows)
    counted = any(row.work.candidates is not None for row in rows)
    scores, ap = [f"scores\nabove {about['score_threshold']:g}"] * counted, ["AP"] * measured
    columns = ("trunk", "scale", "network\nsees", *scores, "ms", *ap, "paper's\nms", "paper's\nAP")
    made = render.table(f"Table 1e of the paper, from pixels to objects: {_medians(about)}", *columns)
    for row in rows:
        scores = [f"{row.work.candidates:,}"] if row.work.candidates is not None else []
        ap = [f"{100 * row.ap:.1f}"] if row.ap is not None else []
        paper = row.paper or (DASH, DASH)
        render.row(made, row.trunk, row.scale, _size(row.work.padded), *scores, _ms(row.ms), *ap, *paper)
    render.print_table(made)
    print("paper: on an Nvidia M40, AP on COCO test-dev")
    print(f"{_weights(about)}; {_arithmetic(about)}; {_machine(about)}")


def _notes(about: dict[str, Any], work: "Workload", other: "BaselineDetector") -> list[str]:
    """What to know before the two are compared."""
    from retinanet.benchmark.torchvision_detectors import THRESHOLD

    retinanet = other.name.startswith("retinanet")
    here = f"here {_weights(about)}"
    if work.candidates is not None:
        here += f", {work.candidates:,} scores above {about['score_threshold']:g}"
    theirs = f", {other.candidates:,} scores above {THRESHOLD:g}" if other.candidates is not None else ""
    notes = [f"{here}; torchvision's has random weights{theirs}"]
    if retinanet and about["trunk"] != "resnet50":
        notes.append(f"not the same network: {about['trunk']} against resnet50")
    elif other.name.startswith("fasterrcnn"):
        notes.append(
            "paper, section 5.2, on an Nvidia M40: RetinaNet-101-600 122 ms, Faster R-CNN with FPN of equal AP 172 ms"
        )
    elif other.name.startswith("ssd"):
        notes.append("SSD scales every picture to 300 x 300 pixels")
    return notes


def _detector(about: dict[str, Any]) -> str:
    return f"RetinaNet {about['trunk']}, {_arithmetic(about)}"


def _arithmetic(about: dict[str, Any]) -> str:
    return " ".join(filter(None, (about["engine"], about["precision"])))


def _weights(about: dict[str, Any]) -> str:
    return about["weights"] or "random weights"


def _medians(about: dict[str, Any]) -> str:
    return f"medians of {about['repeats']} runs" if about["repeats"] > 1 else "one run"


def _machine(about: dict[str, Any]) -> str:
    machine = about["machine"]
    return ", ".join([machine["device"], *(" ".join(package) for package in machine["versions"].items())])


def _candidates(about: dict[str, Any], work: "Workload") -> str:
    return f"{work.candidates:,} scores above {about['score_threshold']:g}; " if work.candidates is not None else ""


def _work(work: "Workload") -> dict[str, Any]:
    sides = {"size": work.size, "padded": work.padded}
    return {name: {"width": width, "height": height} for name, (height, width) in sides.items()} | {
        "anchors": work.anchors,
        "candidates": work.candidates,
        "detections": work.detections,
    }


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width} x {height}"


def _ms(ms: float) -> str:
    return f"{ms:.1f}"
