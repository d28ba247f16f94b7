"""A checkpoint that is cut or has a flipped bit anywhere is reported, and the one before it is used."""

from pathlib import Path

import pytest
import torch

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import LAST, PREVIOUS
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config
from retinanet.errors import CheckpointError
from retinanet.training.resume import newest_checkpoint

PARTS = 10


def write(file: Path, step: int) -> dict[str, torch.Tensor]:
    tensors = {"model.a": torch.full((3, 5), float(step)), "optimizer.0.b": torch.arange(70) + step}
    checkpoint.save(file, tensors, Metadata(Config(), ("cat",), (1,), {"step": step}))
    return tensors


def cut(whole: bytes, part: int) -> bytes:
    return whole[: len(whole) * part // PARTS]


def flipped(whole: bytes, part: int) -> bytes:
    position = len(whole) * part // PARTS
    return whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used(tmp_path: Path, damage, part):
    older = write(tmp_path / PREVIOUS, 1)
    write(tmp_path / LAST, 2)
    (tmp_path / LAST).write_bytes(damage((tmp_path / LAST).read_bytes(), part))
    saved = newest_checkpoint(tmp_path)
    assert saved is not None
    assert saved.file == tmp_path / PREVIOUS and saved.metadata.progress == {"step": 1}
    assert saved.tensors.keys() == older.keys() and all(saved.tensors[name].equal(older[name]) for name in older)
    [fault] = saved.faults
    assert fault.startswith(f"{tmp_path / LAST}: ")

    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is left to resume from; start a new run with -o"):
        newest_checkpoint(tmp_path)


def test_a_write_that_was_cut_between_its_renames_leaves_the_one_before(tmp_path: Path):
    write(tmp_path / PREVIOUS, 1)
    saved = newest_checkpoint(tmp_path)
    assert saved is not None and saved.metadata.progress == {"step": 1} and saved.faults == []


def test_each_write_keeps_the_one_before(tmp_path: Path):
    for step in (1, 2, 3):
        metadata = Metadata(Config(), ("cat",), (1,), {"step": step})
        checkpoint.save(tmp_path / LAST, {"a": torch.ones(1)}, metadata, keep=tmp_path / PREVIOUS)
    steps = [checkpoint.read_metadata(tmp_path / name).progress["step"] for name in (LAST, PREVIOUS)]
    assert steps == [3, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]
