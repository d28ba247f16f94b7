"""`retina train`, and each of its refusals."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.support import TINY_MODEL, installed, retina, write_coco

from retinanet.checkpoints.checkpoint import read_metadata, read_tensors


def test_a_run_leaves_config_log_curves_and_checkpoints(tiny_run: Path):
    assert sorted(path.name for path in tiny_run.iterdir()) == [
        "best.safetensors",
        "config.yaml",
        "curves.png",
        "last.safetensors",
        "metrics.jsonl",
        "previous.safetensors",
    ]
    records = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [(r["kind"], r["epoch"], r["step"]) for r in records] == [
        ("step", 1, 1),
        ("step", 1, 2),
        ("eval", 1, 2),
        ("step", 2, 3),
        ("step", 2, 4),
        ("eval", 2, 4),
    ]
    assert all(r["cls"] > 0 and r["box"] > 0 and len(r["foreground"]) == 5 for r in records if r["kind"] == "step")
    metadata = read_metadata(tiny_run)
    assert metadata.category_ids == (10, 20, 30, 40, 50, 60)
    assert metadata.classes[0] == "red circle"
    assert yaml.safe_load((tiny_run / "config.yaml").read_text())["train"]["batch_size"] == 4


def test_messages_and_table(tiny: Path):
    result = installed("train", "tiny.yaml", "-o", "a run", "--set", "train.precision=auto", cwd=tiny)
    assert result.code == 0
    lines = result.err.splitlines()
    chosen = yaml.safe_load((tiny / "a run" / "config.yaml").read_text())["train"]["precision"]
    assert chosen in ("fp32", "bf16") and f", in {chosen}; about " in lines[0]
    assert lines[0].startswith("8 training images of 6 classes, 4 validation images; 0.2 million parameters; ")
    assert "2 epochs, 4 steps of 4 images at learning rate 0.0005" in lines[0]
    assert lines[1].startswith("step 1: classification loss ")
    assert ", expected " in lines[1] and " from fresh subnets; foreground anchors on P3..P7: " in lines[1]
    assert lines[2].startswith("epoch 1/2 step 1/4 cls ")
    assert any(line.startswith("epoch 2: AP 0.") for line in lines)
    assert lines[-1] == "use it: retina predict IMAGE --vis -w 'a run'"
    assert "red circle" in result.out and "AP50" in result.out


def test_json_is_one_document(tiny: Path):
    result = retina("train", "tiny.yaml", "-o", "json", "--epochs", "1", "--json", cwd=tiny)
    document = json.loads(result.out)
    assert document["steps"] == 2
    assert set(document["best"]["metrics"]) >= {"AP", "AP50", "ARl"}


def test_without_a_terminal_no_control_characters(tiny_run: Path, tiny: Path):
    result = retina("eval", "run", cwd=tiny)
    assert "\x1b" not in result.out + result.err


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_with_0_and_2_workers(tiny: Path):
    assert retina("train", "tiny.yaml", "-o", "alone", cwd=tiny).code == 0
    assert installed("train", "tiny.yaml", "-o", "workers", "--set", "data.workers=2", cwd=tiny).code == 0
    assert retina("train", "tiny.yaml", "-o", "seed", "--seed", "1", cwd=tiny).code == 0
    first, second, other = (read_tensors(tiny / name / "last.safetensors") for name in ("alone", "workers", "seed"))
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_force_is_for_resumed_runs(tiny: Path):
    result = retina("train", "tiny.yaml", "-o", "forced", "--force", cwd=tiny)
    assert (result.code, result.err) == (2, "retina: --force needs --resume\n")


def test_another_run_is_refused_by_name_of_its_keys(tiny: Path, tiny_run: Path):
    shutil.copytree(tiny_run, tiny / "changed")
    command = ("train", "run/config.yaml", "-o", "changed", "--resume", "--lr", 0.5, "--epochs", 3)
    result = retina(*command, cwd=tiny)
    assert (result.code, result.err) == (
        1,
        "retina: changed: --resume would not continue the same run: train.lr was None, is 0.5; use --force to continue "
        "anyway, or -o for a new run in another folder\n",
    )


def test_fine_tuning_takes_what_fits_and_lists_the_rest(tiny: Path, tiny_run: Path):
    (tiny / "tune.yaml").write_text(
        "data: {root: shapes, train: train, val: val, classes: [blue circle, red square], short_side: 64, workers: 0}\n"
        "train: {init: run/best.safetensors, epochs: 1, batch_size: 4}\n"
    )
    result = retina("train", "tune.yaml", cwd=tiny)
    assert result.code == 0, result.err
    assert "; 1 epoch, 2 steps of 4 images at learning rate " in result.err
    assert " tensors; newly initialised: cls_subnet.predict.weight, cls_subnet.predict.bias\n" in result.err
    metadata = read_metadata(tiny / "runs" / "tune")
    assert metadata.classes == ("blue circle", "red square")
    assert metadata.category_ids == (20, 30)
    assert metadata.config.model.fpn_channels == 16  # the checkpoint's, which the file does not name


def test_without_val_there_is_one_warning_and_no_best(tiny: Path):
    result = retina("train", "tiny.yaml", "-o", "noval", "--epochs", "1", "--set", "data.val=null", cwd=tiny)
    assert result.code == 0
    assert result.err.count("warning: data.val is not set, so no AP is measured and no best checkpoint is kept") == 1
    assert not (tiny / "noval" / "best.safetensors").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tiny: Path):
    sgd = ("--set", "train.optimizer=sgd", "--set", "train.warmup_steps=0")
    result = retina("train", "tiny.yaml", "-o", "nan", "--lr", 100, *sgd, "--epochs", 9, cwd=tiny)
    assert result.code == 1
    assert "the loss is not finite (cls " in result.err
    assert "with boxes [[" in result.err and "train.clip_norm=10" in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
def test_a_compiler_that_is_not_there_is_one_line(tiny: Path, monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent")
    result = installed("train", "tiny.yaml", "-o", "compiled", "--set", "train.compile=true", cwd=tiny)
    assert result.code == 1
    [line] = [line for line in result.err.splitlines() if line.startswith("retina: ")]
    assert line.startswith("retina: train.compile is true, but torch.compile fails on this machine: ")
    assert "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_learns_the_same_without_a_warning(tiny: Path):
    losses = []
    for name, compile_ in (("plain", "false"), ("compiled", "true")):
        settings = (f"train.compile={compile_}", "train.log_every=1", "data.short_side=64", "data.long_side=64")
        command = ("train", "tiny.yaml", "-o", f"same-{name}", *(f"--set={text}" for text in settings))
        result = installed(*command, "--epochs", 1, cwd=tiny)
        assert result.code == 0, result.err
        assert "Warning" not in result.err and "torch" not in result.err
        lines = (tiny / f"same-{name}" / "metrics.jsonl").read_text().splitlines()
        losses.append([step["cls"] for step in map(json.loads, lines) if step["kind"] == "step"])
    assert len(losses[0]) > 1 and losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    write_coco(folder / "shapes", "train", 2)
    (folder / "full").mkdir()
    (folder / "full" / "file").touch()
    (folder / "file").touch()
    one = {"images": [{"id": 1, "file_name": "0.png", "width": 128, "height": 128}], "annotations": []}
    for name, categories in (("other", [{"id": 10, "name": "cat"}]), ("none", [])):
        path = folder / "shapes" / "annotations" / f"instances_{name}.json"
        path.write_text(json.dumps(one | {"categories": categories}))
        (folder / "shapes" / name).mkdir()
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "shapes" / "annotations" / "instances_empty.json").write_text(json.dumps(empty))
    (folder / "shapes" / "empty").mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (None, [], "retina: case.yaml: no such file here or among the shipped examples (bccd.yaml, coco.yaml, "),
        ("data: shapes\ntrain: {epoch: 3}", [], "retina: case.yaml: unknown key train.epoch; did you mean epochs?"),
        ("data: shapes\ntrain: {epochs: many}", [], "train.epochs is 'many', expected a whole number"),
        ("data: shapes\ntrain: [1]", [], "train is a list, expected a mapping"),
        ("data: shapes", ["--set", "train.lr"], "--set train.lr: expected key.path=value, such as train.lr=0.005"),
        ("data: shapes", ["--preset", "dino"], "--preset: unknown preset 'dino'; expected detectron2, torchvision, "),
        ("data: shapes", ["--set", "train.lr=-1"], "train.lr is -1.0, expected 0 to 100"),
        ("data: shapes", ["--device", "tpu9"], "the device 'tpu9' is not available; expected one of auto, cpu"),
        ("data: shapes", ["--device", "cpu", "--set", "train.precision=fp16"], "a CPU does not support; expected"),
        ("data: {root: shapes, train: empty}", [], "instances_empty.json"),
        (
            "data: {root: shapes, train: missing}",
            [],
            'no split "missing"; looked for annotations/instances_missing.json',
        ),
        ("data: {root: nowhere, train: train}", [], "nowhere: no such folder; data.root (--set data.root=DIR)"),
        ("data: {root: shapes}", [], "data.train is not set; expected a split's name, or images and annotations"),
        ("data: {root: shapes, train: train, val: other}", [], "data.train and data.val have different categories: "),
        (
            "data: shapes\nmodel: {backbone: resnet5}",
            [],
            "model.backbone: unknown backbone 'resnet5'; did you mean resnet50?",
        ),
        (
            "data: shapes",
            ["-o", "full"],
            "full: exists and is not empty; use --resume to continue it, or choose another folder with -o",
        ),
        ("data: shapes", ["-o", "file"], "file: is a file, expected a folder that does not exist yet"),
        ("data: shapes", ["-o", "/proc/retina"], "/proc/retina: cannot be written: "),
        ("data: shapes", ["-o", "new", "--resume"], "new: has no last.safetensors to resume from"),
        ("data: shapes\ntrain: {init: gone}", [], "gone: no such file or folder; expected a checkpoint or the folder"),
    ],
)
def test_each_refusal_is_one_line(folder: Path, monkeypatch, text, arguments, words):
    monkeypatch.chdir(folder)
    Path("case.yaml").unlink(missing_ok=True)
    if text is not None:
        if "model" not in text:
            text += f"\nmodel: {TINY_MODEL}"
        Path("case.yaml").write_text(text)
    before = sorted(path.name for path in folder.iterdir())
    result = retina("train", "case.yaml", *arguments)
    assert (result.code, result.out) == (1, "")
    assert words in result.err
    assert result.err.startswith("retina: ") and result.err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_coco_yaml_is_found_from_any_folder(tmp_path: Path):
    result = retina("train", "coco.yaml", cwd=tmp_path)
    assert result.code == 1
    assert result.err == (
        f"retina: {tmp_path}/coco: no such folder; data.root (--set data.root=DIR) must be the data set's folder; "
        "the data can be downloaded from https://cocodataset.org/#download "
        "(train2017.zip, val2017.zip, annotations_trainval2017.zip)\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_training_image_is_replaced_and_reported(tiny: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "train" / "1.png").write_bytes(b"")
    set_root = ("--set", f"data.root={tmp_path}/shapes")
    result = retina("train", tiny / "tiny.yaml", "-o", tmp_path / "run", "--epochs", "1", *set_root)
    assert result.code == 0, result.err
    (line,) = (line for line in result.err.splitlines() if "1.png" in line)
    assert line.endswith("; it is replaced by the next image")
    assert "warning: number of unreadable images that were replaced by the next one: 1\n" in result.err


@pytest.mark.parametrize("workers", [0, 1])
def test_too_little_memory_for_an_image_ends_the_run(tiny, tmp_path, monkeypatch, workers):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    result = retina("train", "tiny.yaml", "-o", tmp_path / "run", "--set", f"data.workers={workers}", cwd=tiny)
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("retina: out of memory; ")
