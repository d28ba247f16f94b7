"""Images per second of `retina predict FOLDER`, beside the rate of the network alone on the same images.

Run by hand: python benchmarks/reading.py FOLDER-OF-JPEGS
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from retinanet.benchmark.random_detector import save_random_detector
from retinanet.config.schema import DataConfig
from retinanet.data.images import read_image
from retinanet.inference.detector import Detector, load
from retinanet.inference.predict import predict

CASES = ((50, 800, 1333, 8), (18, 128, 160, 64))  # depth of the ResNet, short_side, long_side, images
TURNS = 5


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time of `run`."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(detector: Detector, files: list[Path], name: str) -> None:
    """Print the rate of `predict`, and how near it is to the network's and to what the processors allow."""
    images = [detector.read(file) for file in files]

    def network() -> None:
        for image in images:
            detector.predict_batch([image])

    def whole() -> None:
        for _ in predict(detector, files):
            pass

    def reading() -> None:
        for file in files:
            detector.read(file)

    whole()
    turns = [(seconds(whole), seconds(network), seconds(reading)) for _ in range(TURNS)]
    of_network = statistics.median(alone[0] / all_[0] for all_, alone, _ in turns)
    cores = len(os.sched_getaffinity(0))
    allowed = statistics.median(max(alone[0], (alone[1] + read[1]) / cores) / all_[0] for all_, alone, read in turns)
    rate = len(files) / statistics.median(all_[0] for all_, _, _ in turns)
    print(
        f"{name}, {len(files)} images, {torch.get_num_threads()} threads: {rate:.2f} images/s, {of_network:.1%} of the "
        f"network's rate, {allowed:.1%} of what {cores} cores allow for the network and the reading"
    )


def main() -> None:
    every = sorted(Path(sys.argv[1]).glob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        for depth, short_side, long_side, count in CASES:
            data = DataConfig(short_side=short_side, long_side=long_side)
            file = Path(folder) / f"{depth}.safetensors"
            save_random_detector(file, depth, read_image(every[0]), data)
            measure(load(file, "cpu"), every[:count], f"ResNet-{depth} at {short_side} pixels")


if __name__ == "__main__":
    main()
