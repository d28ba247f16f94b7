"""An error of the system is one line that says how to continue; a bug of the program stays a traceback."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from retinanet.errors import TrainingError
from retinanet.training.system_errors import system_errors_in_one_line

LESS = "a smaller train.batch_size or data.short_side needs less memory"


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
            "DataLoader worker (pid 7) is killed by signal: Killed.; the system kills a worker if memory runs out; "
            f"fewer data.workers or {LESS}",
        ),
    ],
)
@pytest.mark.parametrize(
    ("step", "saved"),
    [(None, "no checkpoint was written yet"), (6, "use --resume to continue from the checkpoint of step 6")],
)
def test_each_is_one_line(error, words, step, saved):
    folder = SimpleNamespace(path=Path("run"), saved_step=step)
    with pytest.raises(TrainingError) as raised, system_errors_in_one_line(folder):
        raise error
    assert str(raised.value) == f"{words}; {saved}"


def test_our_own_bugs_are_not_hidden():
    folder = SimpleNamespace(path=Path("run"), saved_step=None)
    with pytest.raises(RuntimeError, match="shapes differ"), system_errors_in_one_line(folder):
        raise RuntimeError("shapes differ")
