"""What the system does to a run is one line that says what is left; a fault of the program's own stays a traceback."""

import errno
from pathlib import Path

import pytest

from retinanet.errors import TrainingError
from retinanet.training import system_errors as mishaps

LESS = "a smaller train.batch_size or data.short_side needs less"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x/last"),
            "x/last: cannot be written: No space left on device",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "run: Too many open files"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), f"out of memory; {LESS}"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), f"out of memory; {LESS}"),
        (MemoryError(), f"out of memory; {LESS}"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "DataLoader worker (pid 7) is killed by signal: Killed.; the system ends a worker when memory runs out: fewer "
            f"data.workers, or {LESS}",
        ),
    ],
)
@pytest.mark.parametrize(
    ("step", "left"), [(None, "no checkpoint was written yet"), (6, "the checkpoint of step 6 is whole: --resume")]
)
def test_each_is_one_line(error, words, step, left):
    with pytest.raises(TrainingError) as told, mishaps.told(Path("run"), lambda: step):
        raise error
    assert str(told.value) == f"{words}; {left}"


def test_our_own_faults_are_not_hidden():
    with pytest.raises(RuntimeError, match="shapes differ"), mishaps.told(Path("run"), lambda: None):
        raise RuntimeError("shapes differ")
