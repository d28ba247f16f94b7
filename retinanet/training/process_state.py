"""Keeps what a run sets in the whole process, random numbers and determinism, apart from the rest of the process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from retinanet.devices import Determinism, determinism, set_determinism

P = ParamSpec("P")
T = TypeVar("T")
State = tuple[Tensor, Tensor | None, Determinism]  # random numbers of the CPU and of the GPU

# held while a run advances: torch's settings belong to the process, not to a thread; a run that is abandoned may be
# closed while another one of the same thread advances
TURN = RLock()


def with_own_state(generator: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Give each iterator that `generator` makes a state of torch's random numbers and determinism of its own.

    Two runs that take turns, and the program that iterates over them, then draw the numbers that each draws alone, and
    compute as each asks. Runs in several threads wait for each other: one advances to its next item at a time.
    """

    @wraps(generator)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        inner, state = generator(*args, **kwargs), None
        try:
            while True:
                with _turn(state):
                    try:
                        item = next(inner)
                    except StopIteration:
                        return
                    state = _state()
                yield item
        finally:
            with _turn(state):
                inner.close()  # type: ignore[attr-defined]

    return wrapped


@contextmanager
def _turn(state: State | None) -> Iterator[None]:
    """Within the context, `state` applies, if there is one; afterwards the state before it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with TURN, torch.random.fork_rng(devices):
        before = determinism()
        if state is not None:
            cpu, cuda, settings = state
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda)
            set_determinism(settings)
        try:
            yield
        finally:
            set_determinism(before)


def _state() -> State:
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), gpu, determinism()
