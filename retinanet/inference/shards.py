"""Shards of a long list of images, which independent processes detect, and their merge, which misses no image."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from retinanet.errors import DataError
from retinanet.inference.detector import Detector
from retinanet.inference.predict import Prediction
from retinanet.inference.results import image_document
from retinanet.io.atomic import replacing

PART_IMAGES = 500  # images of a part: what a killed process loses at most
PART = re.compile(r"part-(\d+)-of-(\d+)-(\d+)\.jsonl")


@dataclass(frozen=True)
class Names:
    """The names of images in order; a name may be there more than once.

    given: the names, or a file with a name on each line, which is read anew in each pass so that it takes no memory.
    """

    given: Sequence[str] | Path

    def __iter__(self) -> Iterator[str]:
        if not isinstance(self.given, Path):
            yield from self.given
            return
        try:
            with self.given.open(encoding="utf-8", errors="surrogateescape") as file:
                yield from (line.rstrip("\n") for line in file if line.strip())
        except OSError as error:
            raise DataError(f"{self.given}: cannot be read: {error.strerror}") from None

    def count_and_hash(self) -> tuple[int, str]:
        """The number of names, and the SHA-256 of all of them."""
        digest, count = hashlib.sha256(), 0
        for name in self:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
            count += 1
        return count, digest.hexdigest()


@dataclass(frozen=True)
class Shard:
    """The images from `index / count` to `(index + 1) / count` of a list. index: 0..count-1."""

    index: int
    count: int

    def bounds(self, images: int) -> tuple[int, int]:
        """The first position, and that after the last, of this shard in a list of so many images."""
        return self.index * images // self.count, (self.index + 1) * images // self.count

    def file(self, folder: Path, part: int) -> Path:
        return folder / f"part-{self.index}-of-{self.count}-{part}.jsonl"


def write_shard(
    names: Names,
    shard: Shard,
    folder: Path,
    settings: dict[str, Any],
    detect: Callable[[Iterable[Path]], Iterable[Prediction]],
    detector: Detector,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> int:
    """Write the parts of a shard that are not in `folder` yet. Returns: the number of unreadable images in new parts.

    A part is a file of JSON lines: first what it belongs to, then an image on each line, with its position in the list,
    and its detections or the fault why it cannot be read.

    settings: what the detections depend on beside the list, such as weights and thresholds; parts of other settings do
    not belong together. detect: the predictions of files, in order. Raises: DataError for a part of another list or of
    other settings; OSError.
    """
    images, digest = names.count_and_hash()
    start, stop = shard.bounds(images)
    own, faults = islice(names, start, stop), 0
    for part, first in enumerate(range(start, stop, PART_IMAGES)):
        files = list(map(Path, islice(own, min(PART_IMAGES, stop - first))))
        head = {"list": digest, "images": images, "first": first, "count": len(files), "settings": settings}
        file = shard.file(folder, part)
        if file.exists():
            if _read_head(file) != head:
                raise DataError(f"{file}: is of another list or of other settings; choose another folder with -o")
        else:
            with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as lines:
                lines.write(json.dumps(head) + "\n")
                for position, item in enumerate(detect(files), first):
                    faults += item.fault is not None
                    lines.write(json.dumps({"position": position, **image_document(item, detector)}) + "\n")
        progress(first + len(files) - start, stop - start)
    return faults


def merge_shards(folder: Path, output: Path) -> tuple[int, int]:
    """Write all images of the parts in `folder` to one file of JSON lines, in the order of the list.

    Returns: the number of images, and that of the unreadable ones. Raises: DataError if a part is missing, is damaged
        or does not belong to the others, so that an image would be missing or be there twice.
    """
    found = [match for path in folder.iterdir() if (match := PART.fullmatch(path.name))] if folder.is_dir() else []
    counts = {int(match[2]) for match in found}
    if len(counts) != 1:
        sizes = " and ".join(str(count) for count in sorted(counts))
        raise DataError(f"{folder}: has parts of {sizes} shards" if counts else f"{folder}: has no part-I-of-N-K.jsonl")
    (count,) = counts
    first = _read_head(folder / found[0][0])
    left, position, faults = {match[0] for match in found}, 0, 0
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for shard in (Shard(index, count) for index in range(count)):
            part = 0
            while position < shard.bounds(first["images"])[1]:
                file = shard.file(folder, part)
                if not file.exists():
                    raise DataError(f"{file}: is missing; run --shard {shard.index}/{count} again")
                head = _read_head(file)
                same = all(head[key] == first[key] for key in ("list", "images", "settings"))
                if not same or head["first"] != position:
                    raise DataError(f"{file}: does not belong to the other parts: another list or other settings")
                for line in _read_images(file, head):
                    faults += "fault" in line
                    lines.write(json.dumps(line) + "\n")
                position += head["count"]
                part += 1
                left.discard(file.name)
        if left:
            raise DataError(f"{folder / min(left)}: is no part of the list; remove it")
    return position, faults


def _read_head(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as lines:
            head = json.loads(next(lines))
        if head.keys() != {"list", "images", "first", "count", "settings"}:
            raise ValueError
        if not all(isinstance(head[key], int) for key in ("images", "first", "count")):
            raise ValueError
        return head
    except (ValueError, StopIteration, AttributeError):
        raise DataError(f"{file}: is damaged; remove it and run its shard again") from None


def _read_images(file: Path, head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The images of a part. Raises: DataError if one is missing, or is there twice."""
    expected = iter(range(head["first"], head["first"] + head["count"]))
    try:
        with file.open(encoding="utf-8") as lines:
            for line in islice(lines, 1, None):
                image = json.loads(line)
                if image["position"] != next(expected):
                    raise ValueError
                yield image
        if next(expected, None) is not None:
            raise ValueError
    except (ValueError, StopIteration, TypeError, KeyError):
        raise DataError(f"{file}: is damaged; remove it and run its shard again") from None
