"""Files that are whole or not there: written beside their place, then renamed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; what was written takes the place of `path` when the block ends.

    An error or a kill leaves `path` as it was. A link there is replaced, not followed; a device or a pipe is written
    straight. The folder is made where it is absent.

    keep: what the file of before is called from then on.
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
            mode = temporary.stat().st_mode  # as the user gives it; safetensors makes files that others cannot read
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
    """UTF-8. Raises: OSError that names `path`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def left_behind(folder: Path) -> list[Path]:
    """Temporary files of processes that were killed while they wrote into `folder`, and of any that do so now."""
    return sorted([*folder.glob(".*.????????.tmp"), *folder.glob(".tmp??????")])  # the latter are safetensors' own


def _sync(folder: Path) -> None:
    """A rename outlasts a power cut once its folder is on the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
