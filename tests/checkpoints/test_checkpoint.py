"""Checkpoints are read back to the last bit, and damaged ones are refused."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import AVERAGE, BEST, LAST, MODEL
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config, ModelConfig, TrainConfig
from retinanet.errors import CheckpointError
from retinanet.model.retinanet import make_model

MODEL_CONFIG = ModelConfig("resnet18", pretrained=False, fpn_channels=8, head_channels=8, head_depth=1)
METADATA = Metadata(
    config=Config(model=MODEL_CONFIG, train=TrainConfig(lr=1e-4, milestones=(0.1, 0.7))),
    classes=("cat", "naïve dog"),
    category_ids=(3, 17),
    progress={"epoch": 2, "best": 0.1234567890123, "scaler": {}},
)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, 5, 5, generator=generator)
    return {
        "model.weight": weight.to(memory_format=torch.channels_last),
        "model.transposed": weight[0, 0].T,
        "model.half": weight[0].bfloat16(),
        "model.count": torch.tensor(7),
        "model.flags": torch.tensor([True, False]),
        "model.odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "model.nothing": torch.zeros(0, 4),
        "random.torch": torch.arange(17, dtype=torch.uint8),
    }


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    bits = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(*bits)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / LAST
    checkpoint.save(path, tensors(), METADATA)
    return path


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return make_model(MODEL_CONFIG, Config().anchors, 2).eval()


def of_model(model, prefix=MODEL) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def test_tensors_and_metadata_are_read_back_to_the_last_bit(file):
    read = checkpoint.read_tensors(file)
    expected = tensors()
    assert read.keys() == expected.keys()
    assert all(same_bits(read[name], expected[name]) for name in read)
    assert checkpoint.read_metadata(file) == METADATA
    assert list(file.parent.iterdir()) == [file]


def test_a_second_save_replaces_the_first(file):
    checkpoint.save(file, {"model.x": torch.ones(2)}, METADATA)
    assert checkpoint.read_tensors(file).keys() == {"model.x"}


def test_files_get_the_permissions_of_others(file, tmp_path):
    other = tmp_path / "other"
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_loaded_model_gives_the_same_outputs(tmp_path, model, as_folder):
    checkpoint.save(tmp_path / BEST, of_model(model), METADATA)
    loaded, metadata = checkpoint.load_model(tmp_path if as_folder else tmp_path / BEST)
    assert metadata == METADATA and not loaded.training
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, got = model(images), loaded(images)
    for ours, theirs in zip(got.logits + got.deltas, expected.logits + expected.deltas, strict=True):
        assert torch.equal(ours, theirs)


def test_averaged_weights_are_preferred(tmp_path, model):
    average = {name: torch.full_like(tensor, 3) for name, tensor in of_model(model, AVERAGE).items()}
    checkpoint.save(tmp_path / LAST, of_model(model) | average, METADATA)
    loaded, _ = checkpoint.load_model(tmp_path)
    assert all((tensor == 3).all() for tensor in loaded.state_dict().values())


def test_a_runs_folder_stands_for_its_best_then_its_last(file, tmp_path):
    assert checkpoint.resolve(tmp_path) == file
    (tmp_path / BEST).touch()
    assert checkpoint.resolve(str(tmp_path)) == tmp_path / BEST


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"none: no such file or folder; expected a checkpoint or the folder"):
        checkpoint.load_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"has no best\.safetensors or last\.safetensors; expected the folder"):
        checkpoint.load_model(tmp_path)


def test_the_folder_of_runs_and_a_config_name_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in range(6):
        Path(f"runs/{run}").mkdir(parents=True)
        Path(f"runs/{run}", LAST).touch()
    Path("cells.yaml").write_text("data: shapes")
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_model("runs")
    assert str(error.value).endswith(
        "expected the folder of a retina run; found " + ("runs/0, runs/1, runs/2, runs/3, runs/4, ...")
    )
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_model("cells.yaml")
    assert str(error.value) == "cells.yaml: is not a readable safetensors file: it is text" + (
        "; expected a checkpoint or the folder of a run: retina train writes runs/cells for a config"
    )


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"epochs: 12\n" * 20, b"\xff" * 100, b"PK\x03\x04" + b"\0" * 100])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for read in (checkpoint.read_metadata, checkpoint.read_tensors, checkpoint.load_model):
        with pytest.raises(
            CheckpointError, match=r"^.*model\.safetensors: is not a readable safetensors file: "
        ) as error:
            read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_another_programs_file_is_refused(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="is a safetensors file of another program"):
        checkpoint.load_model(path)


def test_a_later_format_is_refused(file, monkeypatch):
    monkeypatch.setattr("retinanet.checkpoints.metadata.VERSION", "2")
    with pytest.raises(CheckpointError, match="has format version 1, expected 2"):
        checkpoint.read_metadata(file)


def flip(path, position: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bit
    path.write_bytes(content)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_flipped_bit_of_a_tensor_is_found(file, part):
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")  # the header's length, the header, then the tensors
    flip(file, start + int(part * (len(content) - start)))
    with pytest.raises(CheckpointError, match="is damaged: its checksum differs"):
        checkpoint.read_tensors(file)


@pytest.mark.parametrize("text", [b"cat", b"0.0001", b"0.1234567890123", b"model.count"])
def test_a_flipped_bit_of_the_header_is_found(file, text):
    # a class, the learning rate, the best AP, a tensor's name: the header is still valid JSON with other content
    flip(file, file.read_bytes().index(text) + len(text) - 1)
    with pytest.raises(CheckpointError):
        checkpoint.read_tensors(file)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_a_cut_file_is_refused(file, part):
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    for read in (checkpoint.read_metadata, checkpoint.read_tensors):
        with pytest.raises(CheckpointError):
            read(file)


def test_damaged_metadata_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    good = {
        "format": "retina",
        "version": "1",
        "config": "{}",
        "classes": '["a"]',
        "category_ids": "[1]",
        "progress": "{}",
    }
    for key, value in (
        ("classes", "{"),
        ("category_ids", '["one"]'),
        ("progress", "3"),
        ("config", json.dumps({"train": {"epochs": -1}})),
        ("config", None),
    ):
        record = good | {key: value} if value is not None else {k: v for k, v in good.items() if k != key}
        save_file({"model.x": torch.ones(1)}, path, metadata=record)
        with pytest.raises(CheckpointError, match=r"x\.safetensors: "):
            checkpoint.read_metadata(path)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path, model):
    state = of_model(model)
    state.pop("model.fpn.p7.bias")
    checkpoint.save(tmp_path / LAST, state, METADATA)
    with pytest.raises(
        CheckpointError, match=r"last\.safetensors: does not fit its own config: .*fpn\.p7\.bias"
    ) as error:
        checkpoint.load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(file, monkeypatch, call):
    before = file.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(file, {"model.x": torch.ones(2)}, METADATA)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_disk_full_while_writing_is_an_os_error(file, monkeypatch):
    from safetensors import SafetensorError

    def fail(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(file, {"model.x": torch.ones(2)}, METADATA)
    assert list(file.parent.iterdir()) == [file]
