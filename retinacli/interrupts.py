"""Ctrl-C during a long run: heard even where Python would drop it."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heard() -> Iterator[Callable[[], None]]:
    """Within, an interrupt raises KeyboardInterrupt as ever, and again at the next call of what is yielded.

    An exception that is raised while an object is disposed of, such as a loader at the end of an epoch, is printed and
    forgotten by Python; here it is neither.
    """
    asked = False

    def interrupt(*_: Any) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def drop(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:  # ignored, as in a shell's background, or another's to handle
        yield check
        return
    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = drop
    try:
        yield check
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, handler)
