"""SIGINT and SIGTERM to a run and all its workers: the step ends and is saved, and a message says how to continue."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from helpers.support import RETINA, installed

from retinanet.checkpoints.checkpoint import LAST, read_metadata

ASKED = "retina: {}: finishing the step and saving a checkpoint; a second signal ends the run at once"
COMMAND = ["train", "tiny.yaml", "--epochs", "1000", "--set", "model.backbone=timm:lcnet_035"]


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """Start `retina` in a process group of its own, with its stderr in a pipe."""
    with subprocess.Popen(
        [RETINA, *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen, words: str) -> None:
    assert process.stderr is not None
    lines: list[str] = []
    while not any(words in line for line in lines):
        lines.append(process.stderr.readline())
        assert lines[-1], lines


def hang_worker(run: int) -> int:
    """Stop the one loader worker of process `run`, as a disk that does not respond would. Returns: its process id."""
    children = Path(f"/proc/{run}/task/{run}/children")
    while True:  # between epochs there is none
        for worker in map(int, children.read_text().split()):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGSTOP)
                return worker


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_the_step_ends_and_is_saved(tiny: Path, number, code, word):
    with started(tiny, *COMMAND, "-o", word, "--set", "data.workers=2") as process:
        wait_for(process, "epoch 2/1000")
        os.killpg(process.pid, number)
        rest = process.stderr.read().splitlines()
        assert process.wait(timeout=60) == code
    step = read_metadata(tiny / word / LAST).progress["step"]
    assert [line for line in rest if not line.startswith("epoch ")] == [
        ASKED.format(word),
        f"retina: {word} and saved after step {step}; continue with: retina train tiny.yaml --epochs 1000 "
        f"--set model.backbone=timm:lcnet_035 -o {word} --set data.workers=2 --resume",
    ]
    records = [json.loads(line) for line in (tiny / word / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "step"] == list(range(1, step + 1))
    command = [*COMMAND[:2], *COMMAND[4:], "-o", word, "--resume", "--set", f"train.steps={step + 1}"]
    result = installed(*command, cwd=tiny)
    assert result.code == 0, result.err


def test_a_second_signal_ends_a_run_whose_worker_hangs(tiny: Path):
    with started(tiny, *COMMAND, "--batch-size", "1", "--set", "data.workers=1", "-o", "hangs") as process:
        wait_for(process, "epoch 1/1000")
        stopped = hang_worker(process.pid)
        os.killpg(process.pid, signal.SIGTERM)
        wait_for(process, ASKED.format("terminated"))
        os.killpg(process.pid, signal.SIGTERM)
        last = process.stderr.read().splitlines()[-1]
        assert process.wait(timeout=60) == 143
    assert last.startswith("retina: terminated; continue with: retina train tiny.yaml")
    assert not Path(f"/proc/{stopped}").exists()
    assert not list((tiny / "hangs").glob(".*"))


def test_a_signal_before_the_run_begins_leaves_nothing(tiny: Path):
    script = Path(__file__).parents[1] / "helpers" / "signalled_at.py"
    command = [
        sys.executable,
        script,
        "retinanet.training.setup:open_train_and_val",
        "1",
        "before",
        "SIGTERM",
        *COMMAND,
    ]
    done = subprocess.run([*command, "-o", "early"], cwd=tiny, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "retina: terminated before the run began\n")
    assert not (tiny / "early").exists()
