"""The image files of a data set: which are missing, damaged, or equal to others."""

import functools
import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from retinanet.data.dataset import Dataset
from retinanet.data.images import format_and_frames, image_size
from retinanet.data.shapes import Shapes
from retinanet.errors import DataError

IMAGES_PER_CHUNK = 64  # an interrupt takes effect after a chunk
TAIL_BYTES = 4096  # images of equal size seldom have equal last bytes
# why an image cannot be used; its format, such as "PNG", if its suffix is another's; whether it has several frames
Scan = tuple[DataError | None, str | None, bool]


def missing_files(dataset: Dataset) -> list[int]:
    """Indices of the images whose file does not exist; none of the embedded images, which have no files.

    Whole folders are listed, which takes 0.1 s for 118,000 files, instead of a look-up for each file.
    """
    if isinstance(dataset, Shapes):
        return []
    listed = functools.cache(files_of)
    absent = []
    for index, path in enumerate(paths_of(dataset)):
        folder, name = os.path.split(path)
        # a file system that ignores case opens names that it does not list
        if name not in listed(folder) and not os.path.isfile(path):
            absent.append(index)
    return absent


def scan_files(
    dataset: Dataset, indices: Sequence[int], decode: bool, workers: int, progress: Callable[[int], object]
) -> dict[int, Scan]:
    """What is wrong with each of the image files of `indices`.

    decode: read all pixels, not only the header. progress: receives the number of images scanned so far.
    """

    def scan(index: int) -> Scan:
        path = dataset.folder / dataset.files[index]
        try:
            if decode:
                dataset.image(index)
            else:
                image_size(path, dataset.annotated_size(index), dataset.max_pixels)
            return None, *format_and_frames(path)
        except DataError as error:
            return error, None, False

    scans: dict[int, Scan] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(indices), IMAGES_PER_CHUNK):
            chunk = indices[start : start + IMAGES_PER_CHUNK]
            scans.update(zip(chunk, pool.map(scan, chunk), strict=True))
            progress(start + len(chunk))
    return scans


def listed_twice(dataset: Dataset) -> list[int]:
    """Indices of the images that have the same file as an earlier image."""
    first: dict[str, int] = {}
    return [index for index, path in enumerate(paths_of(dataset)) if first.setdefault(path, index) != index]


def in_both_splits(train: Dataset, val: Dataset) -> list[tuple[int, int]]:
    """Pairs (index in `train`, index in `val`) of images that are one file or have equal bytes, ordered by `val`."""
    ours, theirs = dict(enumerate(paths_of(train))), dict(enumerate(paths_of(val)))
    pairs = _equal(ours, theirs)
    theirs = {index: path for index, path in theirs.items() if index not in pairs}
    for key in (_size, _tail):  # so that few files are read whole
        our_keys, their_keys = ({index: key(path) for index, path in paths.items()} for paths in (ours, theirs))
        both = set(our_keys.values()) & set(their_keys.values()) - {None}
        ours = {index: path for index, path in ours.items() if our_keys[index] in both}
        theirs = {index: path for index, path in theirs.items() if their_keys[index] in both}
    pairs |= _equal(*({index: _digest(path) for index, path in paths.items()} for paths in (ours, theirs)))
    return [(pairs[index], index) for index in sorted(pairs)]


def _equal(ours: dict[int, str], theirs: dict[int, str]) -> dict[int, int]:
    """For values that both have: index in `theirs` -> index in `ours`."""
    by_value = {value: index for index, value in ours.items()}
    return {index: by_value[value] for index, value in theirs.items() if value in by_value}


def paths_of(dataset: Dataset) -> Iterator[str]:
    """The path of each image, without links in that of the folder and without ".."."""
    folder = os.path.realpath(dataset.folder)
    return (os.path.normpath(os.path.join(folder, dataset.files[index])) for index in range(len(dataset)))


def files_of(folder: str) -> set[str]:
    """Names of the files in a folder; none if it cannot be listed."""
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
            file.seek(-min(size, TAIL_BYTES), os.SEEK_END)
            return size, hashlib.sha256(file.read()).digest()
    except OSError:
        return None


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
