"""The folder of a run: its lock, config, log and checkpoints."""

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import BEST, LAST, PREVIOUS
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_to_dict
from retinanet.config.schema import Config, checkpoint_interval
from retinanet.errors import CheckpointError, DivergenceError, TrainingError
from retinanet.io.atomic import fault_of_folder, left_behind, make_folder, write_text
from retinanet.io.folder_lock import LOCK_NAME, FolderLock

LOG, CONFIG, CURVES = "metrics.jsonl", "config.yaml", "curves.png"
WRITTEN_IN_PLACE = (LOCK_NAME, LOG)  # all others are replaced


def check_new(output: Path) -> None:
    """Raises: CheckpointError, TrainingError if no run can start in `output`."""
    check_files(output)
    if (output / LOCK_NAME).exists():
        FolderLock(output).release()
    if output.is_dir() and not is_unused(output):
        raise CheckpointError(
            f"{output}: exists and is not empty; use --resume to continue it, or choose another folder with -o"
        )
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output}: is a file, expected a folder that does not exist yet")
    if fault := fault_of_folder(output):
        raise TrainingError(f"{output}: cannot be written: {fault}")


def check_started(output: Path) -> None:
    """Raises: CheckpointError if `output` has no run to resume."""
    check_files(output)
    if not holds_checkpoint(output) and not (output / CONFIG).is_file():
        raise CheckpointError(f"{output}: has no {LAST} to resume from; leave out --resume to start a new run")


def check_files(output: Path) -> None:
    """Raises: CheckpointError if `output` has something else where the run writes a file."""
    for name in (*WRITTEN_IN_PLACE, CONFIG, CURVES, LAST, PREVIOUS, BEST):
        file = output / name
        if name in WRITTEN_IN_PLACE and file.is_symlink():
            kind = f"a link to {os.readlink(file)}, which the run would write"
        elif file.is_dir():
            kind = "a folder"
        elif file.exists() and not file.is_file():
            kind = "a device or a pipe"
        else:
            continue
        raise CheckpointError(
            f"{file}: is {kind}; expected a file of the run; remove it, or choose another folder with -o"
        )


def is_unused(output: Path) -> bool:
    """Whether nothing is lost if a run starts in `output`: it is empty, or a run ended there before its first step.

    Such a run leaves its config and a log without lines; a config alone may be the user's.
    """
    names = {path.name for path in output.iterdir()} - {path.name for path in left_behind(output)} - {LOCK_NAME}
    return not names or (names <= {LOG, CONFIG} and LOG in names and not (output / LOG).stat().st_size)


def holds_checkpoint(output: Path) -> bool:
    return any((output / name).is_file() for name in (LAST, PREVIOUS))


def check_finite(tensors: dict[str, Tensor], step: int) -> None:
    """Raises: DivergenceError if a number is not finite."""
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise DivergenceError(f"step {step}: the loss was finite, but the updated weights are not", step)


