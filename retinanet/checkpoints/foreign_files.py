"""Reads tensors from other projects' weights files without running code in them."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retinanet.errors import CheckpointError
from retinanet.io.file_kinds import PICKLE, PYTORCH, file_kind
from retinanet.messages import one_line

MAX_FOREIGN_BYTES = 2**32  # detectron2's R101 with optimizer state: 0.5 GB


class _Arrays(pickle._Unpickler):
    """Admits only arrays and plain containers, since a pickle can call any function.

    Based on the pure-Python unpickler: the one in C allocates 16 bytes times the largest memo index in the file.
    """

    ADMITTED = {
        ("collections", "OrderedDict"),
        ("_codecs", "encode"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array or a container")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def foreign_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The named tensors in the `content` of a .pth or .pkl file. path: for messages. Raises: CheckpointError."""
    try:
        if content[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:  # torch does not compress its files
                _check_claim(sum(part.file_size for part in archive.infolist()), content)
            held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        else:
            held = _Arrays(io.BytesIO(content), encoding="latin1").load()
        while isinstance(held, Mapping) and isinstance(held.get("model"), Mapping):
            held = held["model"]
        if not isinstance(held, Mapping):
            raise ValueError(f"it contains {type(held).__name__}, expected named tensors")
        arrays = {name: value for name, value in held.items() if isinstance(value, (np.ndarray, Tensor))}
        state = {name: torch.as_tensor(value) for name, value in arrays.items() if isinstance(name, str)}
        _check_claim(sum(tensor.numel() * tensor.element_size() for tensor in state.values()), content)
    except Exception as error:  # a damaged or hostile file can raise anything
        kind = file_kind(path)
        reason = _reason(error) if kind in (None, PYTORCH, PICKLE) else f"it is {kind}"
        raise CheckpointError(f"{path}: cannot be read as weights: {reason}") from None
    return state


def _reason(error: Exception) -> str:
    """Why a file holds no tensors; torch's own advice is to run what the file says."""
    if isinstance(error, UnicodeError):
        return "its content is damaged"
    if str(error).startswith("Weights only load failed"):
        return "it holds objects that are no tensors, which could run code; save the state_dict() of the model alone"
    return one_line(error).partition(". ")[0]


def _check_claim(claimed: int, content: bytes) -> None:
    """Reject compressed parts and expanded views, which could exhaust memory. claimed: bytes. Raises: ValueError."""
    if claimed > len(content):
        raise ValueError(f"it claims {claimed:,} bytes in a file of {len(content):,}")
