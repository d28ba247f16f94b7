"""Parts of messages: errors of other libraries, names, values and hints."""

import difflib
import reprlib
from collections.abc import Sequence
from typing import Any

_SHORTENED = reprlib.Repr()  # so that a list which YAML's aliases expand to a million items is never written out
_SHORTENED.maxlist = _SHORTENED.maxdict = 30
_SHORTENED.maxstring = _SHORTENED.maxother = _SHORTENED.maxlong = 110


def one_line(error: Exception) -> str:
    """The message of another library's error, in one line of at most 200 characters."""
    return " ".join(str(getattr(error, "reason", error)).split())[:200]


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