def read_log(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The entries of a metrics.jsonl, and the number of its lines that are damaged, as after a power cut."""
    entries, damaged = [], 0
    for line in file.read_bytes().splitlines():
        try:
            entry = json.loads(line)
            entry = {"kind": entry["kind"], "step": entry["step"], **entry}
            if entry["kind"] == "eval":  # earlier versions wrote -1 for a metric that no object defines
                entry = {name: None if value == -1 else value for name, value in entry.items()}
            entries.append(entry)
        except (ValueError, TypeError, KeyError):
            damaged += 1
    return entries, damaged


class Log:
    """metrics.jsonl, truncated to its first `keep` bytes. missing: how many bytes it was shorter than `keep`.

    Half a line at the end, as after a power cut, is ended there.
    """

    def __init__(self, path: Path, keep: int):
        self.file = path.open("a+b", buffering=0)  # so that closing cannot fail
        size = self.file.seek(0, os.SEEK_END)
        self.missing = max(0, keep - size)
        size = self.file.truncate(min(keep, size))
        self.file.seek(max(0, size - 1))
        if self.file.read(1) not in (b"", b"\n"):
            self.file.write(b"\n")
        self.file.seek(0, os.SEEK_END)

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Raises: OSError."""
        line = (json.dumps({"kind": kind, **values}) + "\n").encode()
        if self.file.write(line) < len(line):
            raise OSError(None, "the disk is full", self.file.name)

    def sync(self) -> int:
        """Flush all lines to the disk. Returns: the length in bytes. Raises: OSError."""
        os.fsync(self.file.fileno())
        return self.file.tell()


class RunFolder:
    """The folder of a run, created and locked until `close`; incomplete files of a killed process are removed.

    every: train.checkpoint_every. saved_step: step of the newest checkpoint, or None.
    last_is_whole: whether the last checkpoint, if there is one, is undamaged.
    Raises: CheckpointError if another process writes to it; TrainingError if it cannot be written.
    """

    def __init__(self, path: Path, resume: bool, every: str):
        self.path = path
        self.number, self.unit = checkpoint_interval(every)
        self.saved_step: int | None = None
        self.last_is_whole = True
        self.log: Log | None = None  # until `begin`
        try:
            make_folder(path)
            self.lock = FolderLock(path)
            try:
                for half_written in left_behind(path):
                    half_written.unlink()
            except OSError:
                self.lock.release()
                raise
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written: {error.strerror}") from None
        if not resume and not is_unused(path):
            self.lock.release()
            raise CheckpointError(f"{path}: another run has just started in it; choose another folder with -o")

    def begin(self, config: Config, log_bytes: int) -> list[str]:
        """Open the log and write config.yaml.

        log_bytes: length of the log at `saved_step`. Returns: warnings about the log. Raises: OSError.
        """
        self.log = Log(self.path / LOG, log_bytes)  # first, so that there is no config of a run alone: see `is_unused`
        write_text(self.path / CONFIG, yaml.safe_dump(config_to_dict(config), sort_keys=False))
        self.saved_at = time.monotonic()
        warnings = []
        if damaged := read_log(self.path / LOG)[1]:
            warnings.append(f"warning: {self.log.file.name}: {damaged} damaged lines are left out of the curves")
        if self.log.missing:
            warnings.append(
                f"warning: {self.log.file.name}: its last lines are missing; the run continues without them"
            )
        return warnings

    def write_log(self, kind: str, values: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl. Raises: OSError."""
        assert self.log is not None
        self.log.write(kind, values)

    def sync_log(self) -> int:
        """Flush metrics.jsonl to the disk. Returns: its length in bytes. Raises: OSError."""
        assert self.log is not None
        return self.log.sync()

    def is_due(self, step: int) -> bool:
        """Whether train.checkpoint_every requires a checkpoint after this step."""
        if self.unit == "steps":
            return step % self.number == 0
        return time.monotonic() - self.saved_at >= 60 * self.number

    def save(self, tensors: dict[str, Tensor], metadata: Metadata, step: int) -> None:
        """Write a checkpoint and keep the previous one. Raises: OSError; DivergenceError if a number is not finite."""
        check_finite(tensors, step)
        # a damaged last checkpoint must not replace the previous one, from which the run was resumed
        checkpoint.save(self.path / LAST, tensors, metadata, keep=self.path / PREVIOUS if self.last_is_whole else None)
        self.saved_step, self.saved_at, self.last_is_whole = step, time.monotonic(), True

    def save_best(self, tensors: dict[str, Tensor], metadata: Metadata, step: int) -> None:
        """Write the weights of the best evaluation. Raises: see `save`."""
        check_finite(tensors, step)
        checkpoint.save(self.path / BEST, tensors, metadata)

    def close(self) -> None:
        if self.log is not None:
            self.log.file.close()
        self.lock.release()


class OtherProcessFolder:
    """The folder of a run for all processes but the first, which alone writes; it has the methods of `RunFolder`."""

    def __init__(self, path: Path):
        self.path = path
        self.saved_step: int | None = None
        self.last_is_whole = True

    def begin(self, config: Config, log_bytes: int) -> list[str]:
        return []

    def write_log(self, kind: str, values: dict[str, Any]) -> None:
        pass

    def sync_log(self) -> int:
        return 0

    def is_due(self, step: int) -> bool:
        return False

    def save(self, tensors: dict[str, Tensor], metadata: Metadata, step: int) -> None:
        self.saved_step = step

    def save_best(self, tensors: dict[str, Tensor], metadata: Metadata, step: int) -> None:
        pass

    def close(self) -> None:
        pass
