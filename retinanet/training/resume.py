"""Everything a run needs to go on as if it had never stopped, to a checkpoint and back."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import AVERAGE, LAST, MODEL, OPTIMIZER, PREVIOUS
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import changes
from retinanet.config.schema import Config
from retinanet.data.dataset import Dataset
from retinanet.errors import CheckpointError
from retinanet.losses.criterion import Criterion
from retinanet.training.optimizer import WeightAverage

RANDOM, DEVICES = "random.torch", "random.cuda."


@dataclass
class State:
    """How far a run has come; travels in the checkpoint.

    batch: batches of `epoch` already done. log_bytes: of LOG. replaced: images that could not be read, each time.
    data: `dataset_fingerprint` of what it is trained on.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    last: float | None = None  # AP
    best: float | None = None
    best_epoch: int | None = None
    stale: int = 0  # evaluations since the best
    log_bytes: int = 0
    replaced: int = 0
    data: str = ""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that was read whole. faults: why a newer one was not taken."""

    file: Path
    metadata: Metadata
    tensors: dict[str, Tensor]
    faults: list[str]


def pack(
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    scaler: torch.amp.GradScaler,
    state: State,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values for `checkpoint.save`."""
    tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
    progress = vars(state) | {"normalizer": float(criterion.running_normalizer), "scaler": scaler.state_dict()}
    if average is not None:
        tensors |= {AVERAGE + name: tensor for name, tensor in average.tensors.items()}
        progress["average_updates"] = average.updates
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                tensors[f"{OPTIMIZER}{index}.{name}"] = torch.as_tensor(value)
    tensors[RANDOM] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors |= {f"{DEVICES}{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensors, progress


def unpack(
    saved: LoadedCheckpoint,
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    scaler: torch.amp.GradScaler,
) -> State:
    """Fill the run's parts from a checkpoint. Returns: how far the run had come. Raises: CheckpointError."""
    tensors, progress = saved.tensors, dict(saved.metadata.progress)
    try:
        model.load_state_dict(checkpoint.strip_prefix(tensors, MODEL))
        updates = progress.pop("average_updates", None)
        if average is not None:
            averaged = checkpoint.strip_prefix(tensors, AVERAGE)
            for name, tensor in average.tensors.items():
                tensor.copy_(averaged[name])
            average.updates = updates
        _load_optimizer(optimizer, checkpoint.strip_prefix(tensors, OPTIMIZER))
        scaler.load_state_dict(progress.pop("scaler"))
        criterion.running_normalizer = progress.pop("normalizer", criterion.running_normalizer)
        state = State(**progress)
        torch.set_rng_state(tensors[RANDOM])
        for index in range(torch.cuda.device_count() if f"{DEVICES}0" in tensors else 0):
            torch.cuda.set_rng_state(tensors[f"{DEVICES}{index}"], index)
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        line = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{saved.file}: does not fit the config of this run: {line}") from None
    return state


def newest(folder: Path) -> LoadedCheckpoint | None:
    """The checkpoint to go on from: `last`, or `previous` where `last` is damaged or absent. None: not one yet.

    Raises: CheckpointError if all are damaged.
    """
    faults: list[str] = []
    for name in (LAST, PREVIOUS):
        file = folder / name
        if not file.is_file():
            continue
        try:
            tensors = checkpoint.read_tensors(file)  # first, as it compares the checksum of all
            return LoadedCheckpoint(file, checkpoint.read_metadata(file), tensors, faults)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError(f"{'; '.join(faults)}; no checkpoint is left to continue from, start afresh with -o")
    return None


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if tensor.dim() == 4:  # the memory layout decides how sums are rounded
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


FREE = (  # keys that may differ when a run goes on: its end, what it tells, and where it happens
    *("train.epochs", "train.steps", "train.patience", "train.eval_every", "train.log_every", "train.checkpoint_every"),
    *("train.device", "train.init", "model.pretrained", "data.workers", "data.root"),
)


def check_same(saved: LoadedCheckpoint, config: Config, classes: tuple[str, ...], data: str, force: bool) -> list[str]:
    """What differs from the run that `saved` is of, one line.

    classes, data: of the training data, as `dataset_fingerprint` has it. force: also where a difference makes it another run.

    Raises: CheckpointError.
    """
    before = saved.metadata.classes
    if before != classes:
        raise CheckpointError(f"{saved.file}: was trained on {list(before)}, the data has {list(classes)}")
    differ = changes(saved.metadata.config, config)
    held = [text for key, text in differ.items() if key not in FREE]
    if saved.metadata.progress.get("data") not in ("", None, data):
        held.append("the images or objects of data.train are others")
    if held and not force:
        raise CheckpointError(
            f"{saved.file.parent}: --resume would not continue the same run: {'; '.join(held[:5])}; --force does so, "
            "-o names another folder"
        )
    free = [text for key, text in differ.items() if key in FREE]
    return [f"changed since the checkpoint: {'; '.join(held + free)}"] if held or free else []


def dataset_fingerprint(dataset: Dataset) -> str:
    """A hash of a data set's file names and annotations, without the images' pixels."""
    digest = hashlib.sha256(dataset.files.bytes.tobytes())
    for column in (dataset.image_ids, dataset.first_object, dataset.boxes, dataset.labels, dataset.crowd):
        digest.update(column.tobytes())
    return digest.hexdigest()
