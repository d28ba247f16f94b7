"""How time and peak memory grow with the number of anchors, classes, objects and images.

Usage: python benchmarks/growth.py CHART.png
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from paired import peak_memories
from torch import Tensor

from retinanet.data.dataset import Dataset, Strings
from retinanet.evaluation.coco_metrics import score
from retinanet.losses.criterion import Targets, detection_loss
from retinanet.losses.matching import match
from retinanet.model.anchors import image_anchors
from retinanet.model.postprocess import detect
from retinanet.model.retinanet import Predictions

REPEATS = 5
TIMES = (1, 2, 4, 8)
# number of anchors -> (height, width) of an image with as many
IMAGE = {24_552: (256, 512), 49_104: (512, 512), 98_208: (512, 1024), 196_416: (1024, 1024)}

Run = Callable[[], object]


@dataclass(frozen=True)
class Growth:
    """A measurement of `part` with a growing number `of` something.

    The run to measure at size n is `prepare(**{of: n}, **fixed)`, for each n of `sizes`.
    """

    part: str
    of: str
    sizes: tuple[int, ...]
    prepare: Callable[..., Run]
    fixed: dict[str, int]

    def runs(self) -> list[Callable[[], Run]]:
        return [partial(warm, self.prepare, {self.of: size, **self.fixed}) for size in self.sizes]


@dataclass(frozen=True)
class Measured:
    """seconds, megabytes: at each size. time, memory: growth from first to last size, over the growth of the size."""

    growth: Growth
    seconds: list[float]
    megabytes: list[float]
    time: float
    memory: float


def image_objects(objects: int, size: tuple[int, int]) -> Tensor:
    """(objects, 4) xyxy boxes of 10 to 310 pixels, mostly small, spread over an image of `size`."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([size[1], size[0]]) * torch.rand(objects, 2, generator=generator)
    half = 5 + 150 * torch.rand(objects, 2, generator=generator) ** 2
    return torch.cat([centers - half, centers + half], dim=1)


def loss(anchors: int = 24_552, classes: int = 80) -> Run:
    """Forward and backward of one image's loss."""
    generator = torch.Generator().manual_seed(0)
    boxes, crowd = image_objects(20, IMAGE[anchors]), torch.zeros(20, dtype=torch.bool)
    all_anchors = torch.cat(image_anchors(IMAGE[anchors]))
    matched = match(all_anchors, boxes, crowd)[None]
    logits = torch.randn(1, anchors, classes, generator=generator).mul_(1.5).sub_(4.6).requires_grad_()
    deltas = torch.zeros(1, anchors, 4, requires_grad=True)
    targets = Targets([boxes], [torch.randint(classes, (20,), generator=generator)], [crowd])
    predictions = Predictions([logits], [deltas], [all_anchors])

    def run() -> None:
        logits.grad = None
        losses = detection_loss(predictions, matched, targets)
        (losses["cls"] + losses["box"]).backward()

    return run


def matching(anchors: int = 24_552, objects: int = 50, force_best: int = 0) -> Run:
    boxes = image_objects(objects, IMAGE[anchors])
    all_anchors = torch.cat(image_anchors(IMAGE[anchors]))
    return partial(match, all_anchors, boxes, torch.zeros(objects, dtype=torch.bool), force_best=bool(force_best))


def detection(anchors: int = 24_552, classes: int = 80) -> Run:
    """Decoding and non-maximum suppression of one image; one score in five exceeds the threshold."""
    generator = torch.Generator().manual_seed(0)
    levels = image_anchors(IMAGE[anchors])
    logits = [torch.randn(1, len(a), classes, generator=generator).mul_(2.2).sub_(4.82) for a in levels]
    deltas = [0.2 * torch.randn(1, len(a), 4, generator=generator) for a in levels]
    return partial(detect, Predictions(logits, deltas, levels), [IMAGE[anchors]], [IMAGE[anchors]])


