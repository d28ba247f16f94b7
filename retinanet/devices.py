"""Where a model runs: the choice of a device, and what it can tell of itself."""

import os
import platform
import sys
from typing import TYPE_CHECKING

from retinanet.errors import ConfigError

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> "torch.device":
    """`auto`: CUDA, else MPS, else the CPU. Raises: ConfigError if `name` is unknown or not there."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(
            f"train.device is {name!r}, expected auto, cpu, cuda, cuda:N or mps, one that is there"
        ) from None
    return device


def highest_precision_dtype(device: "torch.device") -> "torch.dtype":
    """Its floating-point type of most digits."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def check_precision(precision: str, device: "torch.device") -> None:
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision is fp16, which a CPU has not; expected fp32 or bf16")


def describe_device(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}"


def describe_cpu() -> str:
    """Where an exported model runs; without torch."""
    return f"cpu, {os.cpu_count()} cores, {platform.machine()}"


def synchronize(device: "torch.device") -> None:
    """Wait until `device` has done all of its work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: "torch.device") -> int:
    """Bytes: of the device where it tells, else of this process."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_memory()


def process_memory() -> int:
    """Bytes at the peak; 0 on Windows, which keeps no such count. Without torch."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
