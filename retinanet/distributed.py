"""The processes that train or evaluate together, as torchrun starts them: how they share values, errors and gradients.

The only file that uses torch.distributed. A single process needs none of it: each function then returns at once.
"""

import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from retinanet.errors import ConfigError, OtherProcessError, ProcessError, RetinaNetError
from retinanet.messages import one_line
from retinanet.parent_process import end_with_parent

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")

TIMEOUT = timedelta(hours=12)  # of a collective: the processes wait for one another during an evaluation
CONNECTION_TIMEOUT = timedelta(minutes=5)
ASK_EVERY = 0.5  # seconds between two looks at what another process has announced
LOST = re.compile(  # in the messages of gloo, NCCL and their store
    r"connection (closed|reset)|broken pipe|connection refused|timed out waiting|wait timeout|gloo/transport"
    r"|nccl (error|communicator|operation)|remote process exited|recvValue failed|sendBytes failed|failed to recv",
    re.IGNORECASE,
)


@dataclass
class Processes:
    """This process and the others. Each method is called by all of them, in the same order, unless it says otherwise.

    rank: 0..world-1. store: shared by all processes; None for a single one.
    """

    rank: int = 0
    world: int = 1
    store: Any = None
    _asked: float = field(default=-ASK_EVERY, repr=False)
    _announced: bool = field(default=False, repr=False)

    def share(self, value: T) -> T:
        """The value of process 0."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def largest(self, *values: int) -> list[int]:
        """The largest of each of these values over all processes."""
        if self.world == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        numbers = torch.tensor([int(value) for value in values])
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return numbers.tolist()

    def sum(self, tensor: "Tensor") -> "Tensor":
        """The sum of the tensors of all processes, which have the same shape, on their device."""
        if self.world == 1:
            return tensor
        import torch.distributed as dist

        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def together(self, action: Callable[[], T]) -> T:
        """The result of `action`, which every process runs.

        Raises: in each process its own error, or that of the first process that has one: no process continues alone.
        """
        if self.world == 1:
            return action()
        error: Exception | None = None
        try:
            value = action()
        except Exception as own:
            error = own
        if not self.largest(error is not None)[0]:
            return value
        errors = self.gather(None if error is None else self._portable(error))
        raise error or next(other for other in errors if other is not None)

    def first(self, action: Callable[[], T]) -> T:
        """The result of `action`, which process 0 alone runs. Raises: in every process the error of process 0."""
        if self.world == 1:
            return action()
        return self.share(self.together(lambda: action() if self.rank == 0 else None))  # type: ignore[return-value]

    def announced(self, own: bool) -> bool:
        """Whether a process has said True; each may ask at any time, without waiting for the others."""
        if self.store is None:
            return own
        if own and not self._announced:
            self.store.set("announced", "")
            self._announced = True
        if not self._announced and time.monotonic() - self._asked >= ASK_EVERY:
            self._announced, self._asked = self.store.check(["announced"]), time.monotonic()
        return self._announced

    def first_to_report(self) -> bool:
        """Whether this process is the first to ask, so that one error of all processes is printed once."""
        if self.store is None:
            return True
        try:
            return self.store.add("reported", 1) == 1
        except RuntimeError:  # the process that held the store has ended
            return True

    def _portable(self, error: Exception) -> Exception:
        """An error that the other processes can raise."""
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return ProcessError(f"process {self.rank}: {one_line(error)}")
        return error


_current = Processes()


def current_processes() -> Processes:
    """The processes that work together with this one: only itself, except within `joined`."""
    return _current


@contextmanager
def joined() -> Iterator[Processes]:
    """Within the context, this process works together with the others that torchrun has started.

    A process group that the program has made is used and kept. Without one and without torchrun, and within another
    such context, nothing changes. Raises: ProcessError if another process ends early; OtherProcessError if another
    process has already reported why it ends; ValueError for a group that does not work on CPUs.
    """
    global _current
    given = _given_group() if _current.world == 1 else None
    world = int(os.environ.get("WORLD_SIZE") or 1) if given is None else given.world
    if world == 1 or _current.world > 1:
        yield _current
        return
    import torch.distributed as dist

    _current = given or _connect()
    try:
        yield _current
    except (RetinaNetError, RuntimeError, KeyboardInterrupt) as error:
        lost = is_lost(error)
        if isinstance(error, RuntimeError) and not lost:
            raise
        if not _current.first_to_report():
            raise OtherProcessError("another process has reported why the processes end") from None
        if lost:
            raise ProcessError(LOST_MESSAGE) from None
        raise
    finally:
        _current = Processes()
        if given is None:
            dist.destroy_process_group()


LOST_MESSAGE = "another process ended unexpectedly; the system kills a process if memory runs out"


def is_lost(error: BaseException) -> bool:
    """Whether an error of torch says that another process has ended."""
    return isinstance(error, RuntimeError) and LOST.search(str(error)) is not None


def _given_group() -> Processes | None:
    """The processes of the group that the program has made, if there is one."""
    dist: Any = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_initialized():
        return None
    backends = dist.get_backend_config()  # such as cpu:gloo,cuda:nccl
    if dist.get_world_size() > 1 and "cpu:" not in backends:
        raise ValueError(f"the process group is {backends}, expected one for CPUs too, such as cpu:gloo,cuda:nccl")
    group, store = Processes(dist.get_rank(), dist.get_world_size()), dist.distributed_c10d._get_default_store()
    return replace(group, store=dist.PrefixStore(group.share(uuid4().hex), store))  # apart from an earlier context's


def _connect() -> Processes:
    """Connect this process to the others. Raises: ProcessError if they cannot be reached."""
    import torch
    import torch.distributed as dist

    end_with_parent()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=CONNECTION_TIMEOUT))
        store = _unused_part(store, rank, world)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=CONNECTION_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ProcessError(f"the processes of torchrun cannot reach one another: {one_line(error)}") from None
    (getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout)(TIMEOUT)  # since torch 2.14
    return Processes(rank, world, store)


def _unused_part(store: Any, rank: int, world: int) -> Any:
    """A part of `store` that these processes alone have used, and that all of them choose.

    torchrun keeps its store when it starts failed processes again: one that read the addresses there would wait for
    processes that have ended. So process 0 names a part, and the others take the name only if process 0 answers them.
    Raises: RuntimeError if it does not.
    """
    import torch.distributed as dist

    own = uuid4().hex
    if rank == 0:
        store.set("part", own)
        for other in range(1, world):
            asker = store.get(f"{own} asked by {other}").decode()
            store.set(f"{own} confirmed to {asker}", "")
        return dist.PrefixStore(own, store)
    end = time.monotonic() + CONNECTION_TIMEOUT.total_seconds()
    while time.monotonic() < end:
        part = store.get("part").decode()
        store.set(f"{part} asked by {rank}", own)
        if store.check([f"{part} confirmed to {own}"]):
            return dist.PrefixStore(part, store)
        time.sleep(0.1)
    raise RuntimeError("process 0 does not answer")


def own_device(device: "torch.device") -> "torch.device":
    """The device of this process: for CUDA, the GPU of its host with the number LOCAL_RANK, else the current one.

    Raises: ConfigError if the host has fewer GPUs than processes.
    """
    if _current.world == 1 or device.type != "cuda":
        return device
    import torch

    index, count = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())), torch.cuda.device_count()
    if index >= count:
        raise ConfigError(f"this host has {count} GPUs for more processes; start at most {count}, or use the CPU")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def average_gradients(model: "nn.Module") -> "nn.Module":
    """A module that runs `model` and averages its gradients over all processes; for a single process, `model` itself.

    All start from the weights of process 0. Batch normalisation that is trained uses the statistics of all processes.
    Raises: ConfigError for such a normalisation on a CPU, where torch cannot share them.
    """
    if _current.world == 1:
        return model
    import torch.distributed as dist
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.parallel import DistributedDataParallel

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and child.affine and child.weight.requires_grad:
                setattr(parent, name, _synchronised(child))
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    renamed = "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # since torch 2.14
    option: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    return DistributedDataParallel(model, **option)


def _synchronised(norm: Any) -> "nn.Module":
    """Batch normalisation with the statistics of all processes, and with the tensors of `norm`."""
    from torch import nn

    if norm.weight.device.type != "cuda":
        raise ConfigError(
            "batch normalisation that is trained works in one process only on a CPU; set model.trunk_norm to gn or "
            "frozen_bn, or use one process"
        )
    if type(norm) is nn.BatchNorm2d:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    from timm.layers import convert_sync_batchnorm  # its normalisations contain their activation

    return convert_sync_batchnorm(norm)


def reduces(module: "nn.Module", wanted: bool) -> AbstractContextManager:
    """Within the context, a forward pass of `average_gradients`' module shares its gradients only if `wanted`."""
    from torch.nn.parallel import DistributedDataParallel

    if wanted or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


def started_by_torchrun() -> bool:
    """Whether torchrun started this process; it may then start it again with the same arguments."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(arguments: Sequence[str], count: int, cores: int) -> int:
    """Run `python -m retinacli` with these arguments in `count` processes, which share the `cores` of this host.

    Returns: an exit code: 0, that of the process that failed first, or 130 or 143 after a signal.
    """
    import logging

    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # torchrun's own reports repeat what the processes have said
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")  # seconds to finish a step and save a checkpoint
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"retina-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "retinacli", *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 1
    except SignalException as error:
        return 128 + error.sigval
    return 0
