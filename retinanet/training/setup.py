"""Builds the parts of a run from its config, or restores them from its newest checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from retinanet.checkpoints import checkpoint
from retinanet.config.schema import Config, LossConfig, loss_settings
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.held_out import with_fingerprint
from retinanet.data.loader import workers_note
from retinanet.data.sampler import AspectRatioBatchSampler
from retinanet.dataset_analysis.check import errors_without_images
from retinanet.devices import pick_device
from retinanet.distributed import Processes, average_gradients, current_processes, started_by_torchrun
from retinanet.errors import CheckpointError, ConfigError, DataError
from retinanet.precision import Pass, Precision, fastest_precision, shortest_times
from retinanet.training.compilation import compile_network
from retinanet.training.method import Method, RetinaNetMethod
from retinanet.training.optimizer import WeightAverage, make_optimizer
from retinanet.training.resume import dataset_fingerprint, newest_checkpoint, restore
from retinanet.training.run import Run, RunState
from retinanet.training.run_folder import (
    OtherProcessFolder,
    RunFolder,
    check_new,
    check_started,
    holds_checkpoint,
)


def start_run(
    config: Config,
    output: Path,
    resume: bool,
    force: bool,
    make_method: Callable[[Config], Method] = RetinaNetMethod,
    times: Callable[[Sequence[Pass]], Sequence[float]] = shortest_times,
) -> Run:
    """Build a run in the folder `output`, locked until `run.folder` is closed. Arguments: as in `training_events`.

    times: measures the passes in fp32 and bf16 where train.precision is auto, in seconds.
    Nothing is written before all parts are built. Raises: ConfigError, DataError, CheckpointError, TrainingError.
    """
    processes = current_processes()
    device = processes.together(lambda: pick_device(config.train.device))
    resumed = processes.first(lambda: check_folder(output, resume))
    begun = output if resumed else None
    precision = processes.first(lambda: chosen_precision(config, device, begun, times))
    t = replace(config.train, precision=precision)
    config = replace(config, train=t)
    dataset, val, notes = processes.first(lambda: open_train_and_val(config))
    config = with_fingerprint(config, val)
    torch.manual_seed(t.seed)
    # the other processes receive the initial weights of the first
    fresh = not resumed and processes.rank == 0
    method = make_method(config)
    model = processes.together(lambda: build_model(method, config, dataset.classes, fresh, notes))
    model = model.to(device).to(memory_format=torch.channels_last)
    if t.compile:
        compile_network(model)
    network = average_gradients(model)
    if processes.rank:
        torch.manual_seed(t.seed + processes.rank)  # a backbone with dropout draws other numbers for other images
    notes.extend(workers_note(config.data.workers))
    notes.extend(check_alpha(config.loss, len(dataset.classes)))
    run = Run(
        config,
        device,
        dataset,
        val,
        processes,
        method,
        model,
        network,
        optimizer=make_optimizer(model, t),
        average=WeightAverage(model, t.ema) if t.ema else None,
        scaler=torch.amp.GradScaler(device.type, enabled=t.precision == "fp16"),
        sampler=AspectRatioBatchSampler(dataset.sizes, t.batch_size, t.seed, processes.rank, processes.world),
        folder=processes.together(lambda: open_folder(output, resume, t.checkpoint_every, processes)),
        state=RunState(data=dataset_fingerprint(dataset), val="" if val is None else dataset_fingerprint(val)),
        notes=notes,
    )
    try:
        if resume:
            restore(run, force)
        notes += processes.together(lambda: run.folder.begin(run.config, run.state.log_bytes))
    except BaseException:
        run.folder.close()
        raise
    return run


def check_folder(output: Path, resume: bool) -> bool:
    """Whether a checkpoint in `output` is to be resumed. Raises: see `check_new`, `check_started`.

    torchrun starts a run that has failed again with the same arguments, so that --resume also begins a run there.
    """
    if not resume:
        check_new(output)
    elif output.exists() or not started_by_torchrun():
        check_started(output)
    return resume and holds_checkpoint(output)


def chosen_precision(
    config: Config, device: torch.device, begun: Path | None, times: Callable[[Sequence[Pass]], Sequence[float]]
) -> Precision:
    """The configured precision; in place of `auto`, that with which a run began, else the fastest on `device`.

    begun: the folder of a run that continues, which keeps its precision on every device. times: as in `start_run`.
    Raises: ConfigError if `device` does not support the precision.
    """
    precision = config.train.precision
    if precision == "auto" and begun is not None and (saved := newest_checkpoint(begun)) is not None:
        precision = saved.metadata.config.train.precision
    if precision == "auto":
        return fastest_precision(device, config.model.head_channels, True, times)
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision is fp16, which a CPU does not support; expected fp32 or bf16")
    return precision


def open_folder(output: Path, resume: bool, every: str, processes: Processes) -> RunFolder | OtherProcessFolder:
    """The folder of the run, which only process 0 writes. Raises: see `RunFolder`."""
    return RunFolder(output, resume, every) if processes.rank == 0 else OtherProcessFolder(output)


def open_train_and_val(config: Config) -> tuple[Dataset, Dataset | None, list[str]]:
    """Both splits, and messages about them.

    Raises: DataError if the data has an error that would spoil the run and that is found without reading images.
    """
    train = open_dataset(config.data, "train")
    notes, val = [*train.notes], None
    if config.data.has_val:
        val = open_dataset(config.data, "val")
        notes.extend(val.notes)
    else:
        notes.append("warning: data.val is not set, so no AP is measured and no best checkpoint is kept")
    for fault in errors_without_images(train, val)[:1]:
        raise DataError(f"{fault.text}; {fault.advice}; retina check CONFIG lists all errors of the data")
    return train, val, notes


def build_model(method: Method, config: Config, classes: tuple[str, ...], fresh: bool, notes: list[str]) -> nn.Module:
    """The model of a run; adds a message about train.init to `notes`.

    fresh: load the initial weights; False if a checkpoint of the run replaces them.
    """
    init = config.train.init if fresh else None
    model = method.make_model(len(classes), pretrained=config.model.pretrained and fresh and init is None)
    if init is not None:
        notes.append(fine_tune(model, init, classes))
    return model


def fine_tune(model: nn.Module, path: str, classes: tuple[str, ...]) -> str:
    """Load every tensor of checkpoint `path` that fits `model`. Returns: a line about what was loaded."""
    file = checkpoint.resolve(path)
    known = checkpoint.read_metadata(file).classes
    given = checkpoint.model_tensors(checkpoint.read_tensors(file))
    own = model.state_dict()
    # the classification layer fits any data set with as many classes, but is only useful for the same classes
    fits = {
        name: tensor
        for name, tensor in given.items()
        if name in own
        and own[name].shape == tensor.shape
        and (known == classes or not name.startswith("cls_subnet.predict"))
    }
    if not fits:
        raise CheckpointError(f"{file}: none of its {len(given)} tensors fits this model")
    model.load_state_dict(own | fits)
    left = [name for name in own if name not in fits]
    message = f"fine-tuning from {file}: loaded {len(fits)} of {len(own)} tensors"
    return f"{message}; newly initialised: {', '.join(left[:8])}{', ...' if len(left) > 8 else ''}" if left else message


def check_alpha(loss: LossConfig, classes: int) -> list[str]:
    """Warnings about loss.alpha. Raises: ConfigError if it is a list of a length other than `classes`."""
    settings = loss_settings(loss)
    alpha = settings.get("alpha")
    if isinstance(alpha, tuple):
        if len(alpha) != classes:
            raise ConfigError(f"loss.alpha has {len(alpha)} values, expected 1 or {classes} (one for each class)")
        return []
    if loss.classification == "focal" and settings["gamma"] == 0 and settings["alpha"] < 0.5:
        return [
            f"warning: with loss.gamma 0, loss.alpha {alpha:g} gives objects less weight than background; in the paper "
            "(table 1a) AP was 10.8 with alpha 0.25 and 31.1 with alpha 0.75"
        ]
    return []
