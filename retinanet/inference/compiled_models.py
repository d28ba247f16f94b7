"""A cache of the models that OpenVINO has compiled, so that a later process reads one instead of compiling it again.

OpenVINO's own cache (CACHE_DIR) is not used: it returns a model compiled from a file before the weights beside it were
changed, and computes other scores from a damaged entry. Here SHA-256 sums tell both.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.io.atomic import replacing

VARIABLE = "RETINA_CACHE_DIR"  # of the environment: the folder of caches; empty: none
MAX_BYTES = 10**9  # of all files in the cache
Stamps = list[tuple[int, int, int]]  # number, size and time of the last change of each file
DIGEST = hashlib.sha256().digest_size  # bytes at the end of each file: the SHA-256 of those before


def compile_cached(
    openvino: Any, core: Any, model: Any, files: Sequence[Path], stamps: Stamps, hint: dict[str, str]
) -> Any:
    """`model` compiled for the CPU, from the cache or else anew; then it is written there.

    A cache that cannot be read or written is not used.

    openvino: the module. model: what `core` has read from `files`. stamps: of the files, before they were read.
    hint: OpenVINO's properties.
    Raises: RuntimeError if OpenVINO cannot compile the model.
    """
    folder = cache_folder()
    machine = openvino.get_version(), core.get_property("CPU", "FULL_DEVICE_NAME"), sorted(hint.items())
    key = None if folder is None else _key(machine, files, stamps)
    if folder is None or key is None:
        return core.compile_model(model, "CPU", hint)
    file = folder / f"{key}.blob"
    with suppress(OSError, ValueError, RuntimeError):  # there is none, it is damaged, or of other instructions
        compiled = core.import_model(openvino.Tensor(_read(file)), "CPU", hint)
        with suppress(OSError):
            os.utime(file)  # the models that were not used for longest make room
        return compiled
    compiled = core.compile_model(model, "CPU", hint)
    with suppress(OSError, RuntimeError, MemoryError):
        _write(file, compiled.export_model().getbuffer())
    return compiled


def file_stamps(files: Sequence[Path]) -> Stamps:
    """What changes as soon as a program replaces or rewrites one of `files`. Raises: OSError."""
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in (file.stat() for file in files)]


def cache_folder() -> Path | None:
    """The folder of the cache, which only this user can read and write; None if there is none.

    It lies in the folder that RETINA_CACHE_DIR names, else in the platform's own for caches.
    """
    given = os.environ.get(VARIABLE)
    if given == "":
        return None
    try:
        folder = (Path(given) if given else _platform_folder() / "retina") / "openvino"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None
    private = os.name != "posix" or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
    return folder if private and not folder.is_symlink() else None


def _platform_folder() -> Path:
    """Where the platform's programs keep a user's caches. Raises: RuntimeError if the user has no home folder."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _key(machine: object, files: Sequence[Path], stamps: Stamps) -> str | None:
    """A SHA-256 over all that the compiled model depends on; None if the files have changed since their `stamps`."""
    digest = hashlib.sha256(repr(machine).encode())
    try:
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest() if file_stamps(files) == stamps else None
    except OSError:
        return None


def _read(file: Path) -> np.ndarray:
    """A compiled model as bytes, mapped into memory. Raises: OSError; ValueError if it is damaged."""
    content = np.memmap(file, np.uint8, "r")
    if hashlib.sha256(content[:-DIGEST].data).digest() != content[-DIGEST:].tobytes():
        raise ValueError(f"{file} is damaged")
    return content[:-DIGEST]


def _write(file: Path, content: memoryview) -> None:
    """Write a compiled model, and remove older ones that it leaves no room for. Raises: OSError."""
    if content.nbytes > MAX_BYTES:
        return
    with replacing(file) as temporary, temporary.open("wb") as opened:
        opened.write(content)
        opened.write(hashlib.sha256(content).digest())
    _remove_oldest(file.parent)


def _remove_oldest(folder: Path) -> None:
    """Remove the files that were not used for longest, until the others take at most MAX_BYTES. Raises: OSError."""
    found = sorted(((status := file.stat()).st_mtime_ns, status.st_size, file) for file in folder.iterdir())
    total = sum(size for _, size, _ in found)
    for _, size, file in found:
        if total <= MAX_BYTES:
            break
        file.unlink(missing_ok=True)
        total -= size
