"""Keeps the random state of a run apart from that of the rest of the process."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

TURN = Lock()  # held while a run advances: torch's random numbers belong to the process, not to a thread


def with_own_random_state(generator: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Give each iterator that `generator` makes a state of torch's random numbers of its own.

    Two runs that take turns, and the program that iterates over them, then draw the numbers that each draws alone. Runs
    in several threads wait for each other: one advances to its next item at a time.
    """

    @wraps(generator)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        state = None
        with closing(generator(*args, **kwargs)) as inner:  # type: ignore[type-var]
            while True:
                devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
                with TURN, torch.random.fork_rng(devices):
                    if state is not None:
                        _set(*state)
                    try:
                        item = next(inner)
                    except StopIteration:
                        return
                    state = torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
                yield item

    return wrapped


def _set(cpu: torch.Tensor, cuda: torch.Tensor | None) -> None:
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda)
