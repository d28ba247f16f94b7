"""SIGINT and SIGTERM: the first asks a run to stop, the second ends it, and none is lost."""

import subprocess
import sys
from textwrap import dedent

NOTICE = "retina: terminated: finishing the step and saving a checkpoint; a second signal ends the run at once\n"


def outcome(body: str) -> tuple[str, str]:
    """stdout and stderr of `body` in a process of its own, which hears interrupts in a shell's background too."""
    script = "import signal, sys\nfrom retinacli.stop_signals import stoppable\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + dedent(body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_an_interrupt_during_disposal_is_neither_printed_nor_lost():
    body = """
        class Disposed:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        before = signal.getsignal(signal.SIGINT), sys.unraisablehook
        with stoppable() as stop:
            thing = Disposed()
            del thing
            print("went on", stop(), stop.name, stop.code)
        print((signal.getsignal(signal.SIGINT), sys.unraisablehook) == before)
    """
    assert outcome(body) == ("went on True interrupted 130\nTrue\n", "")


def test_before_the_run_polls_a_signal_is_raised_at_once():
    body = """
        with stoppable() as stop:
            try:
                signal.raise_signal(signal.SIGTERM)
                print("not heard")
            except KeyboardInterrupt:
                print(stop(), stop.name, stop.code)
    """
    assert outcome(body) == ("True terminated 143\n", "")


def test_a_run_that_polls_is_asked_to_stop_and_a_second_signal_is_raised():
    body = """
        with stoppable() as stop:
            stop.polled = True
            print(stop(), flush=True)
            signal.raise_signal(signal.SIGTERM)
            print(stop(), flush=True)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                print("ended", stop.code)
    """
    assert outcome(body) == ("False\nTrue\nended 130\n", NOTICE)


def test_a_signal_that_was_ignored_stays_so():
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with stoppable() as stop:
            signal.raise_signal(signal.SIGTERM)
            print(stop())
    """
    assert outcome(body) == ("False\n", "")
