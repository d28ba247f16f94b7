"""`retina bench`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from retinacli import options
from retinacli.failure import fail

if TYPE_CHECKING:
    from retinanet.benchmark.subject import Subject
    from retinanet.paper.speed_table import Row

DEPTHS = (18, 34, 50, 101, 152)
Architecture = Literal["torchvision", "faster-rcnn", "ssd"]
REPEATS_CPU, REPEATS_GPU = 7, 50
WEIGHTS_HELP = f"{options.DETECTOR}  [default: random weights]"
AGAINST_HELP = "Compare with this detector of torchvision, in turns, on the same ResNet where ours has one."
REPEATS_HELP = f"Number of timed runs.  [default: {REPEATS_CPU}; on a GPU {REPEATS_GPU}]"


@dataclass(frozen=True)
class BenchRequest:
    """The options, with defaults filled in."""

    weights: str | None
    engine: options.Engine
    precision: options.PrecisionChoice
    repeats: int
    image: Path | None
    device: Any

    def open(self, depth: int, size: int | None) -> "AbstractContextManager[Subject]":
        """Open the detector and the image. depth: of the backbone with random weights."""
        from retinacli.console import message
        from retinanet.benchmark.subject import open_subject

        return open_subject(self.weights, self.engine, depth, size, self.image, self.device, self.precision, message)


def bench_command(
    weights: Annotated[str | None, Argument(metavar="WEIGHTS", help=WEIGHTS_HELP, show_default=False)] = None,
    size: Annotated[
        int | None, Option(min=32, max=8192, metavar="N", help="Short side in pixels.  [default: the detector's, 800]")
    ] = None,
    engine: Annotated[
        options.Engine | None,
        Option(help="Library that runs the model.  [default: torch, or that of the exported model]"),
    ] = None,
    precision: options.NetworkPrecision = None,
    repeats: Annotated[int | None, Option(min=1, metavar="N", help=REPEATS_HELP)] = None,
    image: Annotated[Path | None, Option(metavar="FILE", help="Image to use.  [default: a synthetic one]")] = None,
    against: Annotated[Architecture | None, Option(help=AGAINST_HELP)] = None,
    depth: Annotated[
        list[int] | None, Option(metavar="N...", help="Table 1e: depths of the ResNet backbone, such as 50 101.")
    ] = None,
    scale: Annotated[
        list[int] | None, Option(min=32, max=8192, metavar="N...", help="Table 1e: short sides, such as 400 600 800.")
    ] = None,
    data: Annotated[
        str | None, Option(metavar="CONFIG", help="Config file whose data set to measure AP on in table 1e.")
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Measure how long a detector takes for one image.

    Reports the time of each stage. --against compares with another detector. --depth and --scale print the paper's
    table 1e: the time and, given WEIGHTS, the AP at several depths and scales.
    """
    depths, scales = depth or [], scale or []
    if unknown := [depth for depth in depths if depth not in DEPTHS]:
        fail(f"--depth {unknown[0]}: there is no such ResNet; expected {', '.join(map(str, DEPTHS))}", 2)
    if depths and weights is not None:
        fail(f"--depth is for random weights; it cannot be combined with {weights}", 2)
    if size is not None and scales:
        fail("--size sets one size, --scale the sizes of a table; use only one of them", 2)
    if against is not None and (scales or len(depths) > 1):
        fail("--against compares at one size and depth; use --size N and at most one --depth", 2)
    if data is not None and (weights is None or not scales):
        fail("--data sets where the table's AP is measured; it needs WEIGHTS and --scale", 2)
    request = make_request(weights, engine, precision, repeats, image, device)
    if against is not None:
        measure_pair(request, against, (depths or [50])[0], size, json_)
    elif depths or scales:
        measure_table(request, size, depths or [50], scales, data, json_)
    else:
        measure_stages(request, size, json_)


