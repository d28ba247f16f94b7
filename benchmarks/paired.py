"""Time and memory of two functions with the same result.

They run in turns, and their ratio is the median of the turns' own ratios, since the load of a machine changes.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

REPEATS = 9


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], repeats: int = REPEATS) -> None:
    """Print the median wall and processor times of both, and the median of theirs / ours, without the first turn."""
    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(1 + repeats):
        for run, kept in ((theirs, times[0]), (ours, times[1])):
            wall, processor = time.perf_counter(), time.process_time()
            run()
            kept.append((time.perf_counter() - wall, time.process_time() - processor))
    for clock, index in (("wall", 0), ("processor", 1)):
        a, b = ([seconds[index] for seconds in kept[1:]] for kept in times)
        ratio = statistics.median(x / y for x, y in zip(a, b, strict=True))
        theirs_ms, ours_ms = 1000 * statistics.median(a), 1000 * statistics.median(b)
        print(f"{name}, {clock} time: theirs {theirs_ms:.0f} ms, ours {ours_ms:.0f} ms, theirs / ours {ratio:.2f}")


def peak_memory(prepare: Callable[[], Callable[[], object]]) -> float:
    """Peak memory in MB of the run that `prepare` returns, above the memory before it, in a new process. Linux only."""
    return peak_memories([prepare])[0]


def peak_memories(prepares: Sequence[Callable[[], Callable[[], object]]]) -> list[float]:
    """Like `peak_memory`, for several runs in the same new process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(prepares, sender))
    process.start()
    sender.close()
    peaks = receiver.recv()
    process.join()
    return peaks


def _measure(prepares: Sequence[Callable[[], Callable[[], object]]], sender: Connection) -> None:
    sender.send([_peak(prepare()) for prepare in prepares])


def _peak(run: Callable[[], object]) -> float:
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak
    run()
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    return (peak - before) / 1e6
