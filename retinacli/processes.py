"""Commands that torchrun may start in several processes."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from retinanet.distributed import joined

P = ParamSpec("P")


def in_processes(command: Callable[P, None]) -> Callable[P, None]:
    """Let the processes that torchrun starts work together on `command`; all but the first print nothing."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        with joined() as processes:
            if processes.rank:
                from retinacli.console import silence

                silence()
            command(*arguments, **options)

    return run
