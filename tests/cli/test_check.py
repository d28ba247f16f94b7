"""`retina check`, and what `retina train` takes from it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers.support import installed, retina
from PIL import Image

from retinacli.app import main
from retinacli.render.check import show_check
from retinanet.config_file import load_config
from retinanet.dataset_analysis.check import check


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A folder with tiny.yaml and its data, to spoil."""
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    shutil.copy(tiny / "tiny.yaml", tmp_path)
    return tmp_path


def run(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["retina", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code, *capfd.readouterr()


def test_json_is_one_document(copy: Path):
    (copy / "shapes" / "val" / "3.png").unlink()
    result = retina("check", "tiny.yaml", "--json", cwd=copy)
    assert (result.code, result.err) == (1, "")
    document = json.loads(result.out)
    assert list(document) == ["splits", "findings", "errors", "warnings"]
    train = document["splits"]["train"]
    assert (train["images"], train["crowds"], train["empty_images"], train["dropped_boxes"]) == (8, 0, 0, 0)
    assert train["objects"] == sum(train["classes"].values())
    assert document["errors"] == 1
    assert document["warnings"] == sum(finding["level"] == "warning" for finding in document["findings"])
    assert document["findings"][0] == {
        "level": "error",
        "code": "missing-image",
        "split": "val",
        "count": 1,
        "of": "image",
        "ids": [3],
        "files": ["3.png"],
        "text": f"1 of 4 image files of val is missing; the first: {copy}/shapes/val/3.png",
        "advice": "restore the files, or remove their images from the annotations",
    }


def test_tables(copy: Path):
    (copy / "shapes" / "train" / "3.png").write_bytes(b"")
    result = installed("check", "tiny.yaml", cwd=copy)
    assert (result.code, result.err) == (0, "")
    for text in ("empty images", "of 6", "unreadable-image", "image 3 (3.png)", "-> replace the files", "unreached-"):
        assert text in result.out
    assert "\x1b" not in result.out
    assert result.out.splitlines()[-1].startswith("0 errors, ")
    assert result.out.splitlines()[-1].endswith(": the data can be trained on")


def test_fast_does_not_decode(copy: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    path = copy / "shapes" / "train" / "3.png"
    path.write_bytes(path.read_bytes()[:9000])
    assert "unreadable-image" in run(["check", "tiny.yaml"], copy, monkeypatch, capfd)[1]
    code, out, err = run(["check", "tiny.yaml", "--fast"], copy, monkeypatch, capfd)
    assert (code, err) == (0, "") and "unreadable-image" not in out


def test_many_ids_are_cut_and_odd_names_spelled_out(copy: Path, capsys: pytest.CaptureFixture):
    file = copy / "shapes" / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for image in document["images"][:6]:
        image["file_name"] = f"\x1b[31m{image['id']}.png"
    file.write_text(json.dumps(document))
    show_check(check(load_config(copy / "tiny.yaml")), as_json=False)
    out = capsys.readouterr().out
    assert "image 0, 1, 2, 3, 4, ... of 6" in out
    assert "\x1b[31m" not in out and "\\x1b[31m0.png" in out
    assert out.splitlines()[-1].startswith("1 error, ")
    assert out.splitlines()[-1].endswith(": correct the errors before training")


def test_faults_of_the_config_are_one_line(copy: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    for arguments, text in (
        (["check", "nowhere.yaml", "--json"], "nowhere.yaml: no such file here"),
        (["check", "tiny.yaml", "--set", "data.train=null"], "data.train is not set"),
    ):
        code, out, err = run(arguments, copy, monkeypatch, capfd)
        assert (code, out, err.count("\n")) == (1, "", 1) and text in err


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_refuses_to_start_with_a_missing_file(copy: Path, monkeypatch: pytest.MonkeyPatch, capfd, split: str):
    path = copy / "shapes" / split / "3.png"
    path.unlink()
    code, out, err = run(["train", "tiny.yaml"], copy, monkeypatch, capfd)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"of {split} is missing; the first: {path}; restore the files" in err
    assert err.endswith("; retina check CONFIG lists all errors of the data\n")
    assert not (copy / "runs").exists()


def test_training_refuses_data_without_objects(copy: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    file = copy / "shapes" / "annotations" / "instances_train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    code, out, err = run(["train", "tiny.yaml"], copy, monkeypatch, capfd)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "train has no objects in 8 images; a detector cannot be trained" in err


def test_too_little_memory_is_one_line(copy: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("retinanet.data.dataset.read_image", fail)
    result = retina("check", "tiny.yaml", cwd=copy)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith("retina: out of memory; fewer data.workers")


def test_labels_that_are_ruined_fail_the_check_and_the_training(copy: Path):
    file = copy / "shapes" / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for entry in document["annotations"][1:]:
        entry["bbox"] = [128 * side for side in entry["bbox"]]
    file.write_text(json.dumps(document))
    checked, trained = retina("check", "tiny.yaml", cwd=copy), retina("train", "tiny.yaml", cwd=copy)
    assert checked.code == trained.code == 1
    assert "most-boxes-dropped" in checked.out
    assert checked.out.splitlines()[-1].endswith(": correct the errors before training")
    assert (
        trained.err.count("\n") == 1 and "are dropped in train: most have no part inside the image; the " in trained.err
    )


def test_a_data_file_of_ultralytics_is_checked_and_measured(in_process, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (64, 64), "red" if split == "val" else "blue").save(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnc: 1\nnames: [cell]\n")
    checked = in_process("check", "data.yaml", "--json", "--set", "data.workers=0")
    assert checked.code == 0, checked.err + checked.out
    assert in_process("anchors", "data.yaml", "--split", "val").code == 0
