"""Parts of messages."""

import io
import struct
import urllib.error

import pytest

from retinanet.messages import one_line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError(200), "its content is damaged"),
        (IndexError("list index out of range"), "its content is damaged"),
        (EOFError(), "its content is damaged"),
        (ValueError("  \n "), "its content is damaged"),
        (ValueError("invalid literal for int() with base 10: b'x'"), "its content is damaged"),
        (SyntaxError(b"chunk"), "its content is damaged"),
        (struct.error("unpack requires a buffer of 4 bytes"), "its content is damaged"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (urllib.error.URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (urllib.error.HTTPError("https://a", 404, "Not Found", None, io.BytesIO()), "Not Found"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "it is not text in UTF-8"),
        (MemoryError(), "there is too little memory"),
        (RuntimeError("two\n  lines"), "two lines"),
        (ValueError("x" * 300), "x" * 200),
    ],
    ids=repr,
)
def test_a_reason_is_in_words(error, reason):
    assert one_line(error) == reason


def test_a_reason_may_be_given_where_the_error_has_none():
    assert one_line(TimeoutError(), "no answer") == "no answer"
