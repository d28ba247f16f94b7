"""Too few open files end a command with one line, also where a worker cannot send its batch and the run would wait."""

import subprocess
from pathlib import Path

import pytest
from helpers.support import RETINA

ADVICE = "too many open files; raise their limit with ulimit -n, or use fewer data.workers"
TWO_WORKERS = ("--set", "data.workers=2")


@pytest.mark.parametrize(
    "limit",
    [
        16,  # the workers cannot be started
        40,  # a worker cannot share the tensors of a batch of eight images
    ],
)
def test_training(tiny: Path, tmp_path: Path, limit: int):
    arguments = ("train", "tiny.yaml", "-o", tmp_path / "run", "--batch-size", "8", *TWO_WORKERS)
    done = limited(limit, *arguments, cwd=tiny)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [f"retina: {ADVICE}; no checkpoint was written yet"]


def test_evaluation(tiny: Path, tiny_run: Path):
    done = limited(16, "eval", "run", *TWO_WORKERS, cwd=tiny)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"retina: {ADVICE}\n")


def limited(files: int, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'ulimit -n {files}; exec "$0" "$@"', RETINA, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
