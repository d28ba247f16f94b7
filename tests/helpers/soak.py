"""Repeat work in one process and print its use of memory and open files as JSON.

python soak.py predict RUN IMAGE N | train CONFIG OUTPUT N
"""

import gc
import json
import os
import sys

import numpy as np

from retinanet import load, load_config, training_events
from retinanet.training.events import Validation

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Memory of this process that is in RAM, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def opened() -> list[str]:
    """The files, pipes and sockets that this process has open."""
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # of the listing itself
            continue
    return sorted(targets)


def soak():
    """Yields after each prediction or epoch."""
    mode, what, where, times = sys.argv[1:]
    if mode == "predict":
        detector = load(what)
        for _ in range(int(times)):
            detector.predict(where)
            yield
    else:
        for event in training_events(load_config(what, [f"train.epochs={times}", "data.workers=2"]), where):
            if isinstance(event, Validation):
                yield


memory, files = [], []
for done, _ in enumerate(soak(), 1):
    memory.append(resident())
    if done == int(sys.argv[4]) // 2:  # matplotlib keeps its fonts open
        files = opened()
last = memory[-len(memory) // 3 :]  # by then all that is allocated once is allocated
slope = np.polyfit(np.arange(len(last)), last, 1)[0]
gc.collect()
left = [name for name in opened() if name not in files]
with open(f"/proc/self/task/{os.getpid()}/children") as file:
    children = file.read().split()
print(
    json.dumps(
        {
            "times": len(memory),
            "slope": slope,
            "typical": float(np.median(np.diff(last))),
            "megabytes": memory[-1] / 1e6,
            "left": left,
            "children": children,
        }
    )
)
