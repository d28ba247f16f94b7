"""One-line messages for what ends a run early: diverging weights, a full disk, too little memory, a killed worker."""

from collections.abc import Iterator
from contextlib import contextmanager

from retinanet.distributed import LOST_MESSAGE, is_lost
from retinanet.errors import DivergenceError, ProcessError, TrainingError, system_error
from retinanet.training.run import Run
from retinanet.training.run_folder import OtherProcessFolder, RunFolder

LESS = "fewer data.workers, a smaller train.batch_size or data.short_side need less memory"


@contextmanager
def system_errors_in_one_line(run: Run) -> Iterator[None]:
    """Raises: TrainingError in place of a system error, naming the checkpoint to continue from.

    A DivergenceError gains what to try, and the same.
    """
    try:
        yield
    except DivergenceError as error:
        half = run.config.train.precision
        first = "" if half == "fp32" else f"train.precision=fp32 instead of {half}, "
        raise DivergenceError(
            f"{error}; try {first}a lower train.lr or train.clip_norm=10; {_saved(run.folder)}", error.step
        ) from None
    except (OSError, MemoryError, RuntimeError) as error:
        if is_lost(error):
            raise ProcessError(f"{LOST_MESSAGE}; {_saved(run.folder)}") from None
        text = _one_line(error, run.folder)
        if text is None:
            raise
        raise TrainingError(f"{text}; {_saved(run.folder)}") from None


def _saved(folder: RunFolder | OtherProcessFolder) -> str:
    if folder.saved_step is None:
        return "no checkpoint was written yet"
    return f"use --resume to continue from the checkpoint of step {folder.saved_step}"


def _one_line(error: Exception, folder: RunFolder | OtherProcessFolder) -> str | None:
    """None: the error is a bug in this program."""
    text = system_error(error, LESS)
    if text is None and isinstance(error, OSError):
        place = f"{error.filename}: cannot be written" if error.filename else folder.path
        return f"{place}: {error.strerror or error}"
    return text
