"""One-line messages for what ends a run early: diverging weights, a full disk, too little memory, a killed worker."""

from collections.abc import Iterator
from contextlib import contextmanager

from retinanet.errors import DivergenceError, TrainingError, is_out_of_memory
from retinanet.messages import one_line
from retinanet.training.run import Run
from retinanet.training.run_folder import RunFolder

LESS = "a smaller train.batch_size or data.short_side needs less memory"


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
        text = _one_line(error, run.folder)
        if text is None:
            raise
        raise TrainingError(f"{text}; {_saved(run.folder)}") from None


def _saved(folder: RunFolder) -> str:
    if folder.saved_step is None:
        return "no checkpoint was written yet"
    return f"use --resume to continue from the checkpoint of step {folder.saved_step}"


def _one_line(error: Exception, folder: RunFolder) -> str | None:
    """None: the error is a bug in this program."""
    if "DataLoader worker (pid" in str(error):
        return f"{one_line(error)}; the system kills a worker if memory runs out; fewer data.workers or {LESS}"
    if is_out_of_memory(error):
        return f"out of memory; {LESS}"
    if isinstance(error, OSError):
        place = f"{error.filename}: cannot be written" if error.filename else folder.path
        return f"{place}: {error.strerror or error}"
    return None
