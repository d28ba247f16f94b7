"""Faults in a user's files, each told in one line: what, where, got, expected."""

import difflib
from collections.abc import Sequence


def one_line(error: Exception) -> str:
    """What another library's error says, as part of a message of ours."""
    return " ".join(str(getattr(error, "reason", error)).split())[:200]


def printable(value: object) -> str:
    """`value` as text without control characters, those that turn the writing's direction, and halves of letters.

    They are spelled out, so that a file's name is seen and not obeyed.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint at the one of `known` that is like `name`; "" where none is."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""


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
