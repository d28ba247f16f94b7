"""A run's folder: who may write it, its config, its log, and when its checkpoints are due."""

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import LAST, PREVIOUS
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_to_dict
from retinanet.config.schema import Config, checkpoint_interval
from retinanet.errors import CheckpointError, DivergenceError, TrainingError
from retinanet.io.atomic import left_behind, write_text
from retinanet.io.folder_lock import NAME, FolderLock

LOG, CONFIG = "metrics.jsonl", "config.yaml"


def check_new(output: Path) -> None:
    """Raises: CheckpointError, TrainingError if no run can begin in `output`."""
    if (output / NAME).exists():
        FolderLock(output).release()
    if output.is_dir() and any(output.iterdir()):
        raise CheckpointError(f"{output}: exists and is not empty; --resume continues it, -o names another folder")
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output}: is a file, expected a folder that does not exist yet")
    parent = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TrainingError(f"{output}: cannot be written: {parent} is read-only for this user")


def check_begun(output: Path) -> None:
    """Raises: CheckpointError if `output` holds no run to continue."""
    if not holds_checkpoint(output) and not (output / CONFIG).is_file():
        raise CheckpointError(f"{output}: holds no {LAST} to resume from; without --resume a run starts afresh")


def holds_checkpoint(output: Path) -> bool:
    return any((output / name).is_file() for name in (LAST, PREVIOUS))


class Log:
    """metrics.jsonl, cut back to its first `keep` bytes: one line at a time, each whole or told as an error.

    missing: bytes that it had less.
    """

    def __init__(self, path: Path, keep: int):
        self.path = path
        self.file = path.open("ab", buffering=0)  # nothing is left to write when it is closed
        size = self.file.seek(0, os.SEEK_END)
        self.missing = max(0, keep - size)
        self.file.truncate(min(keep, size))
        self.file.seek(0, os.SEEK_END)

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Raises: OSError."""
        line = (json.dumps({"kind": kind, **values}) + "\n").encode()
        if self.file.write(line) < len(line):
            raise OSError(None, "the disk is full", str(self.path))

    def sync(self) -> int:
        """Its length in bytes, all of them on the disk. Raises: OSError."""
        os.fsync(self.file.fileno())
        return self.file.tell()


class RunFolder:
    """The folder of a run, made where it is absent, while this process alone writes it; `begin`, then `close`.

    saved_step: of the newest checkpoint. Raises: CheckpointError if another process writes it; TrainingError.
    """

    log: Log

    def __init__(self, path: Path, resume: bool):
        self.path = path
        self.saved_step: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.lock = FolderLock(path)
            for half_written in left_behind(path):
                half_written.unlink()
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written: {error.strerror}") from None
        if not resume and any(found.name != NAME for found in path.iterdir()):
            raise CheckpointError(f"{path}: another run began in it a moment ago; -o names another folder")

    def begin(self, config: Config, saved_step: int | None, log_bytes: int) -> None:
        """From a checkpoint of `saved_step`, by which the log had `log_bytes`; None: from the start. Raises: OSError."""
        write_text(self.path / CONFIG, yaml.safe_dump(config_to_dict(config), sort_keys=False))
        self.log = Log(self.path / LOG, log_bytes)
        self.number, self.unit = checkpoint_interval(config.train.checkpoint_every)
        self.saved_step, self.saved_at = saved_step, time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is, by `train.checkpoint_every`."""
        if self.unit == "steps":
            return step % self.number == 0
        return time.monotonic() - self.saved_at >= 60 * self.number

    def save(self, tensors: dict[str, Tensor], metadata: Metadata, step: int) -> None:
        """The newest checkpoint; the one before is kept. Raises: OSError; DivergenceError if a number is not finite."""
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise DivergenceError(
                f"step {step}: the loss was finite, but the weights that follow from it are not; a lower train.lr or "
                "train.clip_norm=10 helps most often; the last checkpoint is unharmed",
                step,
            )
        checkpoint.save(self.path / LAST, tensors, metadata, keep=self.path / PREVIOUS)
        self.saved_step, self.saved_at = step, time.monotonic()

    def close(self) -> None:
        if hasattr(self, "log"):
            self.log.file.close()
        self.lock.release()
