"""Two ways to the same result, timed in turns, and the memory that each takes.

The machine's load changes from minute to minute: each repeat runs both, and the ratio is the median over the repeats.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence

REPEATS = 9


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], repeats: int = REPEATS) -> None:
    """Print the medians of wall and processor time of both and the medians of theirs over ours; one run warms up."""
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
        print(f"{name}, {clock} time: theirs {theirs_ms:.0f} ms, ours {ours_ms:.0f} ms, {ratio:.2f} times")


def peak_memory(prepare: Callable[[], Callable[[], object]]) -> float:
    """Megabytes that one run takes above what `prepare` left resident, in a fresh process. Linux."""
    return peak_memories([prepare])[0]


def peak_memories(prepares: Sequence[Callable[[], Callable[[], object]]]) -> list[float]:
    """As `peak_memory`, one after the other in the same fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(prepares, sender))
    process.start()
    sender.close()
    peaks = receiver.recv()
    process.join()
    return peaks


def _measure(prepares: Sequence[Callable[[], Callable[[], object]]], sender) -> None:
    sender.send([_peak(prepare()) for prepare in prepares])


def _peak(run: Callable[[], object]) -> float:
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    run()
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    return (peak - before) / 1e6
