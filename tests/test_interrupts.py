"""An interrupt is heard once more where Python drops the first."""

import signal
import sys

import pytest

from retinacli.interrupts import heard


@pytest.fixture(autouse=True)
def interruptible():
    """A shell's background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Disposed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)  # to this thread: another's would be heard too late
        for _ in range(1000):  # the handler runs between two instructions
            pass


def test_an_interrupt_during_disposal_is_neither_printed_nor_lost(capfd):
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), heard() as check:  # noqa: PT012
        thing = Disposed()
        del thing
        reached = True
        check()
        reached = False
    assert reached
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
    assert capfd.readouterr().err == ""


def test_an_interrupt_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), heard():
        signal.raise_signal(signal.SIGINT)


def test_without_one_nothing_happens():
    with heard() as check:
        check()
