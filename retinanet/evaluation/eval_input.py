"""What can be evaluated: a checkpoint, a run, an exported model, or a file with the results of any detector."""

from pathlib import Path
from typing import TypeAlias

import torch

from retinanet.evaluation.results_file import ResultsFile, is_results_file
from retinanet.inference.detector import Detector, load
from retinanet.inference.exported_model import Precision

EvalInput: TypeAlias = Detector | ResultsFile


def open_input(
    path: str | Path,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    classes_from: int | None = None,
) -> EvalInput:
    """A detector from any path that `retinanet.load` takes, or the results file whose name ends in .json.

    device, precision: of a detector. classes_from: see `ResultsFile`. Raises: see `load`.
    """
    if is_results_file(path):
        return ResultsFile(Path(path), classes_from)
    return load(path, device, precision=precision)
