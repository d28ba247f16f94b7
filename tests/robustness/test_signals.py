"""SIGINT and SIGTERM: a run and its workers end and save the step, other commands leave no half-written file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from helpers.support import RETINA, Result, installed, retina

from retinanet.checkpoints.checkpoint import LAST, read_metadata

ASKED = "retina: {}: finishing the step and saving a checkpoint; a second signal ends the run at once"
COMMAND = ["train", "tiny.yaml", "--epochs", "1000"]


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
    """Stop the one loader worker of process `run`, as a disk that does not respond would, until the run waits for it.

    Returns: the process id of the worker.
    """
    worker = stop_worker(run)
    while True:  # it still trains on what was loaded before
        used = processor_time(run)
        time.sleep(1)
        if processor_time(run) == used:
            return worker


def processor_time(process: int) -> int:
    """The processor time of a process, in ticks of 10 ms."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def stop_worker(run: int) -> int:
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
        f"-o {word} --set data.workers=2 --resume",
    ]
    records = [json.loads(line) for line in (tiny / word / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "step"] == list(range(1, step + 1))
    command = [*COMMAND[:2], "-o", word, "--resume", "--set", f"train.steps={step + 1}"]
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


def signalled(place: str, when: str, kind: str, *arguments: object, cwd: Path) -> Result:
    """`retina` that sends itself a signal before or after the first call of the function at `place`."""
    script = Path(__file__).parents[1] / "helpers" / "signalled_at.py"
    command = [sys.executable, script, place, "1", when, kind, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_signal_before_the_run_begins_leaves_nothing(tiny: Path):
    place = "retinanet.training.setup:open_train_and_val"
    result = signalled(place, "before", "SIGTERM", *COMMAND, "-o", "early", cwd=tiny)
    assert result == Result(143, "", "retina: terminated before the run began\n")
    assert not (tiny / "early").exists()


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [("SIGTERM", 143, "terminated"), pytest.param("SIGINT", 130, "interrupted", marks=pytest.mark.slow)],
)
def test_an_export_that_is_ended_leaves_nothing(tiny: Path, tiny_run: Path, tmp_path: Path, kind, code, word):
    place = "retinanet.export.export:_write"
    result = signalled(place, "after", kind, "export", tiny_run, "--to", "onnx", cwd=tmp_path)
    assert result == Result(code, "", f"converting\nretina: {word}\n")
    assert not list(tmp_path.iterdir())


def test_a_benchmark_that_is_ended_leaves_nothing(tiny_run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    place = "retinanet.benchmark.subject:load"
    result = signalled(place, "before", "SIGTERM", "bench", tiny_run, cwd=tmp_path)
    assert result == Result(143, "", "retina: terminated\n")
    assert not list(tmp_path.glob("retina-bench-*"))


def test_a_prediction_that_is_ended_keeps_what_it_found(tiny: Path, tiny_run: Path):
    place = "retinanet.inference.detector:read_image"
    command = ("predict", "shapes/val", "-w", "run", "--json")
    result = signalled(place, "after", "SIGTERM", *command, cwd=tiny)
    assert (result.code, result.err) == (143, "retina: terminated after 0 of 4 images\n")
    assert json.loads(result.out)["images"] == []


@pytest.mark.parametrize(
    ("kind", "code", "word", "arguments"),
    [
        ("SIGTERM", 143, "terminated", ["run", "--save-coco", "lost.json"]),
        pytest.param("SIGINT", 130, "interrupted", ["run", "run", "--compare"], marks=pytest.mark.slow),
    ],
)
def test_an_evaluation_that_is_ended_says_that_it_is_lost(tiny: Path, tiny_run: Path, kind, code, word, arguments):
    place = "retinanet.evaluation.evaluate:coco_rows"  # after the first image
    result = signalled(place, "after", kind, "eval", *arguments, cwd=tiny)
    line = f"retina: {word}; nothing was saved, and the same command starts the evaluation again\n"
    assert result == Result(code, "", line)
    assert not (tiny / "lost.json").exists()


@pytest.mark.parametrize("kind", ["SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_a_run_that_is_ended_in_its_evaluation_evaluates_again(tiny: Path, kind):
    place = "retinanet.evaluation.evaluate:coco_rows"
    command = ["train", "tiny.yaml", "--epochs", "1", "-o", kind]
    result = signalled(place, "after", kind, *command, cwd=tiny)
    assert result.code == {"SIGTERM": 143, "SIGKILL": -9}[kind] and "epoch 1: AP " not in result.err
    if kind == "SIGTERM":
        last = f"retina: terminated and saved after step 2; continue with: retina {' '.join(command)} --resume\n"
        assert result.err.endswith(last)
    resumed = retina(*command, "--resume", cwd=tiny)
    assert resumed.code == 0 and "epoch 1: AP " in resumed.err
    assert resumed.err.startswith("the evaluation after epoch 1 was not finished; it starts again\n")
