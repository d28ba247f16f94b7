"""Errors that are not bugs; each message is one line: what, where, got, expected."""

from collections.abc import Sequence


class RetinaNetError(Exception):
    """An error whose cause is outside the program; its message is shown to the user without change."""


class ConfigError(RetinaNetError):
    """A configuration file, preset or override is invalid."""


class DataError(RetinaNetError):
    """A data set, an annotation file or an image is invalid.

    code: name of the error in `retina check`. of: what has the error, such as an image, an annotation or a category.
    ids: the ids of all that have it.
    """

    def __init__(self, message: str, code: str = "unusable-data", of: str = "file", ids: Sequence[int] = ()):
        super().__init__(message)
        self.code, self.of, self.ids = code, of, ids


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
