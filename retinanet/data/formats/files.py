"""Finds and reads the files that layouts and formats share."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retinanet.errors import DataError
from retinanet.io.safe_yaml import read_mapping
from retinanet.io.size_limits import read_bytes

MAX_BYTES = 2**28  # of a text file: a list of 2 million images
ROOT = "data.root (--set data.root=DIR) must be the data set's folder"
DATA_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def files_in(folder: Path, *suffixes: str) -> Iterator[Path]:
    """The files at any depth in `folder` that are `named` with one of the lower-case `suffixes`, in no order."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if named(name, suffixes))


def named(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name has one of the lower-case `suffixes` and is none of macOS's `._NAME`.

    macOS writes such a file of attributes beside each file on a disk of another system.
    """
    return name.lower().endswith(suffixes) and not name.startswith("._")


def read_lines(file: Path) -> list[str]:
    """The lines of a text file in UTF-8 or UTF-16, stripped. Raises: DataError if it cannot be read."""
    content = read_bytes(file, MAX_BYTES, DataError)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Windows' PowerShell writes
    text = content.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    return [line.strip() for line in text.splitlines()]


def read_data_yaml(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Path and content of the folder's data.yaml, each scalar as its text; the content is empty without such a file."""
    path = next((folder / name for name in DATA_YAML if (folder / name).is_file()), folder / DATA_YAML[0])
    if not path.is_file():
        return path, {}
    # as text, since a class may be called "no" or "1"
    return path, read_mapping(path, "train, val and names", as_text=True, error=DataError)


def find_moved(base: Path, written: str, shortest: int) -> Path | None:
    """The existing path that `written` means in `base`, although it may be of another machine or of Windows.

    Folders at its start, `..` first, are left out until it exists, but for the last `shortest` parts.
    """
    if os.path.exists(base / written):
        return base / written
    parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts.pop(0)
    for start in range(max(1, len(parts) - shortest + 1)):
        path = base.joinpath(*parts[start:])
        if parts and os.path.exists(path):
            return path
    return None
