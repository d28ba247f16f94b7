"""Tensors out of the weights files of other projects."""

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
from retinanet.messages import one_line

MAX_BYTES = 2**32  # detectron2's R101 with its optimizer has 0.5 GB


class _Arrays(pickle._Unpickler):
    """Admits arrays and plain containers, and calls nothing else: a pickle may name any function.

    Of the two unpicklers the one in Python: the memo of the other, in C, takes 16 bytes times the largest number in it.
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
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither an array nor a container")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read(path: Path, content: bytes) -> dict[str, Tensor]:
    """The named tensors of a file. Nothing in it is run."""
    try:
        if content[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:  # torch writes its parts as they are
                _check_claim(sum(part.file_size for part in archive.infolist()), content)
            held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        else:
            held = _Arrays(io.BytesIO(content), encoding="latin1").load()
        while isinstance(held, Mapping) and isinstance(held.get("model"), Mapping):
            held = held["model"]
        state = _named_tensors(held) if isinstance(held, Mapping) else None
        _check_claim(sum(tensor.numel() * tensor.element_size() for tensor in (state or {}).values()), content)
    except Exception as error:  # what a damaged or hostile file raises has no bounds
        raise CheckpointError(f"{path}: cannot be read as weights: {one_line(error)}") from None
    if state is None:
        raise CheckpointError(f"{path}: holds {type(held).__name__}, expected named tensors")
    return state


def _named_tensors(held: Mapping[Any, Any]) -> dict[str, Tensor]:
    arrays = {name: value for name, value in held.items() if isinstance(value, (np.ndarray, Tensor))}
    return {name: torch.as_tensor(value) for name, value in arrays.items() if isinstance(name, str)}


def _check_claim(claimed: int, content: bytes) -> None:
    """A small file may hold views of any size, or parts that are packed."""
    if claimed > len(content):
        raise ValueError(f"it claims {claimed:,} bytes in a file of {len(content):,}")
