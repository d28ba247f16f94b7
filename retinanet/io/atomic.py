"""Atomic writing: a file is written under a temporary name, then renamed, so that it is never incomplete."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

STREAMS = tuple(map(Path, ("/dev", "/dev/fd", "/proc/self/fd")))  # folders of stdout and of other open files


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; when the block ends, the written file replaces `path`.

    An error or a kill leaves `path` as it was. A symbolic link is replaced, not followed; a terminal, /dev/null or
    /dev/stdout is written directly. A missing folder is created.

    keep: new name of the file that was at `path`; None keeps no copy.
    Raises: OSError that names `path`, also if it is a folder or a pipe.
    """
    with naming(path):
        make_folder(path.parent)
        if is_stream(path):
            yield path
            return
        temporary = path.with_name(f".{path.name[:48]}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.touch()
            mode = temporary.stat().st_mode  # follows the umask; safetensors makes files that only their owner can read
            yield temporary
            temporary.chmod(mode)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raises: OSError that names `path`, in place of one of the block, which may name a temporary file or none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def is_stream(path: Path) -> bool:
    """Whether `path` is written directly: a character device such as /dev/null, or an open file such as /dev/stdout.

    Raises: OSError for what cannot be written as a file: a folder, and a pipe, whose reader may never come.
    """
    if not path.exists():
        return False
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder, expected a file", str(path))
    if stat.S_ISCHR(mode) or path.absolute().parent in STREAMS and not stat.S_ISBLK(mode):
        return True
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, expected a file", str(path))
    return False


def fault_of_folder(folder: Path) -> str:
    """Why no file can be written into `folder`, which need not exist yet, or ""."""
    existing = next(each for each in (folder, *folder.absolute().parents) if os.path.exists(each))
    if not existing.is_dir():
        return f"{existing} is a file"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"{existing} is read-only for this user"


def make_folder(folder: Path) -> None:
    """Create `folder` and those that it lies in; `Path.mkdir` fails where a thousand are missing. Raises: OSError."""
    missing = list(takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    for each in reversed(missing):
        each.mkdir(exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Raises: OSError that names `path`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def left_behind(folder: Path) -> list[Path]:
    """Temporary files in `folder`, of processes that were killed while writing or are writing now."""
    named = [*folder.glob(".*.????????.tmp"), *folder.glob(".tmp??????")]  # the latter are safetensors'
    return sorted(path for path in named if path.is_symlink() or not path.is_dir())


def _sync(folder: Path) -> None:
    """Write the folder's entries to the disk, so that a rename in it survives a power failure."""
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