def scoring(images: int = 625, classes: int = 80) -> Run:
    """The COCO numbers of 7 objects and 100 detections in each image."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (7 * images, 2)))
    boxes = np.concatenate([rng.uniform(0, 300, (7 * images, 2)), sides], axis=1)  # xywh
    labels = rng.integers(classes, size=len(boxes), dtype=np.int32)
    truth = Dataset(
        classes=tuple(map(str, range(classes))),
        category_ids=tuple(range(1, classes + 1)),
        folder=Path(),
        files=Strings(map(str, range(images))),
        image_ids=np.arange(images),
        sizes=np.full((images, 2), 640, np.int32),
        sizes_annotated=True,
        first_object=np.arange(0, len(boxes) + 1, 7),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        labels=labels,
        crowd=np.zeros(len(boxes), bool),
        annotation_ids=np.arange(len(boxes)),
    )
    owners = np.arange(images).repeat(100)
    objects = 7 * owners + np.tile(np.arange(100) % 7, images)  # each object 14 times, with growing error
    error = np.tile(np.arange(100) / 300, images)[:, None]
    moved = boxes[objects] * (1 + error * rng.standard_normal((len(objects), 4))).clip(0.1)
    rows = np.column_stack([owners, moved, rng.random(len(objects)), labels[objects]])
    return partial(score, truth, rows)


def growths() -> tuple[list[Growth], list[Growth]]:
    """The measurements of the chart; and loss, detection and scoring with 80, 400 and 2,000 classes."""

    def grow(part: str, of: str, first: int, prepare: Callable[..., Run], **fixed: int) -> Growth:
        return Growth(part, of, tuple(first * n for n in TIMES), prepare, fixed)

    drawn = [
        # gradients above 32 MiB at all sizes: malloc requests each such block from the system
        grow("loss", "anchors", 24_552, loss, classes=400),
        grow("matching", "anchors", 24_552, matching),
        grow("detection", "anchors", 24_552, detection),
        grow("loss", "classes", 250, loss, anchors=49_104),
        grow("detection", "classes", 250, detection),
        grow("scoring", "classes", 250, scoring),
        grow("matching", "objects", 500, matching),
        grow("forced matching", "objects", 500, matching, force_best=1),
        grow("scoring", "images", 625, scoring),
    ]
    parts = (("loss", loss), ("detection", detection), ("scoring", scoring))
    return drawn, [Growth(part, "classes", (80, 400, 2000), prepare, {}) for part, prepare in parts]


def warm(prepare: Callable[..., Run], arguments: dict[str, int]) -> Run:
    """The run, after a run at the smallest size, so that the first use of a library is not measured."""
    prepare()()
    return prepare(**arguments)


def measure(growth: Growth) -> Measured:
    """Measure all sizes in turns, in processor time.

    The growth is the median of each turn's own growth, since the load of the machine changes.
    """
    runs = [prepare() for prepare in growth.runs()]
    turns: list[list[float]] = []
    for _ in range(1 + REPEATS):
        turns.append([])
        for run in runs:
            start = time.process_time()
            run()
            turns[-1].append(time.process_time() - start)
    del runs, run
    turns = turns[1:]
    megabytes = peak_memories(growth.runs())
    times = growth.sizes[-1] / growth.sizes[0]
    return Measured(
        growth=growth,
        seconds=[statistics.median(turn) for turn in zip(*turns, strict=True)],
        megabytes=megabytes,
        time=statistics.median(turn[-1] / turn[0] for turn in turns) / times,
        memory=megabytes[-1] / megabytes[0] / times,
    )


def show(measured: Measured) -> None:
    growth = measured.growth
    name = f"{growth.part}, {growth.of} {growth.sizes[0]:,} to {growth.sizes[-1]:,}"
    milliseconds = "".join(f"{1000 * value:8.1f}" for value in measured.seconds)
    megabytes = "".join(f"{value:8.1f}" for value in measured.megabytes)
    print(f"{name:42} ms{milliseconds:32}  MB{megabytes:32}  time {measured.time:.2f}  memory {measured.memory:.2f}")


def draw(rows: list[Measured], output: str) -> None:
    from retinanet.plotting import BLUE, GREEN, ORANGE, new_figure

    styles = {
        "loss": (BLUE, "o"),
        "detection": (ORANGE, "s"),
        "matching": (GREEN, "^"),
        "forced matching": ("black", "x"),
        "scoring": ("#cc79a7", "D"),
    }
    figure = new_figure(9, 4.8)
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    for column, of in enumerate(("anchors", "classes", "objects", "images")):
        shown = [row for row in rows if row.growth.of == of]
        first = shown[0].growth.sizes[0]
        for axes, kind in zip(panels[:, column], ("seconds", "megabytes"), strict=True):
            axes.plot(TIMES, TIMES, "--", color="0.6")
            for row in shown:
                values = getattr(row, kind)
                color, marker = styles[row.growth.part]
                axes.plot(TIMES, [v / values[0] for v in values], color=color, marker=marker, markersize=4)
        panels[0, column].set_title(f"{of}, from {first:,}", fontsize=10)
    ticks = [str(n) for n in TIMES]
    for axes in panels.flat:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(TIMES, ticks)
        axes.set_yticks(TIMES, ticks)
        axes.minorticks_off()
        axes.set_ylim(0.6, 10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[0, 0].set_ylabel("time, relative to size 1")
    panels[1, 0].set_ylabel("peak memory, relative to size 1")
    figure.supxlabel("size", fontsize=10)
    handles = [
        panels[0, 0].plot([], [], color=color, marker=marker, markersize=4, label=part)[0]
        for part, (color, marker) in styles.items()
    ]
    handles.append(panels[0, 0].plot([], [], "--", color="0.6", label="linear")[0])
    figure.legend(handles=handles, loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    figure.savefig(output, dpi=100)


def main() -> None:
    torch.set_num_threads(1)  # processor time includes threads that wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"  # for new processes
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "131072"  # fixed, so that new processes return freed memory to the system
    drawn, classes = growths()
    print(
        f"last columns: growth of processor time and of peak memory over the size's growth (1: linear); {REPEATS} turns"
    )
    rows = []
    for growth in drawn:
        rows.append(measure(growth))
        show(rows[-1])
    for growth in classes:
        show(measure(growth))
    draw(rows, sys.argv[1])


if __name__ == "__main__":
    main()
