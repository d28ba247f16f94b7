"""COCO's numbers of 500,000 detections against pycocotools; and what `retina eval` does beside the network.

Run by hand: python benchmarks/evaluation.py [FOLDER-OF-COCO128]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.scoring_cases import large_case  # what the tests compare, too

from retinanet.benchmark.random_detector import save_random_detector
from retinanet.checkpoints.pretrained import open_model
from retinanet.config.schema import DataConfig, DetectConfig, SplitConfig
from retinanet.data.formats.recognise import open_split
from retinanet.data.transforms import Resizing
from retinanet.evaluation import evaluate as evaluation
from retinanet.evaluation.coco_metrics import score
from retinanet.evaluation.pycocotools_metrics import reference_metrics
from retinanet.inference import torch_model
from retinanet.model.retinanet import RetinaNet

REPEATS = 9
IMAGES = 10
SHORT, LONG = 800, 1333
WORKERS = 2  # the default of data.workers


def now() -> np.ndarray:
    """(2,) seconds: wall, and of the processors, with those of processes that have ended."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


class Throughput:
    """Sums the wall and processor seconds of the functions that it times."""

    def __init__(self) -> None:
        self.seconds = np.zeros(2)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = now()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += now() - start

        return run


def scoring() -> None:
    truth, rows = large_case()
    print(f"{len(truth):,} images, {len(rows):,} detections")
    times = []
    for _ in range(1 + REPEATS):
        start = now()
        metrics = score(truth, rows).metrics
        times.append(now() - start)
    begin = time.perf_counter()
    theirs = reference_metrics(truth, rows)
    theirs_wall = time.perf_counter() - begin
    assert metrics == theirs
    ours_wall, ours_processor = np.median(times[1:], axis=0)
    print(
        f"scoring: theirs {theirs_wall:.1f} s (once), ours {ours_wall:.2f} s, {ours_processor:.2f} s of CPU time, "
        f"{theirs_wall / ours_wall:.0f} times as fast; all {len(metrics)} metrics are equal"
    )


def stages(root: Path) -> None:
    """ResNet-50 of 80 classes with random weights, under which 3,000 scores of an image exceed the threshold."""
    [annotations] = root.rglob("*.json")
    dataset = open_split(root, SplitConfig(images="train2017", annotations=str(annotations.relative_to(root))))
    dataset = dataset.take(np.arange(IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        save_random_detector(Path(folder) / "r50.safetensors", 50, dataset.image(0), DataConfig())
        model, _ = open_model(Path(folder) / "r50.safetensors")
    network, decoding = Throughput(), Throughput()
    RetinaNet.forward = network.timed(RetinaNet.forward)  # type: ignore[method-assign]
    torch_model.detect_stages = decoding.timed(torch_model.detect_stages)

    def run() -> None:
        evaluation.evaluate_model(
            torch_model.TorchModel(model), dataset, Resizing(SHORT, LONG), DetectConfig(), workers=WORKERS
        )

    run()  # warms up
    network.seconds, decoding.seconds = np.zeros(2), np.zeros(2)
    start = now()
    run()
    total = now() - start
    print(f"eval, ResNet-50 at {SHORT} pixels, {IMAGES} images, {WORKERS} loader processes")
    shares = np.stack([network.seconds, decoding.seconds]) / total
    for kind, seconds, of_network, of_decoding in zip(("wall", "processor"), total, *shares, strict=True):
        print(
            f"{kind} time: {seconds:.1f} s; RetinaNet.forward {of_network:.1%}, decoding and NMS {of_decoding:.1%}, "
            f"loading, collation, scoring and all else {1 - of_network - of_decoding:.1%}"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        stages(Path(sys.argv[1]))
    scoring()
