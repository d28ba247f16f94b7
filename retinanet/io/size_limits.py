"""Limits on the size of the files that users give."""

import stat
from pathlib import Path

from retinanet.errors import RetinaNetError


def read_bytes(file: Path, max_bytes: int, error: type[RetinaNetError]) -> bytes:
    """The content of `file`. Raises: `error` if it cannot be read or is larger than `max_bytes`."""
    try:
        check_size(file, max_bytes, error)
        return file.read_bytes()
    except (OSError, ValueError) as reason:  # ValueError: the name contains a NUL character
        raise error(f"{file}: cannot be read: {getattr(reason, 'strerror', None) or reason}") from None


def check_size(file: Path, max_bytes: int, error: type[RetinaNetError]) -> None:
    """Check a file before it is read.

    Raises: `error` if `file` is larger than `max_bytes`, or is a device or a pipe, which can be endless; OSError.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise error(f"{file}: is a device or a pipe, expected a file")
    if status.st_size > max_bytes:
        raise error(f"{file}: has {status.st_size:,} bytes, expected at most {max_bytes:,}")
