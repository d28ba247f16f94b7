"""Where a model runs: the choice of a device, and what it can tell of itself."""

import platform
import sys

import torch

from retinanet.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """`auto`: CUDA, else MPS, else the CPU. Raises: ConfigError if `name` is unknown or not there."""
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


def check_precision(precision: str, device: torch.device) -> None:
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision is fp16, which a CPU has not; expected fp32 or bf16")


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}"


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device where it tells, else of this process; 0 on Windows, which keeps no such count."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
