"""The commands of docs/processes.md run as they stand there, on a small data set and on CPUs."""

import json
import os
import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from helpers.support import RETINA, TINY_MODEL, retina, write_training

PAGE = (Path(__file__).parents[2] / "docs" / "processes.md").read_text(encoding="utf-8")
COMMANDS = [block.strip() for block in re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]
[SCRIPT] = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def command(*words: str) -> str:
    """The only command of the page that contains all these words."""
    [found] = [each for each in COMMANDS if {*words} <= {*each.split()}]
    return found


TRAIN = command("retina", "train")
TORCHRUN = command("torchrun", "train")
EVAL = command("torchrun", "eval")
SHARD = command("predict", "--shard")
MERGE = command("predict", "--merge")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A folder with `cells.yaml`, which trains for one step, and `names.txt`."""
    folder = write_training(
        tmp_path / "cells.yaml",
        train=4,
        val=3,
        workers=0,
        sections=f"model: {TINY_MODEL[:-1]}, trunk_norm: gn}}\ntrain: {{steps: 1, batch_size: 4, optimizer: sgd}}\n",
    )
    names = sorted(str(file) for split in ("train", "val") for file in (folder / "shapes" / split).iterdir())
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def shell(line: str, folder: Path, **variables: str) -> str:
    """Run a line of bash, which must succeed, in `folder`. Returns: stdout."""
    path = os.pathsep.join([str(folder / "bin"), str(Path(RETINA).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "PET_MASTER_PORT": str(free_port())} | variables
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def test_every_command_of_the_page_is_run_here():
    assert sorted(COMMANDS) == sorted([TRAIN, TORCHRUN, EVAL, SHARD, MERGE])
    subprocess.run(["bash", "-n"], input=SCRIPT, text=True, check=True)


@pytest.mark.slow
def test_the_commands_of_the_page_follow_one_another(cells: Path):
    shell(TRAIN, cells)
    assert read_world(cells / "runs" / "cells") == 2
    (cells / "runs").rename(cells / "earlier")  # the page's next command starts the same run
    shell(TORCHRUN, cells)
    assert read_world(cells / "runs" / "cells") == 2
    assert "AP50" in shell(EVAL, cells)
    assert " --shard 0/4 " in SHARD
    for index in range(4):
        done = retina(*shlex.split(SHARD.replace("0/4", f"{index}/4"))[1:], cwd=cells)
        assert done.code == 0, done.err
    assert retina(*shlex.split(MERGE)[1:], cwd=cells).code == 0
    files = [json.loads(line)["file"] for line in (cells / "results.jsonl").read_text().splitlines()]
    assert files == (cells / "names.txt").read_text().splitlines()


def read_world(run: Path) -> int:
    """The number of processes of a run."""
    from retinanet.checkpoints.checkpoint import read_metadata

    return read_metadata(run / "last.safetensors").progress["processes"]


@pytest.mark.slow
def test_the_script_for_slurm_trains_on_one_node(cells: Path):
    """`srun` runs its command here, with two processes in place of a node's eight, and `scontrol` names this host."""
    (cells / "cells.yaml").rename(cells / "coco.yaml")
    (cells / "bin").mkdir()
    for name, line in (("srun", 'exec "$@"'), ("scontrol", "echo localhost; echo other")):
        (cells / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (cells / "bin" / name).chmod(0o755)
    assert SCRIPT.count("--nproc-per-node 8") == SCRIPT.count(":29500") == 1
    script = SCRIPT.replace("--nproc-per-node 8", "--nproc-per-node 2").replace(":29500", f":{free_port()}")
    shell(script, cells, SLURM_JOB_NODELIST="localhost,other", SLURM_NNODES="1", SLURM_JOB_ID="7")
    assert read_world(cells / "runs" / "coco") == 2
