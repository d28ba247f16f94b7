"""Weights and everything needed to use or continue them, in one safetensors file."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from retinanet.errors import CheckpointError
from retinanet.metadata import Metadata, from_record, to_record
from retinanet.model import RetinaNet, make_model

BEST, LAST, PREVIOUS = "best.safetensors", "last.safetensors", "previous.safetensors"
MODEL, AVERAGE, OPTIMIZER = "model.", "average.", "optimizer."  # prefixes of the tensors' names


def save(path: Path, tensors: dict[str, Tensor], metadata: Metadata) -> None:
    """Write atomically: a temporary file beside `path`, fsync, rename, fsync of the folder. Raises: OSError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    record = to_record(metadata)
    record["sha256"] = _sha256(tensors, record)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=record)
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def resolve(path: str | Path) -> Path:
    """The checkpoint that a run's folder stands for (best, else last), or the file itself.

    Raises: CheckpointError if there is none.
    """
    path = Path(path)
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise CheckpointError(f"{path}: holds no {BEST} or {LAST}; expected the folder of a retina run")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder; expected a checkpoint or the folder of a retina run")
    return path


def read_metadata(path: str | Path) -> Metadata:
    """Config, classes and progress of a checkpoint, without its tensors. Raises: CheckpointError."""
    file = resolve(path)
    return from_record(_record(file), file)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, its checksum compared. Raises: CheckpointError."""
    record = _record(path)
    try:
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if _sha256(tensors, record) != record.get("sha256"):
        raise CheckpointError(f"{path}: is damaged: its checksum differs from the one written with it")
    return tensors


def load_model(path: str | Path) -> tuple[RetinaNet, Metadata]:
    """The detector of a checkpoint or a run's folder in evaluation mode, on the CPU; averaged weights where it has them.

    Raises: CheckpointError.
    """
    file = resolve(path)
    metadata = from_record(_record(file), file)
    model = make_model(metadata.config.model, metadata.config.anchors, len(metadata.classes), pretrained=False)
    try:
        model.load_state_dict(weights(read_tensors(file)))
    except RuntimeError as error:
        raise CheckpointError(f"{file}: does not fit its own config: {' '.join(str(error).split())[:300]}") from None
    return model.eval(), metadata


def weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors of a checkpoint under the model's names; the averaged ones where there are any."""
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in tensors) else MODEL
    return with_prefix(tensors, prefix)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _record(file: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            record = opened.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        hint = "; if it is torchvision's or detectron2's, retina import makes one of it"
        foreign = file.suffix in (".pth", ".pt", ".pkl")
        raise CheckpointError(f"{file}: is not a readable safetensors file: {error}{hint if foreign else ''}") from None
    if record.get("format") != "retina":
        raise CheckpointError(f"{file}: is a safetensors file of another program, expected one written by retina train")
    return record


def _sha256(tensors: dict[str, Tensor], record: dict[str, str]) -> str:
    """Of every tensor and all metadata but the checksum itself."""
    told = {key: text for key, text in record.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
