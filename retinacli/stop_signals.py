"""SIGINT and SIGTERM during a long run: the first asks it to end after a step, the second ends it at once."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ASKED = "the step ends, then a checkpoint is written; once more ends at once"


class Stop:
    """Whether a run is asked to end; call it to know. signal: by which.

    waits: whether the run looks; until it does, a signal raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.waits = False

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def code(self) -> int:
        """The exit code: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def name(self) -> str:
        return "terminated" if self.signal == signal.SIGTERM else "interrupted"

    def hear(self, number: int, _: FrameType | None) -> None:
        again, self.signal = self.signal is not None, signal.Signals(number)
        if again:
            _end_children()
        if again or not self.waits:
            raise KeyboardInterrupt
        with suppress(OSError):  # not by way of sys.stderr, in the middle of whose writing a signal may come
            below = "\n" if os.isatty(2) else ""  # the progress bar
            os.write(2, f"{below}retina: {self.name}: {ASKED}\n".encode())


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, the signals are heard by what is yielded. One that was ignored, as in a shell's background, stays so."""
    stop = Stop()

    def drop(unraisable: Any) -> None:
        """Python prints what is raised while an object is disposed of, and forgets it; `stop` has not."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    hook, before = sys.unraisablehook, {number: signal.getsignal(number) for number in SIGNALS}
    sys.unraisablehook = drop
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.hear)
    try:
        yield stop
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_children() -> None:
    """Loader workers, which may hang where the run hangs, so that nobody waits for them."""
    import multiprocessing

    if hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise an error of its own
    for child in multiprocessing.active_children():
        child.kill()
