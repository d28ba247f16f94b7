"""The folder of a new run: what else lies there is named and stays, but a run without a step does not block it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.support import retina

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


def test_a_run_that_ended_before_its_first_step_does_not_block_the_next(tiny: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    (tmp_path / "tiny.yaml").write_text((tiny / "tiny.yaml").read_text())
    pictures = {file: file.read_bytes() for file in (tmp_path / "shapes" / "train").iterdir()}
    for file in pictures:
        file.write_bytes(b"no picture")
    result = retina("train", "tiny.yaml", "-o", "run", "--epochs", "1", cwd=tmp_path)
    assert result.code == 1 and "none of the 8 training images can be read" in result.err
    (tmp_path / "run" / ".config.yaml.0123abcd.tmp").touch()  # of a kill while it was written
    for file, content in pictures.items():
        file.write_bytes(content)
    result = retina("train", "tiny.yaml", "-o", "run", "--epochs", "1", "--json", cwd=tmp_path)
    assert (result.code, json.loads(result.out)["steps"]) == (0, 2), result.err
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize(
    "files",
    [
        {"config.yaml": "data: mine"},
        {"config.yaml": "", "metrics.jsonl": "{}\n"},
        {"metrics.jsonl": "", "config.yaml": "", "notes.txt": ""},
    ],
    ids=["a config of the user", "a logged step", "a file of the user"],
)
def test_anything_more_blocks_a_new_run(tmp_path: Path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match="exists and is not empty; use --resume to continue it, or choose"):
        check_new(tmp_path)
    with pytest.raises(CheckpointError, match="another run has just started in it"):
        RunFolder(tmp_path, resume=False, every="1 steps")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
