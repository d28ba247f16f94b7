"""Time of an OpenVINO model to its first detection: compiled by each process compared with read from the cache.

Each measurement is a new process. `load` is the time to read and compile the model, `first detection` adds that of
detecting in the image, and `whole command` is that of `retina predict IMAGE -w MODEL`. Unix only.

Usage: python benchmarks/first_detection.py IMAGE MODEL.xml [MODEL.xml ...]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from paired import REPEATS

from retinanet.devices import processor

VARIABLE = "RETINA_CACHE_DIR"
CHILD = """
import json, sys, time
from PIL import Image
from retinanet.inference.detector import load
from retinanet.inference.exported_model import openvino_core

openvino_core()
image = Image.open(sys.argv[1]).convert("RGB")
clocks = [(time.perf_counter(), time.process_time())]
detector = load(sys.argv[2])
clocks.append((time.perf_counter(), time.process_time()))
detector.predict(image)
clocks.append((time.perf_counter(), time.process_time()))
print(json.dumps([[now - first for first, now in zip(clocks[0], each)] for each in clocks[1:]]))
"""
NAMES = ("load", "first detection", "whole command")
Times = list[tuple[float, float]]  # wall and processor time in seconds, of each of NAMES


def measure(image: str, model: str, cache: str) -> Times:
    """cache: its folder, or "" for none."""
    environment = os.environ | {VARIABLE: cache}
    child = [sys.executable, "-c", CHILD, image, model]
    done = subprocess.run(child, env=environment, check=True, capture_output=True, text=True)
    started, before = time.perf_counter(), processor_time_of_children()
    command = [str(Path(sys.executable).with_name("retina")), "predict", image, "-w", model]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    whole = time.perf_counter() - started, processor_time_of_children() - before
    return [*((wall, busy) for wall, busy in json.loads(done.stdout)), whole]


def processor_time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(image: str, *models: str, repeats: int = REPEATS) -> None:
    print(processor())
    with tempfile.TemporaryDirectory() as cache:
        for model in models:
            print(model)
            turns = [(measure(image, model, ""), measure(image, model, cache)) for _ in range(1 + repeats)]
            for (index, name), (clock, kind) in product(enumerate(NAMES), enumerate(("wall", "processor"))):
                pairs = [(compiled[index][clock], cached[index][clock]) for compiled, cached in turns[1:]]
                before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
                ratio = statistics.median(compiled / cached for compiled, cached in pairs)
                print(
                    f"{name}, {kind} time: compiled {before:.2f} s, cached {after:.2f} s, compiled / cached {ratio:.2f}"
                )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
