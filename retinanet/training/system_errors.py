"""One-line messages for system errors during a run: a full disk, too little memory, a killed loader worker."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from retinanet.errors import TrainingError
from retinanet.messages import one_line
from retinanet.training.run_folder import RunFolder

NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
LESS = "a smaller train.batch_size or data.short_side needs less memory"


@contextmanager
def system_errors_in_one_line(folder: RunFolder) -> Iterator[None]:
    """Raises: TrainingError in place of a system error, naming the checkpoint to continue from."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        text = _one_line(error, folder)
        if text is None:
            raise
        saved = "no checkpoint was written yet"
        if folder.saved_step is not None:
            saved = f"use --resume to continue from the checkpoint of step {folder.saved_step}"
        raise TrainingError(f"{text}; {saved}") from None


def _one_line(error: Exception, folder: RunFolder) -> str | None:
    """None: the error is a bug in this program."""
    if isinstance(error, OSError):
        place = f"{error.filename}: cannot be written" if error.filename else folder.path
        return f"{place}: {error.strerror or error}"
    if "DataLoader worker (pid" in str(error):
        return f"{one_line(error)}; the system kills a worker if memory runs out; fewer data.workers or {LESS}"
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return f"out of memory; {LESS}"
    return None
