"""Atomic writing: a file is written under a temporary name, then renamed, so that it is never incomplete."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; when the block ends, the written file replaces `path`.

    An error or a kill leaves `path` as it was. A symbolic link is replaced, not followed; a device or a pipe is written
    directly. A missing folder is created.

    keep: new name of the file that was at `path`; None keeps no copy.
    Raises: OSError that names `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.absolute().is_relative_to("/dev") or path.exists() and not path.is_file():
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
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


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
