"""Run `retina`, which sends itself a signal at the n-th call of a function.

python signalled_at.py MODULE:FUNCTION N before|after SIGNAL ARGUMENTS...
"""

import importlib
import signal
import sys

place, number, when, kind, *arguments = sys.argv[1:]
module, name = place.split(":")
owner = importlib.import_module(module)
function, calls = getattr(owner, name), 0


def counted(*given, **named):
    global calls
    calls += 1
    if calls == int(number) and when == "before":
        signal.raise_signal(signal.Signals[kind])
    result = function(*given, **named)
    if calls == int(number) and when == "after":
        signal.raise_signal(signal.Signals[kind])
    return result


setattr(owner, name, counted)
sys.argv = ["retina", *arguments]

from retinacli.app import main  # noqa: E402

main()
