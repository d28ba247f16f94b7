"""Errors that are not bugs; each message is one line: what, where, got, expected."""

import errno
import re
from collections.abc import Sequence
from types import TracebackType

LOADER_WITHOUT_FILES = 24  # exit code of a process that loads data
NO_FILES = re.compile(f"too many open files|exited unexpectedly with exit code {LOADER_WITHOUT_FILES}", re.IGNORECASE)
NO_MEMORY = re.compile(  # of torch, OpenCV, ONNX Runtime, OpenVINO and the system's loader
    r"out of memory|(can't|cannot|failed to) allocate|(not enough|insufficient) memory|bad_alloc|failed to map segment",
    re.IGNORECASE,
)
MOST_LISTED = 20  # faults of a data set
MOST_OF_A_PART = 5  # faults of one file or one field, so that those of others are listed too


def system_error(error: BaseException, less_memory: str) -> str | None:
    """A line about an error whose cause is a limit of the system, or None for another error.

    less_memory: what needs less, as in "a smaller train.batch_size needs less memory".
    """
    if is_out_of_files(error):
        return "too many open files; raise their limit with ulimit -n, or use fewer data.workers"
    if "DataLoader worker (pid" in str(error):
        text = " ".join(str(error).split())[:200]
        return f"{text}; the system kills a worker if memory runs out; {less_memory}"
    return f"out of memory; {less_memory}" if is_out_of_memory(error) else None


def is_out_of_files(error: BaseException) -> bool:
    """Whether the process, or one that loads its data, may open no more files."""
    return getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or NO_FILES.search(str(error)) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the CPU or of a GPU; only Python and NumPy have a type of error for it."""
    return isinstance(error, MemoryError) or NO_MEMORY.search(str(error)) is not None


class RetinaNetError(Exception):
    """An error whose cause is outside the program; its message is shown to the user without change."""


class ConfigError(RetinaNetError):
    """A configuration file, preset or override is invalid."""


class DataError(RetinaNetError):
    """A data set, an annotation file or an image is invalid.

    code: name of the error in `retina check`. of: what has the error, such as an image, an annotation or a category.
    ids: the ids of all that have it. faults: if it stands for `count` errors of a data set, the first of them.
    """

    def __init__(self, message: str, code: str = "unusable-data", of: str = "file", ids: Sequence[int] = ()):
        super().__init__(message)
        self.code, self.of, self.ids = code, of, ids
        self.faults: Sequence[DataError] = ()
        self.count = 1


class Faults:
    """Collects the errors of a data set: `with faults:` around each part that can be wrong, then `raise_if_any`.

    most: the number of errors to keep; the others are counted.
    """

    def __init__(self, most: int = MOST_LISTED) -> None:
        self.most = most
        self.found: list[DataError] = []
        self.count = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, DataError):
            self.add(error)
        return isinstance(error, DataError)

    def add(self, error: DataError) -> None:
        self.found.extend((error.faults or (error,))[: self.most - len(self.found)])
        self.count += error.count

    def raise_if_any(self) -> None:
        """Raises: DataError, the first of the errors; its message says how many more there are."""
        if self.count:
            first, more = self.found[0], self.count - 1
            rest = f"; {more:,} more fault{'s' * (more > 1)}, which retina check CONFIG lists" if more else ""
            error = DataError(f"{first}{rest}", first.code, first.of, first.ids)
            error.faults, error.count = self.found, self.count
            raise error


class CheckpointError(RetinaNetError):
    """A checkpoint or the folder of a run is invalid."""


class VerificationError(RetinaNetError):
    """The detections of an exported model differ from those of the original."""


class TrainingError(RetinaNetError):
    """A run cannot continue: its loss is not finite, or its files cannot be written."""


class DivergenceError(TrainingError):
    """The loss of a run is not finite at the optimizer step `step`."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple:
        return DivergenceError, (str(self), self.step)


class ProcessError(RetinaNetError):
    """The processes that work together cannot reach one another, or one of them has ended."""


class OtherProcessError(ProcessError):
    """Another process ends for a reason that it has already reported."""
