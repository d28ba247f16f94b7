"""Several processes that work together, as torchrun starts them but without it."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from helpers.support import Result


def environments(count: int, port: int | None = None) -> list[dict[str, str]]:
    """The variables that torchrun sets for each of `count` processes of one host.

    port: of the store that process 0 makes; None: a free one.
    """
    if port is None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def start(count: int, *arguments: object, cwd: Path | None = None, port: int | None = None) -> list[subprocess.Popen]:
    """Python with these arguments in `count` processes. port: see `environments`."""
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    return [subprocess.Popen(command, cwd=cwd, env=env, **pipes) for env in environments(count, port)]


def lines_of(process: subprocess.Popen, seconds: float = 300) -> Iterator[str]:
    """What a process writes to stderr; it is killed if the caller still reads after so many seconds."""
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    assert process.stderr is not None
    try:
        for line in process.stderr:  # noqa: UP028 "yield from" would close the stream
            yield line
    finally:
        watchdog.cancel()


def finish(processes: list[subprocess.Popen], seconds: float = 600) -> list[Result]:
    """The results of all; those that still run after so many seconds are killed, and the test fails."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Result(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def run(count: int, *arguments: object, cwd: Path | None = None) -> list[Result]:
    """The results of Python with these arguments in `count` processes."""
    return finish(start(count, *arguments, cwd=cwd))
