"""What ends a run from outside - a full disk, too little memory, a killed loader worker - in one line."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retinanet.errors import TrainingError
from retinanet.messages import one_line

NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
LESS = "a smaller train.batch_size or data.short_side needs less"


@contextmanager
def told(output: Path, saved: Callable[[], int | None]) -> Iterator[None]:
    """Raises: TrainingError in place of what the system raised. saved: the step of the last checkpoint, if any."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        text = _text(error, output)
        if text is None:
            raise
        step = saved()
        kept = "no checkpoint was written yet" if step is None else f"the checkpoint of step {step} is whole: --resume"
        raise TrainingError(f"{text}; {kept}") from None


def _text(error: Exception, output: Path) -> str | None:
    """None: a fault of the program's own."""
    if isinstance(error, OSError):
        return f"{f'{error.filename}: cannot be written' if error.filename else output}: {error.strerror or error}"
    if "DataLoader worker (pid" in str(error):
        return f"{one_line(error)}; the system ends a worker when memory runs out: fewer data.workers, or {LESS}"
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return f"out of memory; {LESS}"
    return None
