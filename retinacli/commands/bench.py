"""What `retina bench` does: the stages of one detector, two in turns, or a table over depths and scales."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli import options

if TYPE_CHECKING:
    from retinanet.benchmark.subject import Subject
    from retinanet.paper.speed_table import Row

DEPTHS = (18, 34, 50, 101, 152)
REPEATS_CPU, REPEATS_GPU = 7, 50


class Engine(StrEnum):
    TORCH = "torch"
    ONNX = "onnx"
    OPENVINO = "openvino"


class Baseline(StrEnum):
    TORCHVISION = "torchvision"
    FASTER_RCNN = "faster-rcnn"
    SSD = "ssd"


@dataclass(frozen=True)
class BenchRequest:
    """Each as the option of its name; precision: "fp32" or "bf16"."""

    weights: str | None
    size: int | None
    engine: Any
    precision: Any
    repeats: int
    image: Path | None
    device: Any

    def opened(self, depth: int, size: int | None) -> "AbstractContextManager[Subject]":
        from retinacli import console as render
        from retinanet.benchmark.subject import open_subject

        return open_subject(
            self.weights, self.engine, depth, size, self.image, self.device, self.precision, render.message
        )


def asked(
    weights: str | None,
    size: int | None,
    engine: Engine | None,
    precision: options.Precision | None,
    repeats: int | None,
    image: Path | None,
    device: str | None,
) -> BenchRequest:
    """With what was not given: the engine of the weights, fp32, the device, as many repeats as take some seconds.

    Fails where one option excludes another.
    """
    from retinacli import console as render
    from retinanet.inference.exported_model import OPENVINO, is_exported

    own = Engine.TORCH
    if weights is not None and is_exported(weights):
        own = Engine.OPENVINO if Path(weights).suffix.lower() == OPENVINO else Engine.ONNX
        if engine not in (None, own):
            options.fail(f"--engine {engine}: {weights} is a model for {own}", 2)
    chosen = engine or own
    if precision is not None and chosen is not Engine.OPENVINO:
        options.fail(f"--precision is for --engine openvino, not for {chosen}", 2)
    if chosen is not Engine.TORCH and device not in (None, "auto", "cpu"):
        options.fail(f"--device {device}: {chosen} runs on the cpu", 2)
    place = options.device("", device) if chosen is Engine.TORCH else "cpu"
    if weights is None:
        render.message("no WEIGHTS: a RetinaNet with random weights stands in")
    usual = REPEATS_CPU if str(place) == "cpu" else REPEATS_GPU
    return BenchRequest(
        weights, size, chosen.value, precision.value if precision else "fp32", repeats or usual, image, place
    )


def check(
    weights: str | None,
    size: int | None,
    against: Baseline | None,
    depth: Sequence[int],
    scale: Sequence[int],
    data: str | None,
) -> None:
    """Fail where an option belongs to another kind of measurement."""
    unknown = [value for value in depth if value not in DEPTHS]
    if unknown:
        options.fail(f"--depth {unknown[0]}: there is no such ResNet; expected {', '.join(map(str, DEPTHS))}", 2)
    if depth and weights is not None:
        options.fail(f"--depth is for random weights; {weights} has its own", 2)
    if size is not None and scale:
        options.fail("--size is one size, --scale the sizes of a table: give one of them", 2)
    if against is not None and (scale or len(depth) > 1):
        options.fail("--against is for one detector at one size: give --size N, and at most one --depth", 2)
    if data is not None and (weights is None or not scale):
        options.fail("--data is where the table's AP is measured; it needs WEIGHTS and --scale", 2)


def stages(a: BenchRequest, json_: bool) -> None:
    """From the image file to its objects."""
    from retinacli import console as render
    from retinacli.render import bench as render_bench
    from retinanet.benchmark import timing as bench

    with a.opened(50, a.size) as subject, render.counter("runs") as progress:
        work = bench.workload(subject.detector, subject.image)
        speed = bench.time_stages(subject.detector, subject.file, a.repeats, progress)
        about = render_bench.about(a, subject)
    if json_:
        print(json.dumps(render_bench.stages_document(about, work, speed)))
    else:
        render_bench.stages_table(about, work, speed)


def race(a: BenchRequest, peer: Baseline, depth: int, json_: bool) -> None:
    """Beside one of torchvision's."""
    from retinacli import console as render
    from retinacli.render import bench as render_bench
    from retinanet.benchmark import timing as bench
    from retinanet.benchmark.random_detector import CANDIDATES
    from retinanet.benchmark.torchvision_detectors import make_baseline

    with a.opened(depth, a.size) as subject, render.counter("pairs") as progress:
        work = bench.workload(subject.detector, subject.image)
        detector = subject.detector
        sides = detector.data.short_side, detector.data.long_side
        candidates = CANDIDATES if work.candidates is None else max(1, work.candidates)
        other = make_baseline(peer.value, len(detector.classes), subject.image, *sides, candidates, a.device)
        found = bench.time_pairs(detector, other.predict, subject.image, a.repeats, progress)
        about = render_bench.about(a, subject)
    if json_:
        print(json.dumps(render_bench.race_document(about, work, other, found)))
    else:
        render_bench.race_table(about, work, other, found)


def table(a: BenchRequest, depths: Sequence[int], scales: Sequence[int], data: str | None, json_: bool) -> None:
    """Table 1e. Each row of random weights has its own: at another scale far more or fewer scores would pass."""
    from retinacli import console as render
    from retinacli.render import bench as render_bench
    from retinanet.paper import speed_table as speedtable

    found: list[speedtable.Row] = []
    together = [[scale] for scale in scales] if scales and a.weights is None else [scales]
    for depth, some in product(depths, together):
        with a.opened(depth, some[0] if some and a.weights is None else a.size) as subject:
            sizes = some or [subject.detector.data.short_side]
            with render.counter("runs") as progress:
                rows = speedtable.rows(
                    subject.detector, subject.detector.backbone, subject.image, sizes, a.repeats, progress
                )
            found += rows if a.weights is None else _with_ap(rows, subject.path, a, data)
            about = render_bench.about(a, subject)
    if json_:
        print(json.dumps(render_bench.table_document(about, found)))
    else:
        render_bench.table(about, found)


def _with_ap(rows: "list[Row]", path: str, a: BenchRequest, data: str | None) -> "list[Row]":
    """The rows as they are, with a message, where the weights' own data is not at hand."""
    from retinacli import console as render
    from retinanet.errors import ConfigError, DataError
    from retinanet.paper.speed_table import with_ap

    try:
        with render.counter("images") as progress:
            return with_ap(rows, path, data, a.device, a.precision, progress)
    except (ConfigError, DataError) as error:
        if data is not None:
            raise
        render.message(f"no AP without data; --data CONFIG names some: {error}")
        return rows
