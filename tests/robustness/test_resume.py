"""A run that is interrupted at any step and resumed gives the same weights and log to the last bit."""

import json
import math
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from helpers.support import same_run

from retinanet.checkpoints.checkpoint import LAST, PREVIOUS, read_metadata
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config
from retinanet.config_file import load_config
from retinanet.errors import CheckpointError, DivergenceError, TrainingError
from retinanet.training import run_folder
from retinanet.training.events import Done, Event, Note, Progress, Stopped, Validation
from retinanet.training.run_folder import LOG, RunFolder
from retinanet.training.step import optimizer_step
from retinanet.training.train import training_events

SMALL = ("model.backbone=timm:lcnet_035", "train.batch_size=2")  # checkpoints of a megabyte
KINDS = {  # two epochs of four steps each
    "sgd": ("train.optimizer=sgd", "train.ema=null", "model.trunk_norm=bn", "train.checkpoint_every=3"),
    "two loader workers": ("data.workers=2", "train.augment.short_sides=[48, 64]", "train.checkpoint_every=1 step"),
    "accumulated": (
        "train.accumulate=2",
        "train.batch_size=1",
        "loss.normalizer=exponential",
        "train.checkpoint_every=3",
    ),
}


@pytest.fixture(params=["sgd", pytest.param("two loader workers", marks=pytest.mark.slow), "accumulated"])
def config(tiny: Path, request: pytest.FixtureRequest) -> Config:
    return load_config(tiny / "tiny.yaml", (*SMALL, *KINDS[request.param]))


@pytest.fixture
def plain(tiny: Path) -> Config:
    return load_config(tiny / "tiny.yaml", SMALL)


def steps(records: Iterator[Event]) -> Iterator[Progress]:
    return (record for record in records if isinstance(record, Progress))


def at(number: int) -> Callable[[], bool]:
    """A `stop` that returns True at its n-th call."""
    asks = count(1)
    return lambda: next(asks) == number


def test_a_run_that_was_interrupted_at_any_step_continues_as_if_it_had_not_been(config: Config, tmp_path: Path):
    *_, done = training_events(config, tmp_path / "whole")
    assert isinstance(done, Done) and done.steps == 8
    cut = training_events(config, tmp_path / "cut")
    for left_after in (2, 3, 1):
        list(islice(steps(cut), left_after))
        cut.close()  # memory is lost, and the folder is as a kill would leave it
        cut = training_events(config, tmp_path / "cut", resume=True)
    *_, done = cut
    assert isinstance(done, Done) and done.steps == 8
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_was_interrupted_before_its_first_checkpoint_starts_with_the_same_weights(
    plain: Config, tmp_path: Path
):
    list(training_events(plain, tmp_path / "origin", stop=at(4)))
    tuned = replace(plain, train=replace(plain.train, init=str(tmp_path / "origin"), epochs=1))
    list(training_events(tuned, tmp_path / "whole"))
    list(islice(steps(training_events(tuned, tmp_path / "cut")), 2))
    list(training_events(tuned, tmp_path / "cut", resume=True))
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_is_stopped_saves_the_step_or_the_state_before_the_evaluation(plain: Config, tmp_path: Path):
    list(training_events(plain, tmp_path / "whole"))
    for life, (asked, step) in enumerate(
        [(1, 1), (3, 4), (1, 4), (4, 4), (6, 6)]
    ):  # at the third, during an evaluation
        *_, end = training_events(plain, tmp_path / "cut", resume=life > 0, stop=at(asked))
        assert end == Stopped(tmp_path / "cut", step)
    list(training_events(plain, tmp_path / "cut", resume=True))
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_stopped_in_its_last_evaluation_is_evaluated_once_resumed(plain: Config, tmp_path: Path):
    short = replace(plain, train=replace(plain.train, steps=3))
    list(training_events(short, tmp_path / "whole"))
    *_, end = training_events(short, tmp_path / "cut", stop=at(4))
    assert end == Stopped(tmp_path / "cut", 3)
    records = list(training_events(short, tmp_path / "cut", resume=True))
    assert [type(record) for record in records[-2:]] == [Validation, Done]
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_can_be_extended(plain: Config, tmp_path: Path):
    constant = replace(plain.train, milestones=(), warmup_steps=0)
    whole, first = (replace(plain, train=replace(constant, epochs=epochs)) for epochs in (2, 1))
    list(training_events(whole, tmp_path / "whole"))
    list(training_events(first, tmp_path / "cut"))
    notes = [
        record.text for record in training_events(whole, tmp_path / "cut", resume=True) if isinstance(record, Note)
    ]
    assert "changed since the checkpoint: train.epochs was 1, is 2" in notes
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_another_run_is_not_resumed_without_force(plain: Config, tmp_path: Path, tiny: Path):
    list(islice(training_events(plain, tmp_path / "run", stop=lambda: True), 99))
    faster = replace(plain, train=replace(plain.train, lr=0.5, log_every=7))
    words = "run: --resume would not continue the same run: train.lr was None, is 0.5; use --force to continue anyway"
    with pytest.raises(CheckpointError, match=words):
        list(training_events(faster, tmp_path / "run", resume=True))
    stopped = training_events(faster, tmp_path / "run", resume=True, force=True, stop=lambda: True)
    notes = [record.text for record in stopped if isinstance(record, Note)]
    assert "changed since the checkpoint: train.lr was None, is 0.5; train.log_every was 1, is 7" in notes

    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    annotations = tmp_path / "shapes" / "annotations" / "instances_train.json"
    document = json.loads(annotations.read_text())
    document["annotations"][0]["bbox"][2] += 1
    annotations.write_text(json.dumps(document))
    moved = replace(plain, data=replace(plain.data, root=str(tmp_path / "shapes")))
    with pytest.raises(CheckpointError, match="the images or objects of data.train have changed"):
        list(training_events(moved, tmp_path / "run", resume=True))


