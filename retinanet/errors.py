"""Faults in a user's files, each told in one line: what, where, got, expected."""

from collections.abc import Sequence


class RetinaNetError(Exception):
    """Something outside the program is at fault; the message is shown to the user as it stands."""


class ConfigError(RetinaNetError):
    """A configuration file, preset or override is at fault."""


class DataError(RetinaNetError):
    """A data set, an annotation file or an image is at fault.

    code: the fault's name in `retina check`. ids: of all that have it, each `of` an image, an annotation or a category.
    """

    def __init__(self, message: str, code: str = "unusable-data", of: str = "file", ids: Sequence[int] = ()):
        super().__init__(message)
        self.code, self.of, self.ids = code, of, ids


class CheckpointError(RetinaNetError):
    """A checkpoint or a run's folder is at fault."""


class VerificationError(RetinaNetError):
    """An exported model finds something else than the model it was made of."""


class TrainingError(RetinaNetError):
    """A run cannot go on: its loss is not finite, or its results cannot be written."""


class DivergenceError(TrainingError):
    """A run's loss is not finite at `step`."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step
