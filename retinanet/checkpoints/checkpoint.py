"""Checkpoints: one safetensors file with everything needed to use the weights or to resume training."""

import hashlib
import json
import os
from pathlib import Path
from typing import TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from retinanet.checkpoints.metadata import Metadata, from_record, to_record
from retinanet.errors import CheckpointError
from retinanet.io.atomic import replacing
from retinanet.io.file_kinds import CHECKPOINT, PICKLE, PYTORCH, SAFETENSORS, file_kind, similar_file
from retinanet.io.size_limits import check_size
from retinanet.messages import one_line
from retinanet.model.retinanet import RetinaNet, make_model

T = TypeVar("T")
MAX_CHECKPOINT_BYTES = 2**35  # ResNet-152 with optimizer state and weight average: 1 GB
FOUND = 5  # runs that a message names
BEST, LAST, PREVIOUS = "best.safetensors", "last.safetensors", "previous.safetensors"
MODEL, AVERAGE, OPTIMIZER = "model.", "average.", "optimizer."  # prefixes of the tensors' names


def save(path: Path, tensors: dict[str, Tensor], metadata: Metadata, keep: Path | None = None) -> None:
    """Write a checkpoint atomically. keep: new name for the old file at `path`. Raises: OSError naming `path`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    record = to_record(metadata)
    record["sha256"] = _sha256(tensors, record)
    with replacing(path, keep) as temporary:
        try:
            save_file(tensors, temporary, metadata=record)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from None


def resolve(path: str | Path) -> Path:
    """`path` if it is a file, or the best, else the last checkpoint in the folder of a run. Raises: CheckpointError."""
    path = Path(path)
    if os.path.isdir(path):  # False for an overlong name, where pathlib raises
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        runs = sorted({str(file.parent) for name in (BEST, LAST) for file in path.glob(f"*/{name}")})
        found = f"; found {', '.join(runs[:FOUND])}" + ", ..." * (len(runs) > FOUND) if runs else ""
        raise CheckpointError(f"{path}: has no {BEST} or {LAST}; expected the folder of a retina run{found}")
    if not os.path.isfile(path):
        raise CheckpointError(
            f"{path}: no such file or folder; expected a checkpoint or the folder of a retina run{similar_file(path)}"
        )
    return path


def read_metadata(path: str | Path) -> Metadata:
    """The metadata of a checkpoint, without reading its tensors. Raises: CheckpointError."""
    file = resolve(path)
    return from_record(_record(file), file)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, with their checksum verified. Raises: CheckpointError."""
    record = _record(path)
    try:
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read: {one_line(error)}") from None
    if _sha256(tensors, record) != record.get("sha256"):
        raise CheckpointError(f"{path}: is damaged: its checksum differs from the one written with it")
    return tensors


def read_checked_metadata(path: str | Path) -> Metadata:
    """Like `read_metadata`, after checking that names and shapes of the tensors fit the config's model.

    The check allocates no weights, since a hostile config may describe a model of any size. Raises: CheckpointError.
    """
    file = resolve(path)
    metadata = read_metadata(file)
    with safetensors.safe_open(file, framework="pt") as opened:
        held = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    held = model_tensors(held)
    try:
        with torch.device("meta"):
            model = _make(metadata)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: its config does not describe a valid model: {one_line(error)}") from None
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = [name for name in (expected | held) if expected.get(name) != held.get(name)]
    if wrong:
        name, *others = wrong
        shapes = f"{name} is {held.get(name, 'missing')}, expected {expected.get(name, 'no such tensor')}"
        also = f"; {len(others)} more differ" if others else ""
        raise CheckpointError(f"{file}: does not fit its own config: {shapes}{also}")
    return metadata


def load_model(path: str | Path) -> tuple[RetinaNet, Metadata]:
    """The model of a checkpoint or of a run's folder, with averaged weights if there are any, in evaluation mode.

    Raises: CheckpointError.
    """
    file = resolve(path)
    metadata = read_checked_metadata(file)
    model = _make(metadata)
    model.load_state_dict(model_tensors(read_tensors(file)))
    return model.eval(), metadata


def model_tensors(tensors: dict[str, T]) -> dict[str, T]:
    """The model's tensors in a checkpoint under the model's names, averaged if there is an average."""
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in tensors) else MODEL
    return strip_prefix(tensors, prefix)


def strip_prefix(tensors: dict[str, T], prefix: str) -> dict[str, T]:
    """The tensors whose names begin with `prefix`, with it removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _make(metadata: Metadata) -> RetinaNet:
    return make_model(metadata.config.model, metadata.config.anchors, len(metadata.classes), pretrained=False)


def _record(file: Path) -> dict[str, str]:
    try:
        check_size(file, MAX_CHECKPOINT_BYTES, CheckpointError)
        with safetensors.safe_open(file, framework="pt") as opened:
            record = opened.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        kind = file_kind(file)
        reason = one_line(error) if kind in (None, SAFETENSORS, CHECKPOINT) else f"it is {kind}"
        foreign = file.suffix in (".pth", ".pt", ".pkl") if kind is None else kind in (PYTORCH, PICKLE)
        hint = "; if it is torchvision's or detectron2's, convert it with retina import" if foreign else ""
        if file.suffix in (".yaml", ".yml"):
            hint = f"; expected a checkpoint or the folder of a run: retina train writes runs/{file.stem} for a config"
        raise CheckpointError(f"{file}: is not a readable safetensors file: {reason}{hint}") from None
    if record.get("format") != "retina":
        raise CheckpointError(f"{file}: is a safetensors file of another program, expected one written by retina train")
    return record


def _sha256(tensors: dict[str, Tensor], record: dict[str, str]) -> str:
    """Checksum of all tensors and metadata, except the checksum itself."""
    covered = {key: text for key, text in record.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
