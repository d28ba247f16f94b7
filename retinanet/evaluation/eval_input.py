"""What can be evaluated: a checkpoint, a run, an exported model, or a file with the results of any detector."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

from retinanet.distributed import Processes
from retinanet.evaluation.results_file import ResultsFile, is_results_file
from retinanet.inference.detector import Detector, load
from retinanet.precision import PrecisionChoice, precision_beside_int8

EvalInput: TypeAlias = Detector | ResultsFile


def open_input(
    path: str | Path,
    device: torch.device | str = "cpu",
    precision: PrecisionChoice = "fp32",
    classes_from: int | None = None,
) -> EvalInput:
    """A detector from any path that `retinanet.load` takes, or the results file whose name ends in .json.

    device, precision: of a detector. classes_from: see `ResultsFile`. Raises: see `load`.
    """
    if is_results_file(path):
        return ResultsFile(Path(path), classes_from)
    return load(path, device, precision=precision)


def open_in_all(
    processes: Processes, open_: Callable[[PrecisionChoice], EvalInput], precision: PrecisionChoice
) -> EvalInput:
    """What `open_` opens in a given precision, in every one of `processes`; `auto` is what process 0 chooses.

    Raises: see `Processes.together`.
    """
    subject = processes.together(lambda: open_(precision))
    if precision != "auto" or isinstance(subject, ResultsFile):
        return subject
    own = subject.model.precision
    chosen = processes.first(lambda: own)
    return processes.together(lambda: subject if own == chosen else open_(precision_beside_int8(chosen)))
