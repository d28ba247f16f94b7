"""Time per step and memory of a training by 1, 2 and 4 processes that share the cores of this machine.

Run by hand: python benchmarks/processes.py [STEPS]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from retinanet.config_file import load_config
from retinanet.devices import processor
from retinanet.distributed import joined
from retinanet.training.events import Progress
from retinanet.training.train import training_events

CONFIG = Path(__file__).parents[1] / "examples" / "shapes.yaml"
PROCESSES = (1, 2, 4)
STEPS = 30
WARM_UP = 5  # steps that are not measured


def train(folder: Path, steps: int) -> None:
    """Train together with the processes that torchrun has started; the first writes what they measured."""
    settings = [f"train.steps={steps}", "train.precision=fp32", "train.warmup_steps=0", "data.val=null"]
    with joined() as processes:
        ends = [
            time.perf_counter()
            for event in training_events(load_config(CONFIG, settings), folder)
            if isinstance(event, Progress)
        ]
        peaks = processes.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        if processes.rank == 0:
            seconds = [end - start for start, end in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
            (folder / "measured.json").write_text(json.dumps({"seconds": statistics.median(seconds), "peaks": peaks}))


def measure(steps: int) -> None:
    cores = len(os.sched_getaffinity(0))
    print(f"{processor()}, {cores} cores; {CONFIG.name} in fp32, {steps} steps")
    with tempfile.TemporaryDirectory() as place:
        for count in PROCESSES:
            folder = Path(place) / str(count)
            command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", __file__, "--train"]
            environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // count))}
            subprocess.run([sys.executable, *command, folder, str(steps)], check=True, env=environment)
            measured = json.loads((folder / "measured.json").read_text())
            print(
                f"{count} processes: {1000 * measured['seconds']:.0f} ms a step, peak memory of each "
                f"{max(measured['peaks']):.0f} MB"
            )


if __name__ == "__main__":
    if "--train" in sys.argv:
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