@pytest.mark.parametrize(("interval", "saved"), [("1 min", [20, 40, 60]), ("25 steps", [25, 50]), ("9 min", [])])
def test_checkpoints_are_due_by_the_clock_or_by_steps(plain: Config, tmp_path: Path, monkeypatch, interval, saved):
    now = 0.0
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: now)
    folder = RunFolder(tmp_path / "run", resume=False, every=interval)
    folder.begin(plain, log_bytes=0)
    due = []
    for step in range(1, 71):
        now += 3  # seconds a step
        if folder.is_due(step):
            due.append(step)
            folder.save({}, Metadata(plain, ("cat",), (1,)), step)
    folder.close()
    assert due == saved


def test_two_runs_cannot_write_one_folder(plain: Config, tmp_path: Path, in_process):
    run = tmp_path / "run"
    script = "import sys\nfrom pathlib import Path\nfrom retinanet.io.folder_lock import FolderLock\n"
    script += "lock = FolderLock(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()"
    run.mkdir()
    command = [sys.executable, "-c", script, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        words = f"run: is in use by process {other.pid} on {socket.gethostname()}; wait until it ends"
        for resume in (False, True):
            (run / "config.yaml").touch()
            with pytest.raises(CheckpointError, match=words):
                list(training_events(plain, run, resume=resume))
        other.kill()
    list(islice(training_events(plain, run, resume=True), 2))  # a dead process holds nothing


def test_a_folder_that_cannot_be_cleared_is_not_left_locked(tmp_path: Path):
    (tmp_path / ".tmpAbC123").mkdir()  # in the place of a half-written file
    with pytest.raises(TrainingError, match="cannot be written"):
        RunFolder(tmp_path, resume=True, every="1 steps")
    assert [path.name for path in tmp_path.iterdir()] == [".tmpAbC123"]


def test_what_a_dead_run_left_half_written_is_removed(plain: Config, tmp_path: Path):
    list(training_events(plain, tmp_path / "run", stop=lambda: True))
    (tmp_path / "run" / ".last.safetensors.0123abcd.tmp").write_bytes(bytes(1000))
    (tmp_path / "run" / ".tmpAbC123").write_bytes(b"half-written by safetensors")
    (tmp_path / "run" / ".mine.tmp").write_bytes(b"not ours")
    list(training_events(plain, tmp_path / "run", resume=True, stop=lambda: True))
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [".mine.tmp", "config.yaml", LAST, LOG, PREVIOUS]


def test_a_log_without_its_last_lines_is_reported(plain: Config, tmp_path: Path):
    list(training_events(plain, tmp_path / "run", stop=lambda: True))
    (tmp_path / "run" / LOG).unlink()
    first, *_ = training_events(plain, tmp_path / "run", resume=True, stop=lambda: True)
    assert first == Note(f"warning: {tmp_path}/run/{LOG}: its last lines are missing; the run continues without them")


def test_weights_that_are_not_finite_are_not_saved(plain: Config, tmp_path: Path, monkeypatch):
    def spoil(run, batches):
        metrics = optimizer_step(run, batches)
        if metrics.step == 3:
            with torch.no_grad():
                next(run.model.parameters()).fill_(math.inf)
        return metrics

    monkeypatch.setattr("retinanet.training.train.optimizer_step", spoil)
    often = replace(plain, train=replace(plain.train, checkpoint_every="1"))
    with pytest.raises(DivergenceError, match="step 3: the loss was finite, but the updated weights are not"):
        list(training_events(often, tmp_path / "run"))
    assert read_metadata(tmp_path / "run" / LAST).progress["step"] == 2


def test_an_unreadable_image_is_reported_once_and_counted_each_time(plain: Config, tmp_path: Path, tiny: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "train" / "1.png").write_bytes(b"")
    torn = replace(plain, data=replace(plain.data, root=str(tmp_path / "shapes")))
    *records, done = training_events(torn, tmp_path / "run")
    assert isinstance(done, Done) and done.replaced == 2  # once in each epoch
    assert sum(isinstance(record, Note) and "1.png" in record.text for record in records) == 1
