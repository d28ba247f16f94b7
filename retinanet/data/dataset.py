"""One split of a data set, stored as columns, and its samples."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from retinanet.config.schema import DataConfig
from retinanet.data.images import read_image


@dataclass(frozen=True)
class Sample:
    """One image with its objects.

    image: (H, W, 3) uint8 RGB. boxes: (M, 4) float32 xyxy pixels of `image`. labels: (M,) int64 in 0..K-1.
    crowd: (M,) bool. annotation_ids: (M,) int64. original_size: (height, width) before any transform, EXIF applied.
    key: 0..2^63-1, for random choices of the loss; 0 in evaluation.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    annotation_ids: np.ndarray
    image_id: int
    original_size: tuple[int, int]
    file: str
    key: int = 0


class Strings:
    """Immutable list of strings in two arrays, whose memory forked workers share."""

    def __init__(self, strings: Iterable[str]):
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self.ends = np.cumsum([len(string) for string in encoded], dtype=np.int64)
        self.bytes = np.frombuffer(b"".join(encoded), np.uint8)

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return self.bytes[start : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")


Fault = Literal["not-finite", "no-area", "outside"]


@dataclass(frozen=True)
class Skipped:
    """The n objects skipped for one kind of fault.

    annotation_ids: (n,) int64. boxes: (n, 4) float64 xywh, as fractions of the image. files: n, of their images.
    """

    fault: Fault
    annotation_ids: np.ndarray
    boxes: np.ndarray
    files: Strings


@dataclass
class Dataset:
    """N images with M objects; `dataset[i]` reads image i and returns its `Sample`.

    classes: K names. category_ids: (K,), the id of each class in the annotation file (COCO's have gaps).
    folder: of `files`. image_ids: (N,) int64. sizes: (N, 2) int32, height and width.
    sizes_annotated: whether `sizes` are from the annotations, which then decide whether EXIF orientation is applied.
    first_object: (N + 1,) int64; objects first_object[i]:first_object[i + 1] belong to image i.
    boxes: (M, 4) float64 xywh pixels as annotated, 0-based. areas: (M,) float64 square pixels, in COCO of the mask.
    labels: (M,) int32. crowd: (M,) bool. annotation_ids: (M,) int64. max_pixels: as in `read_image`.
    label_files: N paths, of each image's own annotations, which may not exist; None if images share a file.
    image_ids_annotated: whether `image_ids` are from the annotations; else they number the images of this split.
    notes: messages about the data, one line each. skipped: one entry per kind of fault.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    folder: Path
    files: Strings
    image_ids: np.ndarray
    sizes: np.ndarray
    sizes_annotated: bool
    first_object: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    annotation_ids: np.ndarray
    label_files: Strings | None = None
    image_ids_annotated: bool = True
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    max_pixels: int = DataConfig.max_pixels

    @property
    def index_of_id(self) -> dict[int, int]:
        """The index of each image by its id."""
        return {image_id: index for index, image_id in enumerate(self.image_ids.tolist())}

    @property
    def image_index(self) -> np.ndarray:
        """(M,) int64 index of each object's image."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_object))

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, indices: np.ndarray) -> "Dataset":
        """The images `indices` (n,), which may repeat, with their objects; `notes` and `skipped` stay whole."""
        counts = np.diff(self.first_object)[indices]
        ends = np.cumsum(counts)
        rows = np.arange(counts.sum()) + np.repeat(self.first_object[indices] - (ends - counts), counts)
        return replace(
            self,
            files=Strings(self.files[index] for index in indices.tolist()),
            image_ids=self.image_ids[indices],
            sizes=self.sizes[indices],
            first_object=np.concatenate([[0], ends]),
            boxes=self.boxes[rows],
            areas=self.areas[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            annotation_ids=self.annotation_ids[rows],
            label_files=self.label_files and Strings(self.label_files[index] for index in indices.tolist()),
        )

    def image(self, index: int) -> np.ndarray:
        """Pixels of image `index`, (H, W, 3) uint8 RGB. Raises DataError if it cannot be read."""
        return read_image(self.folder / self.files[index], self.annotated_size(index), self.max_pixels)

    def annotated_size(self, index: int) -> tuple[int, int] | None:
        """(height, width) of image `index` in the annotations, or None."""
        height, width = self.sizes[index].tolist()
        return (height, width) if self.sizes_annotated else None

    def __getitem__(self, index: int) -> Sample:
        image = self.image(index)
        height, width = image.shape[:2]
        objects = slice(self.first_object[index], self.first_object[index + 1])
        x, y, w, h = self.boxes[objects].T
        boxes = np.stack([x, y, x + w, y + h], axis=1)
        return Sample(
            image=image,
            boxes=np.clip(boxes, 0, [width, height, width, height]).astype(np.float32),
            labels=self.labels[objects].astype(np.int64),
            crowd=self.crowd[objects].copy(),
            annotation_ids=self.annotation_ids[objects].copy(),
            image_id=int(self.image_ids[index]),
            original_size=(height, width),
            file=self.files[index],
        )


def blank_sample(image_id: int, file: str) -> Sample:
    """Placeholder for an unreadable image: 32 x 32 black pixels, no objects, original size 0 x 0."""
    none = np.zeros(0, np.int64)
    image, boxes = np.zeros((32, 32, 3), np.uint8), np.zeros((0, 4), np.float32)
    return Sample(image, boxes, none, none.astype(bool), none, image_id, (0, 0), file)
