"""How time and peak memory grow with anchors, classes, objects and images: linearly, or less.

Run by hand: python benchmarks/growth.py CHART.png
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
IMAGE = {24_552: (256, 512), 49_104: (512, 512), 98_208: (512, 1024), 196_416: (1024, 1024)}  # by its anchors

Run = Callable[[], object]


@dataclass(frozen=True)
class Growth:
    """`prepare(**{of: n}, **fixed)` for each n of `sizes` is the run to measure."""

    part: str
    of: str
    sizes: tuple[int, ...]
    prepare: Callable[..., Run]
    fixed: dict[str, int]

    def runs(self) -> list[Callable[[], Run]]:
        return [partial(warm, self.prepare, {self.of: size, **self.fixed}) for size in self.sizes]


@dataclass(frozen=True)
class Measured:
    """seconds, megabytes: at each size. time, memory: growth from the first size to the last over that of the size."""

    growth: Growth
    seconds: list[float]
    megabytes: list[float]
    time: float
    memory: float


def image_objects(objects: int, size: tuple[int, int]) -> Tensor:
    """(objects, 4) xyxy boxes of 10 to 310 pixels, small ones most, all over an image of `size`."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([size[1], size[0]]) * torch.rand(objects, 2, generator=generator)
    half = 5 + 150 * torch.rand(objects, 2, generator=generator) ** 2
    return torch.cat([centers - half, centers + half], dim=1)


def loss(anchors: int = 24_552, classes: int = 80) -> Run:
    """Forward and backward of one image's loss."""
    generator = torch.Generator().manual_seed(0)
    boxes = image_objects(20, IMAGE[anchors])
    all_anchors = torch.cat(image_anchors(IMAGE[anchors]))
    matched = match(all_anchors, boxes, torch.zeros(20, dtype=torch.bool))[None]
    logits = torch.randn(1, anchors, classes, generator=generator).mul_(1.5).sub_(4.6).requires_grad_()
    deltas = torch.zeros(1, anchors, 4, requires_grad=True)
    labels = torch.randint(classes, (20,), generator=generator)
    targets = Targets([boxes], [labels], [torch.zeros(20, dtype=torch.bool)])

    def run():
        logits.grad = None
        losses = detection_loss(Predictions([logits], [deltas], [all_anchors]), matched, targets)
        (losses["cls"] + losses["box"]).backward()

    return run


def matching(anchors: int = 24_552, objects: int = 50, force_best: int = 0) -> Run:
    boxes = image_objects(objects, IMAGE[anchors])
    all_anchors = torch.cat(image_anchors(IMAGE[anchors]))
    return partial(match, all_anchors, boxes, torch.zeros(objects, dtype=torch.bool), force_best=bool(force_best))


def detection(anchors: int = 24_552, classes: int = 80) -> Run:
    """Decoding and suppression of one image, of whose scores one in five exceeds the threshold."""
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
    found = 7 * owners + np.tile(np.arange(100) % 7, images)  # each object 14 times, less and less exact
    exact = np.tile(np.arange(100) / 300, images)[:, None]
    moved = boxes[found] * (1 + exact * rng.standard_normal((len(found), 4))).clip(0.1)
    rows = np.column_stack([owners, moved, rng.random(len(found)), labels[found] + 1])
    return partial(score, truth, rows)


def growths() -> tuple[list[Growth], list[Growth]]:
    """Those of the chart, and the loss, the detections and the scores of COCO's 80 classes, of 400 and of 2,000."""

    def grow(part, of, first, prepare, **fixed):
        return Growth(part, of, tuple(first * n for n in TIMES), prepare, fixed)

    drawn = [
        # gradients above 32 MiB at all sizes: malloc has the system make each such block anew
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
    """The run, after one at the smallest size, so that what the first use of a library takes is not counted."""
    prepare()()
    return prepare(**arguments)


def measure(growth: Growth) -> Measured:
    """Processor time of all sizes in turns. The growth is the median over the turns, as the machine's load changes."""
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
    from retinanet.plotting import BLACK, BLUE, GREEN, PURPLE, VERMILLION, new_figure

    styles = {
        "loss": (BLUE, "o"),
        "detection": (VERMILLION, "s"),
        "matching": (GREEN, "^"),
        "forced matching": (BLACK, "x"),
        "scoring": (PURPLE, "D"),
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
    panels[0, 0].set_ylabel("time, of that at 1")
    panels[1, 0].set_ylabel("peak memory, of that at 1")
    figure.supxlabel("times as many", fontsize=10)
    handles = [
        panels[0, 0].plot([], [], color=color, marker=marker, markersize=4, label=part)[0]
        for part, (color, marker) in styles.items()
    ]
    handles.append(panels[0, 0].plot([], [], "--", color="0.6", label="linear")[0])
    figure.legend(handles=handles, loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    figure.savefig(output, dpi=100)


def main():
    torch.set_num_threads(1)  # threads that wait for each other would count
    os.environ["OMP_NUM_THREADS"] = "1"  # of fresh processes
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "131072"  # held there, so that they give back what they free
    drawn, classes = growths()
    print(
        f"last columns: growth of processor time and of peak memory over that of the size; 1: linear; {REPEATS} turns"
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
