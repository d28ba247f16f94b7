"""Saves the state of a run in a checkpoint and restores it exactly."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import AVERAGE, BEST, LAST, MODEL, OPTIMIZER, PREVIOUS
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import changes
from retinanet.config.schema import Config
from retinanet.data.dataset import Dataset
from retinanet.errors import CheckpointError, is_out_of_memory
from retinanet.messages import one_line, shortened
from retinanet.training.run import Run, RunState

RANDOM, DEVICES = "random.torch", "random.cuda."  # tensor names of the random states

MAY_CHANGE_ON_RESUME = (  # keys that do not affect the weights at a given step
    *("train.epochs", "train.steps", "train.patience", "train.eval_every", "train.log_every", "train.checkpoint_every"),
    *("train.device", "train.init", "model.pretrained", "data.workers", "data.root"),
)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint with its tensors. faults: why a newer checkpoint could not be used."""

    file: Path
    metadata: Metadata
    tensors: dict[str, Tensor]
    faults: list[str]


def pack(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of a run as tensors and progress for a checkpoint."""
    tensors = {MODEL + name: tensor for name, tensor in run.model.state_dict().items()}
    progress = vars(run.state) | run.method.state()
    progress |= {
        "scaler": run.scaler.state_dict(),
        "threads": torch.get_num_threads(),
        "processes": run.processes.world,
    }
    if run.average is not None:
        tensors |= {AVERAGE + name: tensor for name, tensor in run.average.tensors.items()}
        progress["average_updates"] = run.average.updates
    for index, values in run.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                tensors[f"{OPTIMIZER}{index}.{name}"] = torch.as_tensor(value)
    for rank, (cpu, devices) in enumerate(run.processes.gather(random_states(run))):
        tensors[random_name(rank)] = cpu
        tensors |= {f"{DEVICES}{rank + index}": state for index, state in enumerate(devices)}
    return tensors, progress


def random_name(rank: int) -> str:
    """The name of the tensor with the random state of a process."""
    return f"{RANDOM}.{rank}" if rank else RANDOM


def random_states(run: Run) -> tuple[Tensor, list[Tensor]]:
    """Torch's random states in this process: that of the CPU, and those of its GPUs."""
    devices: list[Tensor] = []
    if torch.cuda.is_initialized():
        devices = torch.cuda.get_rng_state_all() if run.processes.world == 1 else [torch.cuda.get_rng_state()]
    return torch.get_rng_state(), devices


def restore(run: Run, force: bool) -> None:
    """Put a run into the state of the newest checkpoint in its folder; adds messages to `run.notes`.

    Without a checkpoint, the run stays as it is. force: accept changes that affect the weights.
    Raises: CheckpointError if all checkpoints are damaged, or if the run would not be the same.
    """
    saved = run.processes.first(lambda: newest_checkpoint(run.folder.path))
    if saved is None:
        run.notes.append(f"{run.folder.path}: has no checkpoint yet; the run starts from the beginning")
        return
    run.notes += [f"warning: {fault}; the run continues from {saved.file.name}" for fault in saved.faults]
    run.notes += check_resumable(saved, run, force)
    unpack(saved, run, force)
    if has_changed(saved, run, "val"):
        forget_best(run, "data.val has changed")
    elif run.state.best is not None and (fault := run.processes.first(lambda: fault_of_best(run.folder.path / BEST))):
        forget_best(run, fault)
    if run.trained_epoch() and run.evaluates_now():
        run.notes.append(f"the evaluation after epoch {run.state.epoch + 1} was not finished; it starts again")
    run.folder.saved_step = run.state.step
    run.folder.last_is_whole = saved.file.name == LAST


def has_changed(saved: LoadedCheckpoint, run: Run, field: str) -> bool:
    """Whether a data set differs from the checkpoint's, where that has its fingerprint. field: "data" or "val"."""
    return saved.metadata.progress.get(field) not in ("", None, getattr(run.state, field))


def forget_best(run: Run, reason: str) -> None:
    """Let the next evaluation be the best, and say why."""
    run.notes.append(f"warning: {reason}; the next evaluation counts as the best so far")
    run.state = replace(run.state, last=None, best=None, best_epoch=None, stale=0)


def fault_of_best(file: Path) -> str:
    """Why the weights of the best evaluation cannot be used, or ""."""
    if not file.is_file():
        return f"{file}: is gone"
    try:
        checkpoint.read_tensors(file)
    except CheckpointError as error:
        return str(error)
    return ""


def unpack(saved: LoadedCheckpoint, run: Run, force: bool) -> None:
    """Restore the parts of a run and the random states; adds messages about parts that start anew.

    Raises: CheckpointError if the checkpoint does not fit.
    """
    tensors, progress = saved.tensors, dict(saved.metadata.progress)
    try:
        run.model.load_state_dict(checkpoint.strip_prefix(tensors, MODEL))
        updates, averages = progress.pop("average_updates", None), checkpoint.strip_prefix(tensors, AVERAGE)
        if run.average is not None:
            run.average.model.load_state_dict(averages or checkpoint.strip_prefix(tensors, MODEL))
            run.average.updates = updates or 0
            if not averages:
                run.notes.append("the checkpoint has no moving average of the weights; it starts from the weights")
        moments = checkpoint.strip_prefix(tensors, OPTIMIZER)
        if not force or _fits(moments, run, saved.metadata.config):
            _load_optimizer(run.optimizer, moments)
        else:
            run.notes.append(
                "the checkpoint is of another optimizer or of other weights to train; its state starts anew"
            )
        if scaler := progress.pop("scaler"):  # empty without fp16
            run.scaler.load_state_dict(scaler)
        run.notes += changed_sums(run, progress.pop("threads", None), progress.pop("processes", 1))
        run.method.load_state(progress)
        run.state = RunState(**progress | {"data": run.state.data, "val": run.state.val})
        set_random_states(run, tensors)
    except KeyError as error:
        raise CheckpointError(f"{saved.file}: cannot be resumed from: it has no {error.args[0]}") from None
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = one_line(error, "its progress or its optimizer is of another kind")
        raise CheckpointError(f"{saved.file}: does not fit the config of this run: {reason}") from None


def changed_sums(run: Run, threads: int | None, processes: int) -> list[str]:
    """A line if the run adds numbers in another order than before. threads, processes: before; None: unknown."""
    changed, now = [], torch.get_num_threads()
    if run.device.type == "cpu" and threads not in (None, now):
        changed.append(f"{threads} threads and has {now} now")
    if processes != run.processes.world:
        changed.append(f"{processes} processes and has {run.processes.world} now")
    if not changed:
        return []
    return [
        f"the run had {', and '.join(changed)}, so the last bits of its weights differ from those of a run without "
        "interruption"
    ]


def set_random_states(run: Run, tensors: dict[str, Tensor]) -> None:
    """Restore the random states of this process; a process that the run did not have keeps its own."""
    rank, world = run.processes.rank, run.processes.world
    if rank == 0 or random_name(rank) in tensors:
        torch.set_rng_state(tensors[random_name(rank)])
    for index in range(torch.cuda.device_count()) if world == 1 else [rank]:
        if (name := f"{DEVICES}{index}") in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors[name], index if world == 1 else "cuda")


