"""The folder of a run: its lock, config, log and checkpoints."""

import json
import os
import time
from contextlib import suppress
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
from retinanet.io.folder_lock import LOCK_NAME, FolderLock

LOG, CONFIG = "metrics.jsonl", "config.yaml"


def check_new(output: Path) -> None:
    """Raises: CheckpointError, TrainingError if no run can start in `output`."""
    if (output / LOCK_NAME).exists():
        FolderLock(output).release()
    if output.is_dir() and any(output.iterdir()):
        raise CheckpointError(
            f"{output}: exists and is not empty; use --resume to continue it, or -o to name another folder"
        )
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output}: is a file, expected a folder that does not exist yet")
    parent = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TrainingError(f"{output}: cannot be written: {parent} is read-only for this user")


def check_started(output: Path) -> None:
    """Raises: CheckpointError if `output` holds no run to resume."""
    if not holds_checkpoint(output) and not (output / CONFIG).is_file():
        raise CheckpointError(f"{output}: holds no {LAST} to resume from; leave out --resume to start a new run")


def holds_checkpoint(output: Path) -> bool:
    return any((output / name).is_file() for name in (LAST, PREVIOUS))


def lock_folder(path: Path, resume: bool) -> FolderLock:
    """Create and lock the folder of a run, and remove incomplete files of a killed process.

    Raises: CheckpointError if another process writes to it; TrainingError if it cannot be written.
    """
    lock = None
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        for half_written in left_behind(path):
            half_written.unlink()
    except OSError as error:
        if lock is not None:
            with suppress(OSError):  # nothing can be removed from the folder
                lock.release()
        raise TrainingError(f"{path}: cannot be written: {error.strerror}") from None
    if not resume and any(found.name != LOCK_NAME for found in path.iterdir()):
        lock.release()
        raise CheckpointError(f"{path}: another run has just started in it; use -o to name another folder")
    return lock


class Log:
    """metrics.jsonl, truncated to its first `keep` bytes. missing: how many bytes it was shorter than `keep`."""

    def __init__(self, path: Path, keep: int):
        self.path = path
        self.file = path.open("ab", buffering=0)  # so that closing cannot fail
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
        """Flush all lines to the disk. Returns: the length in bytes. Raises: OSError."""
        os.fsync(self.file.fileno())
        return self.file.tell()


class RunFolder:
    """The locked folder of a run. Writes config.yaml and opens the log.

    lock: from `lock_folder`; `close` releases it. saved_step: step of the newest checkpoint, or None. log_bytes: length
        of the log at that step.
    Raises: OSError.
    """

    def __init__(self, path: Path, lock: FolderLock, config: Config, saved_step: int | None, log_bytes: int):
        self.path, self.lock = path, lock
        write_text(path / CONFIG, yaml.safe_dump(config_to_dict(config), sort_keys=False))
        self.number, self.unit = checkpoint_interval(config.train.checkpoint_every)
        self.saved_step, self.saved_at = saved_step, time.monotonic()
        self.log = Log(path / LOG, log_bytes)

    def is_due(self, step: int) -> bool:
        """Whether train.checkpoint_every requires a checkpoint after this step."""
        if self.unit == "steps":
            return step % self.number == 0
        return time.monotonic() - self.saved_at >= 60 * self.number

    def save(self, tensors: dict[str, Tensor], metadata: Metadata, step: int) -> None:
        """Write a checkpoint and keep the previous one. Raises: OSError; DivergenceError if a number is not finite."""
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise DivergenceError(
                f"step {step}: the loss was finite, but the updated weights are not; try a lower train.lr or "
                "train.clip_norm=10; the last checkpoint is intact",
                step,
            )
        checkpoint.save(self.path / LAST, tensors, metadata, keep=self.path / PREVIOUS)
        self.saved_step, self.saved_at = step, time.monotonic()

    def close(self) -> None:
        self.log.file.close()
        self.lock.release()
