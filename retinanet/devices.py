"""The device on which a model runs: its choice, its name and its memory."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from retinanet.distributed import own_device
from retinanet.errors import ConfigError
from retinanet.messages import shortened

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps")  # of devices; torch knows more, such as meta, on which nothing is computed


def pick_device(name: str) -> "torch.device":
    """The device `name`; `auto` is CUDA, else MPS, else the CPU. Of several processes, each gets its own GPU.

    Raises: ConfigError if `name` is not available, with the names that are.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return own_device(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type in KINDS:
            torch.empty(0, device=device)
            return own_device(device)
    except (RuntimeError, AssertionError, NotImplementedError):
        pass
    known = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    known += ["mps"] if torch.backends.mps.is_available() else []
    raise ConfigError(f"the device {shortened(name)} is not available; expected one of {', '.join(known)}")


def computing_in(precision: str, device: "torch.device") -> AbstractContextManager:
    """Within the context, convolutions and matrix products on `device` compute in `precision`: fp32, bf16 or fp16."""
    if precision == "fp32":
        return nullcontext()
    import torch

    return torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def highest_precision_dtype(device: "torch.device") -> "torch.dtype":
    """The most precise floating-point type that `device` supports."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


Determinism = tuple[bool, bool, bool, str | None]  # algorithms, only warned of, cuDNN's search, cuBLAS's workspace
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Within the context, torch uses only algorithms with the same result in each run, if `enabled`.

    Sets CUBLAS_WORKSPACE_CONFIG where it is not set; cuBLAS reads it at the first matrix product on a GPU.
    """
    before = determinism()
    if enabled:
        set_determinism((True, False, False, before[-1] or ":4096:8"))
    try:
        yield
    finally:
        set_determinism(before)


def determinism() -> Determinism:
    """The settings of this process that `deterministic` changes."""
    import torch

    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(WORKSPACE),
    )


def set_determinism(settings: Determinism) -> None:
    """Give the settings of `determinism` these values."""
    import torch

    algorithms, only_warned, search, workspace = settings
    torch.use_deterministic_algorithms(algorithms, warn_only=only_warned)
    torch.backends.cudnn.benchmark = search
    if workspace is None:
        os.environ.pop(WORKSPACE, None)
    else:
        os.environ[WORKSPACE] = workspace


def describe_device(device: "torch.device") -> str:
    """The name of `device`; of a CPU its own and the number of torch's threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads, {processor()}"


def processor() -> str:
    """The name of the processor; its architecture where the platform does not tell more."""
    try:
        with open("/proc/cpuinfo") as lines:  # of Linux
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = platform.processor()
    return name or platform.machine()


def peak_memory(device: "torch.device") -> int:
    """Peak memory in bytes: of a CUDA device, else of this process."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_memory()


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_memory() -> int:
    """Peak memory of this process in bytes; 0 on Windows, which does not count it. Needs no torch."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