def newest_checkpoint(folder: Path) -> LoadedCheckpoint | None:
    """The newest undamaged checkpoint in the folder of a run, or None if there is no checkpoint.

    Raises: CheckpointError if all are damaged.
    """
    faults: list[str] = []
    for name in (LAST, PREVIOUS):
        file = folder / name
        if not file.is_file():
            continue
        try:
            tensors = checkpoint.read_tensors(file)  # first, because it verifies the checksum
            return LoadedCheckpoint(file, checkpoint.read_metadata(file), tensors, faults)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError(f"{'; '.join(faults)}; no checkpoint is left to resume from; start a new run with -o")
    return None


def _fits(state: dict[str, Tensor], run: Run, before: Config) -> bool:
    """Whether `state` is that of this run's kind of optimizer, for parameters of these shapes."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    shapes = {int(name.split(".")[0]): tensor.shape for name, tensor in state.items() if tensor.dim()}
    same_kind = before.train.optimizer == run.config.train.optimizer
    return same_kind and [shapes[index] for index in sorted(shapes)] in ([], [p.shape for p in parameters])


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if tensor.dim() == 4:  # keep the parameter's memory layout, which affects how sums are rounded
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def check_resumable(saved: LoadedCheckpoint, run: Run, force: bool) -> list[str]:
    """A line about what has changed since the checkpoint, if anything has. Raises and `force`: see `restore`."""
    before, classes = saved.metadata.classes, run.dataset.classes
    if before != classes:
        raise CheckpointError(f"{saved.file}: was trained on the classes {list(before)}, the data has {list(classes)}")
    differ = changes(saved.metadata.config, run.config)
    forbidden = [text for key, text in differ.items() if key not in MAY_CHANGE_ON_RESUME]
    ids = saved.metadata.category_ids
    if ids != run.dataset.category_ids:
        forbidden.append(f"the category ids were {shortened(ids)}, are {shortened(run.dataset.category_ids)}")
    allowed = [text for key, text in differ.items() if key in MAY_CHANGE_ON_RESUME]
    for field, key in (("data", "data.train"), ("val", "data.val")):
        if has_changed(saved, run, field):
            forbidden.append(f"the images or objects of {key} have changed")
    if forbidden and not force:
        raise CheckpointError(
            f"{saved.file.parent}: --resume would not continue the same run: {'; '.join(forbidden[:5])}; "
            "use --force to continue anyway, or -o for a new run in another folder"
        )
    return [f"changed since the checkpoint: {'; '.join(forbidden + allowed)}"] if differ or forbidden else []


def dataset_fingerprint(dataset: Dataset) -> str:
    """Hash of a data set's file names and annotations, without its pixels."""
    digest = hashlib.sha256(dataset.files.bytes.tobytes())
    for column in (dataset.image_ids, dataset.first_object, dataset.boxes, dataset.labels, dataset.crowd):
        digest.update(column.tobytes())
    return digest.hexdigest()
