"""An error of the system is one line that says how to continue; a bug of the program stays a traceback."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from retinanet.errors import DivergenceError, TrainingError
from retinanet.training.system_errors import system_errors_in_one_line

LESS = "fewer data.workers, a smaller train.batch_size or data.short_side need less memory"
FILES = "too many open files; raise their limit with ulimit -n, or use fewer data.workers"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x/last"),
            "x/last: cannot be written: No space left on device",
        ),
        (OSError(errno.EMFILE, "Too many open files"), FILES),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), f"out of memory; {LESS}"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), f"out of memory; {LESS}"),
        (MemoryError(), f"out of memory; {LESS}"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), f"out of memory; {LESS}"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "DataLoader worker (pid 7) is killed by signal: Killed.; the system kills a worker if memory runs out; "
            f"{LESS}",
        ),
    ],
)
@pytest.mark.parametrize(
    ("step", "saved"),
    [(None, "no checkpoint was written yet"), (6, "use --resume to continue from the checkpoint of step 6")],
)
def test_each_is_one_line(error, words, step, saved):
    with pytest.raises(TrainingError) as raised, system_errors_in_one_line(run(step)):
        raise error
    assert str(raised.value) == f"{words}; {saved}"


@pytest.mark.parametrize(("precision", "first"), [("fp32", ""), ("bf16", "train.precision=fp32 instead of bf16, ")])
def test_diverging_weights_say_what_to_try_and_what_is_left(precision, first):
    with pytest.raises(DivergenceError) as raised, system_errors_in_one_line(run(None, precision)):
        raise DivergenceError("step 3: the loss is not finite", 3)
    advice = f"try {first}a lower train.lr or train.clip_norm=10; no checkpoint was written yet"
    assert str(raised.value) == f"step 3: the loss is not finite; {advice}" and raised.value.step == 3


def run(saved_step: int | None, precision: str = "fp32") -> SimpleNamespace:
    folder = SimpleNamespace(path=Path("run"), saved_step=saved_step)
    return SimpleNamespace(folder=folder, config=SimpleNamespace(train=SimpleNamespace(precision=precision)))


def test_our_own_bugs_are_not_hidden():
    with pytest.raises(RuntimeError, match="shapes differ"), system_errors_in_one_line(run(None)):
        raise RuntimeError("shapes differ")
