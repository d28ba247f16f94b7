"""An interrupt is heard once more where Python drops the first."""

import subprocess
import sys
from textwrap import dedent


def outcome(body: str) -> tuple[str, str]:
    """stdout and stderr of `body` in a process of its own, which hears interrupts in a shell's background too."""
    script = "import signal, sys\nfrom retinacli.interrupts import heard\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + dedent(body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_an_interrupt_during_disposal_is_neither_printed_nor_lost():
    body = """
        class Disposed:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        before = signal.getsignal(signal.SIGINT), sys.unraisablehook
        try:
            with heard() as check:
                thing = Disposed()
                del thing
                print("went on")
                check()
                print("not heard")
        except KeyboardInterrupt:
            print("interrupted")
        print((signal.getsignal(signal.SIGINT), sys.unraisablehook) == before)
    """
    assert outcome(body) == ("went on\ninterrupted\nTrue\n", "")


def test_an_interrupt_is_raised_at_once():
    body = """
        try:
            with heard():
                signal.raise_signal(signal.SIGINT)
                print("not heard")
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert outcome(body) == ("interrupted\n", "")


def test_without_one_nothing_happens():
    body = """
        with heard() as check:
            check()
        print("went on")
    """
    assert outcome(body) == ("went on\n", "")
