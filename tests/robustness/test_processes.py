"""Several processes end together, with one message; a run that some of them began is continued by any number."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.processes import finish, run, start
from helpers.support import TINY_MODEL, Result, model_weights, retina, same_run, write_training

TRAIN = ["-m", "retinacli", "train", "many.yaml"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of 24 and 21 images, and `many.yaml`, which trains on it for 8 steps."""
    return write_training(
        tmp_path_factory.mktemp("many") / "many.yaml",
        train=24,
        val=21,
        workers=0,
        sections=f"model: {TINY_MODEL[:-1]}, trunk_norm: gn}}\n"
        "train: {epochs: 2, batch_size: 6, log_every: 1, optimizer: sgd, lr: 0.001, eval_every: 2}\n",
    )


@pytest.fixture(scope="module")
def two(many: Path) -> Path:
    """The folder of a run that two processes trained."""
    results = run(2, *TRAIN, "-o", "two", "--json", cwd=many)
    assert [result.code for result in results] == [0, 0], results
    first, second = results
    assert json.loads(first.out)["steps"] == 8
    assert (second.out, second.err) == ("", "")
    assert first.err.count("epoch 1/2 step 1/8 ") == 1
    assert ", 2 processes, in fp32; about" in first.err
    return many / "two"


def test_only_the_first_process_prints_and_writes(two: Path):
    names = sorted(path.name for path in two.iterdir())
    assert names == [
        "best.safetensors", "config.yaml", "curves.png", "last.safetensors", "metrics.jsonl", "previous.safetensors",
    ]  # fmt: skip
    steps = [json.loads(line)["step"] for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 8]


def stopped(processes: list[subprocess.Popen], number: int, victim: int) -> list[Result]:
    """Send a signal to one process after the third step."""
    assert processes[0].stderr is not None
    lines = []
    for line in processes[0].stderr:
        lines.append(line)
        if " step 3/" in line:
            break
    processes[victim].send_signal(number)
    results = finish(processes, 120)
    return [Result(results[0].code, results[0].out, "".join(lines) + results[0].err), *results[1:]]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_the_resumed_run_is_the_same(many: Path, two: Path):
    results = stopped(start(2, *TRAIN, "-o", "stopped", cwd=many), signal.SIGTERM, victim=1)
    assert [result.code for result in results] == [143, 143], results
    told = [line for result in results for line in result.err.splitlines() if line.startswith("retina: terminated")]
    step = read_step(many / "stopped")
    assert told == [f"retina: terminated and saved after step {step}; continue with: torchrun ... -m retinacli train "
                    "many.yaml -o stopped --resume"]  # fmt: skip
    assert [result.code for result in run(2, *TRAIN, "-o", "stopped", "--resume", cwd=many)] == [0, 0]
    same_run(two, many / "stopped")


def read_step(folder: Path) -> int:
    from retinanet.checkpoints.checkpoint import read_metadata

    return read_metadata(folder / "last.safetensors").progress["step"]


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_one_line(many: Path):
    for victim in (0, 1):
        results = stopped(start(2, *TRAIN, "-o", f"killed{victim}", cwd=many), signal.SIGKILL, victim)
        assert results[victim].code == -signal.SIGKILL
        assert results[1 - victim].code == 1
        told = [line for line in results[1 - victim].err.splitlines() if line.startswith("retina:")]
        assert told == [
            "retina: another process ended unexpectedly; the system kills a process if memory runs out; "
            "no checkpoint was written yet"
        ]


def test_an_error_of_one_process_is_printed_once(many: Path):
    results = run(2, *TRAIN, "--batch-size", 5, "-o", "refused", cwd=many)
    assert sorted(result.err for result in results) == [
        "",
        "retina: a batch of 5 images cannot be divided among 2 processes; set train.batch_size to 4 or 6\n",
    ]
    assert [result.code for result in results] == [1, 1]
    assert not (many / "refused").exists()


@pytest.mark.slow
def test_another_number_of_processes_continues_the_run(many: Path, two: Path):
    stopped(start(3, *TRAIN, "-o", "changed", cwd=many), signal.SIGTERM, victim=0)
    (alone,) = run(1, *TRAIN, "-o", "changed", "--resume", cwd=many)
    assert alone.code == 0
    note = (
        "retina: the run had 3 processes and has 1 now, so the last bits of its weights differ from those of a run "
        "without interruption"
    )
    assert note.removeprefix("retina: ") in alone.err
    torch.testing.assert_close(model_weights(many / "changed"), model_weights(two), rtol=0, atol=1e-5)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes in one thread, as in `run`, since another number changes the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_evaluate_as_one(many: Path, two: Path, tmp_path: Path, one_thread: None, world: int):
    (many / "shapes" / "val" / "7.png").write_bytes(b"not a picture")
    options = ["--set", "detect.score_threshold=0.01", "--funnel", "--diagnose", "--reference", "--json"]
    one, several = (
        ["eval", two, *options, f"--thresholds={tmp_path}/thresholds{count}", f"--save-coco={tmp_path}/results{count}"]
        for count in (1, world)
    )
    alone = retina(*one, cwd=many)
    first, *others = run(world, "-m", "retinacli", *several, cwd=many)
    assert alone.code == first.code == 0, (alone, first)
    assert json.loads(first.out) == json.loads(alone.out)
    assert [(other.code, other.out, other.err) for other in others] == [(0, "", "")] * (world - 1)
    assert "7.png: not an image" in first.err
    for name in ("thresholds", "results"):
        assert (tmp_path / f"{name}{world}").read_bytes() == (tmp_path / f"{name}1").read_bytes()
    assert len(json.loads((tmp_path / "results1").read_text())) > 20
