"""A run that is interrupted at any step and resumed gives the same weights and log to the last bit."""

import json
import math
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from helpers.support import same_run
from torch.nn.functional import dropout

from retinanet.checkpoints.checkpoint import BEST, LAST, PREVIOUS, read_metadata, read_tensors, save
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config
from retinanet.config_file import load_config
from retinanet.errors import CheckpointError, DataError, DivergenceError
from retinanet.model.retinanet import make_model
from retinanet.training import run_folder
from retinanet.training.events import Done, Event, Note, Progress, Stopped, Validation
from retinanet.training.run_folder import LOG, RunFolder
from retinanet.training.step import optimizer_step
from retinanet.training.train import training_events

KINDS = {  # two epochs of four steps each
    "sgd, sampled anchors": (
        "train.optimizer=sgd",
        "train.ema=null",
        "model.trunk_norm=bn",
        "loss.classification=sampled",
        "train.checkpoint_every=3",
    ),
    "two loader workers": ("data.workers=2", "train.augment.short_sides=[48, 64]", "train.checkpoint_every=1 step"),
    "accumulated": (
        "train.accumulate=2",
        "train.batch_size=1",
        "loss.normalizer=exponential",
        "train.checkpoint_every=3",
    ),
}


@pytest.fixture(
    params=["sgd, sampled anchors", pytest.param("two loader workers", marks=pytest.mark.slow), "accumulated"]
)
def config(tiny: Path, request: pytest.FixtureRequest) -> Config:
    return load_config(tiny / "tiny.yaml", ("train.batch_size=2", *KINDS[request.param]))


@pytest.fixture
def plain(tiny: Path) -> Config:
    return load_config(tiny / "tiny.yaml", ["train.batch_size=2"])


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


def test_a_damaged_last_checkpoint_does_not_replace_the_previous_one(plain: Config, tmp_path: Path):
    often = replace(plain, train=replace(plain.train, checkpoint_every="1"))
    list(training_events(often, tmp_path / "run", stop=at(3)))
    last, previous = tmp_path / "run" / LAST, tmp_path / "run" / PREVIOUS
    good = previous.read_bytes()
    last.write_bytes(last.read_bytes()[:-1])
    run = training_events(often, tmp_path / "run", resume=True)
    with closing(run):
        progress = next(steps(run))
        assert progress.step == 3  # not saved yet
        next(steps(run))
    assert previous.read_bytes() == good and read_metadata(last).progress["step"] == 3


@pytest.mark.parametrize(
    ("before", "now", "notes"),
    [
        (
            ["train.optimizer=adamw", "train.ema=null"],
            ["train.optimizer=sgd", "train.ema=0.5"],
            ["optimizer", "moving"],
        ),
        (["model.freeze_stages=2"], ["model.freeze_stages=0"], ["optimizer or of other weights to train"]),
        (["train.ema=0.9"], ["train.ema=null"], []),
    ],
)
def test_a_forced_resume_goes_on_with_another_optimizer_or_average(tiny: Path, tmp_path: Path, before, now, notes):
    resnet = ["train.batch_size=4", "data.short_side=32"]
    first, second = (load_config(tiny / "tiny.yaml", [*resnet, *overrides]) for overrides in (before, now))
    list(training_events(first, tmp_path / "run", stop=at(1)))
    *records, end = training_events(second, tmp_path / "run", resume=True, force=True)
    assert isinstance(end, Done) and end.steps == 4
    anew = [record.text for record in records if isinstance(record, Note) and record.text.startswith("the checkpoint")]
    assert len(anew) == len(notes) and all(word in text for word, text in zip(notes, sorted(anew)[::-1], strict=True))


def test_another_validation_set_is_not_resumed_without_force(plain: Config, tmp_path: Path, tiny: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    moved = replace(plain, data=replace(plain.data, root=str(tmp_path / "shapes")))
    list(training_events(moved, tmp_path / "run", stop=at(9)))  # in the second epoch: there is a best AP
    file = tmp_path / "shapes" / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    document["annotations"].pop()
    file.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="the images or objects of data.val have changed; use --force"):
        list(training_events(moved, tmp_path / "run", resume=True))
    notes = notes_of(training_events(moved, tmp_path / "run", resume=True, force=True))
    assert "warning: data.val has changed; the next evaluation counts as the best so far" in notes


def notes_of(run: Iterator[Event]) -> list[str]:
    return [record.text for record in run if isinstance(record, Note)]


def test_changed_category_ids_are_named(plain: Config, tmp_path: Path, tiny: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    moved = replace(plain, data=replace(plain.data, root=str(tmp_path / "shapes")))
    list(training_events(moved, tmp_path / "run", stop=lambda: True))
    for split in ("train", "val"):
        file = tmp_path / "shapes" / "annotations" / f"instances_{split}.json"
        document = json.loads(file.read_text())
        for entry in document["categories"]:
            entry["id"] += 1
        for entry in document["annotations"]:
            entry["category_id"] += 1
        file.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"the category ids were \[10, 20, .*\], are \[11, 21, "):
        list(training_events(moved, tmp_path / "run", resume=True))


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_best_weights_that_are_lost_are_named_and_made_anew(plain: Config, tmp_path: Path, damage):
    list(training_events(plain, tmp_path / "run", stop=at(9)))
    best = tmp_path / "run" / BEST
    best.unlink() if damage == "gone" else best.write_bytes(best.read_bytes()[:-1] + b"?")
    notes = notes_of(training_events(plain, tmp_path / "run", resume=True))
    assert any(str(best) in note and note.endswith("the next evaluation counts as the best so far") for note in notes)
    assert read_metadata(best).progress["epoch"] == 2


