"""A user's file, no larger than it may be."""

import stat
from pathlib import Path

from retinanet.errors import RetinaNetError


def read_bytes(file: Path, most: int, error: type[RetinaNetError]) -> bytes:
    """What `file` holds. Raises: `error` if it cannot be read or has more than `most` bytes; then none is read."""
    try:
        check_size(file, most, error)
        return file.read_bytes()
    except (OSError, ValueError) as fault:  # ValueError: the name holds a NUL
        raise error(f"{file}: cannot be read: {getattr(fault, 'strerror', None) or fault}") from None


def check_size(file: Path, most: int, error: type[RetinaNetError]) -> None:
    """Raises: `error` if `file` has more than `most` bytes, or is a device or a pipe, which may have any; OSError."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise error(f"{file}: is a device or a pipe, expected a file")
    if status.st_size > most:
        raise error(f"{file}: has {status.st_size:,} bytes, expected at most {most:,}")
