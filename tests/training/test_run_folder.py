"""What else may lie where a run writes its files: it is named before the run starts, and stays as it is."""

import os
from pathlib import Path

import pytest

from retinanet.errors import CheckpointError, TrainingError
from retinanet.training import run_folder
from retinanet.training.run_folder import RunFolder, check_new, check_started

ADVICE = "; expected a file of the run; remove it, or choose another folder with -o"


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
@pytest.mark.parametrize("check", [check_new, check_started])
def test_a_link_that_would_be_written_through_is_refused(tmp_path: Path, check, name):
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    (tmp_path / "run" / name).symlink_to("../secret")
    with pytest.raises(CheckpointError) as raised:
        check(tmp_path / "run")
    assert str(raised.value) == f"{tmp_path}/run/{name}: is a link to ../secret, which the run would write{ADVICE}"
    assert (tmp_path / "secret").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    [".lock", "metrics.jsonl", "config.yaml", "curves.png", "last.safetensors", "previous.safetensors"]
    + ["best.safetensors"],
)
@pytest.mark.parametrize(("make", "kind"), [(os.mkdir, "a folder"), (os.mkfifo, "a device or a pipe")])
@pytest.mark.parametrize("check", [check_new, check_started])
def test_what_is_no_file_is_named(tmp_path: Path, check, make, kind, name):
    make(tmp_path / name)
    with pytest.raises(CheckpointError) as raised:
        check(tmp_path)
    assert str(raised.value) == f"{tmp_path}/{name}: is {kind}{ADVICE}"


def test_a_folder_named_like_a_half_written_file_is_left_alone(tmp_path: Path):
    (tmp_path / ".tmpAbC123").mkdir()
    (tmp_path / ".last.safetensors.0123abcd.tmp").mkdir()
    RunFolder(tmp_path, resume=True, every="1 steps").lock.release()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_cleared_is_not_left_locked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run_folder, "left_behind", lambda folder: [folder / "gone"])
    with pytest.raises(TrainingError, match="cannot be written: No such file or directory"):
        RunFolder(tmp_path, resume=True, every="1 steps")
    assert not list(tmp_path.iterdir())