def test_another_number_of_threads_is_named(plain: Config, tmp_path: Path):
    list(training_events(plain, tmp_path / "run", stop=lambda: True))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        notes = notes_of(training_events(plain, tmp_path / "run", resume=True, stop=lambda: True))
    finally:
        torch.set_num_threads(threads)
    assert (
        sum(f"the run had {threads} threads and has {threads + 1} now, so the last bits" in note for note in notes) == 1
    )


def test_damaged_lines_of_the_log_are_counted_and_left_out(plain: Config, tmp_path: Path):
    list(training_events(plain, tmp_path / "run", stop=at(3)))
    log = tmp_path / "run" / LOG
    lines = log.read_bytes().splitlines()
    size = log.stat().st_size
    log.write_bytes(lines[0] + b"\r\n" + bytes(len(lines[1])) + b'\n\n[1]\n{"kind": "st')
    log.write_bytes(log.read_bytes().ljust(size))
    notes = notes_of(training_events(plain, tmp_path / "run", resume=True))
    assert f"warning: {log}: 4 damaged lines are left out of the curves" in notes
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize("damage", [lambda log: log[:-20], lambda log: log[:-20] + bytes(20)], ids=["cut", "zeros"])
def test_half_a_line_at_the_end_of_the_log_takes_no_other_with_it(plain: Config, tmp_path: Path, damage):
    list(training_events(plain, tmp_path / "run", stop=at(3)))
    log = tmp_path / "run" / LOG
    log.write_bytes(damage(log.read_bytes()))
    list(training_events(plain, tmp_path / "run", resume=True))
    entries, damaged = run_folder.read_log(log)
    assert [entry["step"] for entry in entries if entry["kind"] == "step"] == [1, 2, 4, 5, 6, 7, 8] and damaged == 1


@pytest.mark.parametrize(("every", "expected"), [("4", [4, 4, 8, 8]), ("3", [3, 4, 4, 6, 8, 8])])
def test_an_evaluation_has_one_checkpoint_before_it_and_one_after(
    plain: Config, tmp_path: Path, monkeypatch, every, expected
):
    saved, save = [], RunFolder.save

    def count_too(folder, tensors, metadata, step):
        saved.append(step)
        save(folder, tensors, metadata, step)

    monkeypatch.setattr(RunFolder, "save", count_too)
    list(training_events(replace(plain, train=replace(plain.train, checkpoint_every=every)), tmp_path / "run"))
    assert saved == expected


def test_a_failing_evaluation_loses_no_step(plain: Config, tmp_path: Path, monkeypatch):
    def fail(*_, **__):
        raise DataError("the evaluation failed")

    monkeypatch.setattr("retinanet.training.train.evaluate_model", fail)
    with pytest.raises(DataError):
        list(training_events(plain, tmp_path / "run"))
    assert read_metadata(tmp_path / "run" / LAST).progress["step"] == 4


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tensors, progress: progress.pop("scaler"), "cannot be resumed from: it has no scaler"),
        (lambda tensors, progress: tensors.pop("random.torch"), "cannot be resumed from: it has no random.torch"),
        (
            lambda tensors, progress: progress.update(mood="good"),
            "does not fit the config of this run: its progress or its optimizer is of another kind",
        ),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused_in_words(plain: Config, tmp_path: Path, spoil, words):
    list(training_events(plain, tmp_path / "run", stop=at(3)))
    last = tmp_path / "run" / LAST
    tensors, metadata = read_tensors(last), read_metadata(last)
    spoil(tensors, metadata.progress)
    save(last, tensors, metadata)
    with pytest.raises(CheckpointError, match=f"{LAST}: {words}$"):
        list(training_events(plain, tmp_path / "run", resume=True))


def test_best_weights_that_are_not_finite_are_not_saved(plain: Config, tmp_path: Path, monkeypatch):
    config = replace(plain, train=replace(plain.train, ema=0.5, precision="bf16"))

    def spoil(run, batches):
        metrics = optimizer_step(run, batches)
        next(iter(run.average.tensors.values())).fill_(math.nan)
        return metrics

    monkeypatch.setattr("retinanet.training.train.optimizer_step", spoil)
    words = "the updated weights are not; try train.precision=fp32 instead of bf16, .*; no checkpoint was written yet"
    with pytest.raises(DivergenceError, match=words):
        list(training_events(config, tmp_path / "run"))
    assert not (tmp_path / "run" / BEST).exists()


def test_runs_that_take_turns_do_not_change_each_other_nor_their_caller(plain: Config, tmp_path: Path):
    list(training_events(plain, tmp_path / "alone"))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for _ in zip(*(training_events(plain, tmp_path / name) for name in ("one", "other")), strict=True):
        assert torch.equal(torch.get_rng_state(), before)
    for name in ("one", "other"):
        same_run(tmp_path / "alone", tmp_path / name)


def test_runs_in_threads_do_not_change_each_other(plain: Config, tmp_path: Path, monkeypatch):
    def dropping(*arguments):
        model = make_model(*arguments)
        model.backbone.register_forward_hook(lambda module, _, maps: [dropout(m, 0.3, module.training) for m in maps])
        return model

    monkeypatch.setattr("retinanet.training.method.make_model", dropping)
    list(training_events(plain, tmp_path / "alone"))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: list(training_events(plain, tmp_path / name)), ("one", "other")))
    for name in ("one", "other"):
        same_run(tmp_path / "alone", tmp_path / name)


def test_two_runs_of_one_process_cannot_write_one_folder(plain: Config, tmp_path: Path):
    with closing(training_events(plain, tmp_path / "run", stop=lambda: True)) as run:
        next(run)
        with pytest.raises(CheckpointError, match="run: is in use by another run of this process"):
            list(training_events(plain, tmp_path / "run", resume=True))
        assert isinstance(list(run)[-1], Stopped)
