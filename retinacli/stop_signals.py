"""SIGINT and SIGTERM end a command at once, but a run only after its step; a second signal ends that at once, too."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from retinanet.distributed import current_processes

SAME_SIGNAL = 3.0  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = "finishing the step and saving a checkpoint; a second signal ends the run at once"


class Stop:
    """A callable that says whether a run should stop.

    signal: the received signal, if any. polled: whether the run calls this object; until then, a signal raises
        KeyboardInterrupt. If several processes share the run, a terminal, a cluster and torchrun may all send the same
        signal, so that a second one counts only `SAME_SIGNAL` seconds after the first.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.polled = False
        self.received = -math.inf  # seconds

    def __call__(self) -> bool:
        return self.signal is not None

    def share(self) -> None:
        """Take over the signal that another process has received. Called by all processes, after the run."""
        (number,) = current_processes().largest(self.signal or 0)
        self.signal = signal.Signals(number) if number else None

    @property
    def code(self) -> int:
        """The exit code: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def name(self) -> str:
        return "terminated" if self.signal == signal.SIGTERM else "interrupted"

    def receive(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        if self.polled and current_processes().world > 1 and now - self.received < SAME_SIGNAL:
            return
        again, self.signal, self.received = self.signal is not None, signal.Signals(number), now
        if again:
            end_children()
        if again or not self.polled:
            raise KeyboardInterrupt
        if current_processes().rank:
            return
        with suppress(OSError):  # sys.stderr is not safe here: the signal may have interrupted one of its writes
            start = "\n" if os.isatty(2) else ""  # below the progress bar
            os.write(2, f"{start}retina: {self.name}: {NOTICE}\n".encode())


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Handle the signals within the block, except those that were already ignored, as in a shell's background."""
    stop = Stop()

    def drop_interrupts(unraisable: Any) -> None:
        """Silence an interrupt that was raised while an object was deleted; `stop` remembers it."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    hook, before = sys.unraisablehook, {number: signal.getsignal(number) for number in SIGNALS}
    sys.unraisablehook = drop_interrupts
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.receive)
    try:
        yield stop
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def end_children() -> None:
    """End the loader workers, which a hanging run would wait for, and of which each that dies would raise an error."""
    if "multiprocessing" not in sys.modules:
        return
    import multiprocessing

    children = multiprocessing.active_children()
    if children and hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # in place of torch's handler
    for child in children:
        child.kill()