def make_request(
    weights: str | None,
    engine: options.Engine | None,
    precision: options.PrecisionChoice | None,
    repeats: int | None,
    image: Path | None,
    device: str | None,
) -> BenchRequest:
    """Fill in the defaults; fail if options contradict each other."""
    from retinacli.console import message

    own = options.engine_of(weights or "")
    if own != "torch" and engine not in (None, own):
        fail(f"--engine {engine}: {weights} is a model for {own}", 2)
    chosen = engine or own
    if precision not in (None, "auto", *options.PRECISIONS[chosen]):
        fail(f"--precision {precision}: {chosen} runs only in {' or '.join(options.PRECISIONS[chosen])}", 2)
    if chosen != "torch" and device not in (None, "auto", "cpu"):
        fail(f"--device {device}: {chosen} runs only on the CPU", 2)
    place: Any = "cpu"
    if chosen == "torch":
        from retinanet.devices import pick_device

        place = pick_device(device or "auto")
    if weights is None:
        message("no WEIGHTS: measuring a RetinaNet with random weights")
    default = REPEATS_CPU if str(place) == "cpu" else REPEATS_GPU
    return BenchRequest(weights, chosen, precision or "fp32", repeats or default, image, place)


def measure_stages(request: BenchRequest, size: int | None, json_: bool) -> None:
    """Time each stage from the image file to the detections."""
    from retinacli.console import counter
    from retinacli.render.bench import measurement, show_stages
    from retinanet.benchmark.timing import time_stages, workload

    with request.open(50, size) as subject, counter("runs") as progress:
        work = workload(subject.detector, subject.image)
        speed = time_stages(subject.detector, subject.file, request.repeats, progress)
        measured = measurement(subject, **vars(request))
    show_stages(measured, work, speed, json_)


def measure_pair(request: BenchRequest, against: Architecture, depth: int, size: int | None, json_: bool) -> None:
    """Time a detector and a torchvision detector in turns."""
    from retinacli.console import counter
    from retinacli.render.bench import measurement, show_pair
    from retinanet.benchmark.random_detector import CANDIDATES
    from retinanet.benchmark.subject import facts_of
    from retinanet.benchmark.timing import time_pairs, workload
    from retinanet.benchmark.torchvision_detectors import make_torchvision_detector

    with request.open(depth, size) as subject, counter("pairs") as progress:
        detector = subject.detector
        work = workload(detector, subject.image)
        sides = detector.data.short_side, detector.data.long_side
        candidates = CANDIDATES if work.candidates is None else max(1, work.candidates)
        classes, image = len(detector.classes), subject.image
        other = make_torchvision_detector(
            against, detector.backbone, classes, image, *sides, candidates, request.device
        )
        timing = time_pairs(detector, other.predict, subject.image, request.repeats, progress)
        measured = measurement(subject, **vars(request))
    show_pair(measured, work, facts_of(detector, work.detections), other, timing, json_)


def measure_table(
    request: BenchRequest, size: int | None, depths: Sequence[int], scales: list[int], data: str | None, json_: bool
) -> None:
    """Table 1e of the paper: time and, with weights, AP at each depth and scale."""
    from retinacli.console import counter
    from retinacli.render.bench import measurement, show_table
    from retinanet.paper.speed_table import rows
    from retinanet.precision import precision_beside_int8

    table: list[Row] = []
    # new random weights for each scale: those of another scale would give far more or fewer detections
    groups = [[scale] for scale in scales] if scales and request.weights is None else [scales]
    for depth, group in product(depths, groups):
        with request.open(depth, group[0] if group and request.weights is None else size) as subject:
            detector = subject.detector
            # auto is measured once, for all rows and their AP
            request = replace(request, precision=precision_beside_int8(detector.model.precision))
            sizes = group or [detector.data.short_side]
            with counter("runs") as progress:
                timed = rows(detector, subject.image, sizes, request.repeats, progress)
            table += timed if request.weights is None else add_ap(timed, subject.path, request, data)
            measured = measurement(subject, **vars(request))
    show_table(measured, table, json_)


def add_ap(rows: "list[Row]", path: str, request: BenchRequest, data: str | None) -> "list[Row]":
    """The rows with the AP of the weights, or unchanged, with a message, if their own data set is missing."""
    from retinacli.console import counter, message
    from retinanet.errors import ConfigError, DataError
    from retinanet.paper.speed_table import with_ap

    try:
        with counter("images") as progress:
            return with_ap(rows, path, data, request.device, request.precision, progress)
    except (ConfigError, DataError) as error:
        if data is not None:
            raise
        message(f"AP is not measured without data; --data CONFIG names a data set: {error}")
        return rows
