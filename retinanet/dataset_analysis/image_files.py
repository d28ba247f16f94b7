"""Image files on the disk: which are missing, damaged, or the same as others."""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from retinanet.data.dataset import Dataset
from retinanet.data.images import format_and_frames, image_size
from retinanet.errors import DataError

CHUNK = 64  # images that an interrupt waits for
TAIL = 4096  # bytes: two pictures of one size seldom end alike


def missing(dataset: Dataset) -> list[int]:
    """Indices of the images whose file does not exist.

    Folders are listed, which takes 0.1 s for 118,000 files, rather than asked for each file.
    """
    listed: dict[str, set[str]] = {}
    found = []
    for index, path in enumerate(_paths(dataset)):
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = _files_of(folder)
        # a file system that ignores case finds names that it does not list
        if name not in listed[folder] and not os.path.isfile(path):
            found.append(index)
    return found


@dataclass(frozen=True)
class FileFaults:
    """What was seen in image files, by image index.

    faults: why training cannot use it. renamed: the format of its content, where the name says another. frames: those
    that have several.
    """

    faults: dict[int, DataError] = field(default_factory=dict)
    renamed: dict[int, str] = field(default_factory=dict)
    frames: list[int] = field(default_factory=list)


def look(
    dataset: Dataset,
    indices: Sequence[int],
    decode: bool,
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> FileFaults:
    """Read the image files of `indices`. decode: all pixels, not the header alone."""
    seen = FileFaults()

    def look_at(index: int) -> tuple[DataError | None, str | None, bool]:
        path = dataset.folder / dataset.files[index]
        try:
            if decode:
                dataset.image(index)
            else:
                image_size(path, dataset.annotated_size(index), dataset.max_pixels)
            return None, *format_and_frames(path)
        except DataError as error:
            return error, None, False

    with ThreadPoolExecutor(max(1, workers)) as pool:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(indices), CHUNK):
            part = indices[start : start + CHUNK]
            for index, (fault, kind, frames) in zip(part, pool.map(look_at, part), strict=True):
                if fault is not None:
                    seen.faults[index] = fault
                if kind is not None:
                    seen.renamed[index] = kind
                if frames:
                    seen.frames.append(index)
            progress(start + len(part))
    return seen


def repeated(dataset: Dataset) -> list[int]:
    """Indices of the images whose file is that of an earlier image too."""
    seen: set[str] = set()
    found = []
    for index, path in enumerate(_paths(dataset)):
        if path in seen:
            found.append(index)
        seen.add(path)
    return found


def shared(one: Dataset, other: Dataset) -> list[tuple[int, int]]:
    """Pairs (index in `one`, index in `other`) of images that are one file, or two of the same bytes; by the second."""
    ours, theirs = dict(enumerate(_paths(one))), dict(enumerate(_paths(other)))
    pairs = _equal(ours, theirs)
    theirs = {index: path for index, path in theirs.items() if index not in pairs}
    for key in (_size, _tail):  # few files are left to be read whole
        our_keys, their_keys = ({index: key(path) for index, path in paths.items()} for paths in (ours, theirs))
        both = set(our_keys.values()) & set(their_keys.values()) - {None}
        ours = {index: path for index, path in ours.items() if our_keys[index] in both}
        theirs = {index: path for index, path in theirs.items() if their_keys[index] in both}
    pairs |= _equal(*({index: _digest(path) for index, path in paths.items()} for paths in (ours, theirs)))
    return [(pairs[index], index) for index in sorted(pairs)]


def _equal(ours: dict[int, str], theirs: dict[int, str]) -> dict[int, int]:
    """Index in `theirs` -> index in `ours` of the same value."""
    by_value = {value: index for index, value in ours.items()}
    return {index: by_value[value] for index, value in theirs.items() if value in by_value}


def _paths(dataset: Dataset) -> Iterator[str]:
    folder = os.path.realpath(dataset.folder)
    return (os.path.normpath(os.path.join(folder, dataset.files[index])) for index in range(len(dataset)))


def _files_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _size(path: str) -> Hashable:
    """Bytes of a file; None if it is absent or empty."""
    try:
        return os.path.getsize(path) or None
    except OSError:
        return None


def _tail(path: str) -> Hashable:
    """Size and last bytes; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(-min(size, TAIL), os.SEEK_END)
            return size, hashlib.sha256(file.read()).digest()
    except OSError:
        return None


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
