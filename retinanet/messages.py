"""Parts of messages: errors of other libraries, names, values and hints."""

import difflib
import reprlib
import struct
from collections.abc import Sequence
from typing import Any

_SHORTENED = reprlib.Repr()  # so that a list which YAML's aliases expand to a million items is never written out
_SHORTENED.maxlist = _SHORTENED.maxdict = 30
_SHORTENED.maxstring = _SHORTENED.maxother = _SHORTENED.maxlong = 110


# errors and words of Python itself, as in "list index out of range", which say nothing about a user's file
PYTHONS_KINDS = (
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    struct.error,
)
PYTHONS_WORDS = ("invalid literal for", "could not convert", "not enough values", "too many values", "b'", 'b"')


def one_line(error: Exception, otherwise: str = "its content is damaged") -> str:
    """Why another library failed, in one line of at most 200 characters, in words and never empty.

    otherwise: the reason where the error tells none, or only in Python's own words.
    """
    if isinstance(error, MemoryError):
        return "there is too little memory"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in {error.encoding.upper()}"
    reason = getattr(error, "reason", error)  # of an error of the network another error, such as OSError
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split())[:200]
    return otherwise if not text or isinstance(error, PYTHONS_KINDS) or text.startswith(PYTHONS_WORDS) else text


def printable(value: object) -> str:
    """`value` as text in which control characters, writing directions and halves of surrogate pairs are escaped.

    A hostile file name can then not control the terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A question that names the most similar of `known`, or "" if none is similar to `name`."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""


def kind_of(value: Any) -> str:
    """The kind of a YAML value, in words."""
    names = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number", bool: "a truth value"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def shortened(value: Any) -> str:
    """`value` as Python writes it, a tuple as a list, in at most 100 characters."""
    text = _SHORTENED.repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 100 else text[:97] + "..."
