"""Makes a process group, then trains and evaluates in it: python own_group.py CONFIG FOLDER, in several processes."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import retinanet
from retinanet.distributed import joined


def main(config: Path, folder: Path) -> None:
    rank, world = (int(os.environ.pop(name)) for name in ("RANK", "WORLD_SIZE"))  # only the group has them now
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    with joined() as processes:
        processes.announced(True)
    with joined() as processes:
        announced_again = processes.announced(False)
    done = retinanet.train(config, folder / "run")
    evaluation = retinanet.evaluate(folder / "run", overrides=["detect.score_threshold=0.01"])
    count = torch.ones(())
    dist.all_reduce(count)
    results = sorted(evaluation.results.tolist())
    print(json.dumps({"steps": done.steps, "results": results, "announced": announced_again, "count": count.item()}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
