"""A full disk, a read-only folder, a missing data set, a killed worker: each is one line, and no work is lost."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from helpers.support import RETINA, Result, installed, retina, same_run

from retinanet.checkpoints.checkpoint import LAST, read_metadata
from retinanet.config_file import load_config
from retinanet.errors import DataError, TrainingError
from retinanet.training.events import Progress
from retinanet.training.train import training_events

SMALL = ("--set", "train.batch_size=2")


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of six megabytes."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=6m")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def last_line(result: Result) -> str:
    assert result.code == 1 and "Traceback" not in result.err
    return result.err.splitlines()[-1]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_continues_once_there_is_room(tiny: Path, disk: Path, tmp_path: Path):
    assert installed("train", "tiny.yaml", "-o", tmp_path / "whole", *SMALL, cwd=tiny).code == 0
    (disk / "other").write_bytes(bytes(3_000_000))
    line = last_line(installed("train", "tiny.yaml", "-o", disk / "run", *SMALL, cwd=tiny))
    assert line.startswith(f"retina: {disk}/run/") and ": cannot be written: " in line
    assert "No space left on device" in line
    assert line.endswith(
        ("; no checkpoint was written yet", "; use --resume to continue from the checkpoint of step 4")
    )
    assert not list((disk / "run").glob(".*.tmp"))
    (disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    result = installed("train", "tiny.yaml", "-o", disk / "run", *SMALL, "--resume", cwd=tiny)
    assert result.code == 0, result.err
    same_run(tmp_path / "whole", disk / "run")


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_one_line(tiny: Path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    command = [RETINA, "train", "tiny.yaml", "-o", "limited"]
    done = subprocess.run(command, cwd=tiny, capture_output=True, text=True, preexec_fn=limit)
    line = last_line(Result(done.returncode, done.stdout, done.stderr))
    assert line.startswith("retina: limited/last.safetensors: cannot be written: ") and "File too large" in line
    assert line.endswith("; no checkpoint was written yet")
    assert sorted(path.name for path in (tiny / "limited").iterdir()) == ["config.yaml", "metrics.jsonl"]


@pytest.mark.parametrize("name", ["x.png", "x.pdf", "x.svg"])
def test_a_figure_on_a_full_disk_is_one_line(disk: Path, name: str):
    (disk / "other").write_bytes(bytes(6 * 2**20 - 8192))
    assert last_line(retina("loss-plot", "-o", disk / name)) == f"retina: {disk}/{name}: No space left on device"
    assert [path.name for path in disk.iterdir()] == ["other"]


@pytest.mark.parametrize("command", ["train {0}/tiny.yaml", "loss-plot", "predict {0}/shapes/val -w {0}/run"])
def test_a_working_folder_that_was_deleted_is_one_line(tiny: Path, tmp_path: Path, command: str):
    script = f'mkdir gone; cd gone; rmdir ../gone; exec "{RETINA}" {command.format(tiny)}'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    told = "retina: the working folder no longer exists; change to one that does\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_export_onto_a_full_disk_names_its_file(tiny_run: Path, disk: Path, to: str):
    (disk / "other").write_bytes(bytes(6 * 2**20))
    file = disk / f"model.{'onnx' if to == 'onnx' else 'xml'}"
    result = retina("export", tiny_run, "--to", to, "-o", file)
    assert last_line(result) == f"retina: {file}: No space left on device"
    assert [path.name for path in disk.iterdir()] == ["other"]


def test_a_read_only_folder_is_one_line(tiny: Path, disk: Path):
    (disk / "run").mkdir()
    (disk / "run" / "config.yaml").touch()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = last_line(retina("train", "tiny.yaml", "-o", disk / "run", *SMALL, "--resume", cwd=tiny))
    assert line == f"retina: {disk}/run: cannot be written: Read-only file system"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_the_right_to_write_is_one_line(tiny: Path, tmp_path: Path):
    tmp_path.chmod(0o500)
    line = last_line(retina("train", "tiny.yaml", "-o", tmp_path / "run", *SMALL, cwd=tiny))
    assert line == f"retina: {tmp_path}/run: cannot be written: {tmp_path} is read-only for this user"


def test_data_that_disappear_end_the_run_which_continues_once_they_are_back(tiny: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    config = load_config(tiny / "tiny.yaml", [f"data.root={tmp_path}/shapes", *SMALL[1::2]])
    list(training_events(config, tmp_path / "whole"))
    run = training_events(config, tmp_path / "run")
    list(islice((record for record in run if isinstance(record, Progress)), 5))
    shutil.move(tmp_path / "shapes", tmp_path / "away")
    with pytest.raises(DataError, match="none of the 8 training images can be read; the first: .*: no such image file"):
        list(run)
    shutil.move(tmp_path / "away", tmp_path / "shapes")
    assert read_metadata(tmp_path / "run" / LAST).progress["step"] == 4
    list(training_events(config, tmp_path / "run", resume=True))
    same_run(tmp_path / "whole", tmp_path / "run")


def test_a_worker_that_the_system_kills_is_one_line(tiny: Path, tmp_path: Path):
    config = load_config(tiny / "tiny.yaml", ["data.workers=2", "train.epochs=1000", *SMALL[1::2]])
    calls = count(1)

    def kill_a_worker() -> bool:
        """Within the run, since torch raises its error wherever the signal of the worker's end arrives."""
        if next(calls) == 5:
            time.sleep(0.5)  # until the workers wait
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            workers = [int(pid) for pid in children if "python" in Path(f"/proc/{pid}/cmdline").read_text()]
            os.kill(workers[-1], signal.SIGKILL)
            time.sleep(60)
        return False

    words = r"DataLoader worker \(pid.* memory runs out; .*; use --resume to continue from the checkpoint of step \d+"
    with pytest.raises(TrainingError, match=words):
        list(training_events(config, tmp_path / "run", stop=kill_a_worker))
