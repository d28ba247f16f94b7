"""SIGINT and SIGTERM end a command at once, but a run only after its step; a second signal ends that at once, too."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = "finishing the step and saving a checkpoint; a second signal ends the run at once"


class Stop:
    """A callable that says whether a run should stop.

    signal: the received signal, if any. polled: whether the run calls this object; until then, a signal raises
        KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.polled = False

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def code(self) -> int:
        """The exit code: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def name(self) -> str:
        return "terminated" if self.signal == signal.SIGTERM else "interrupted"

    def receive(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        again, self.signal = self.signal is not None, signal.Signals(number)
        if again:
            end_children()
        if again or not self.polled:
            raise KeyboardInterrupt
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
