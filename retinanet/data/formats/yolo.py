"""Reads YOLO's text files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.data.formats.build import RawColumns, header_sizes
from retinanet.data.images import SUFFIXES
from retinanet.errors import MOST_OF_A_PART, DataError, Faults
from retinanet.io.safe_yaml import read_mapping
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line

MAX_BYTES = 2**28  # of a text file: a list of 2 million images


def read_yolo(root: Path, sources: Sequence[Path], labels: Path | None = None) -> RawColumns:
    """Images with the boxes of their text files: lines `class cx cy w h`, as fractions of the image, EXIF applied.

    A polygon, `class x1 y1 x2 y2 x3 y3 ...`, becomes its bounding box. An image without a text file has no objects. The
    category ids are YOLO's class indices.

    root: folder with the class names, in data.yaml, classes.txt or obj.names; else they are in `labels`.
    sources: folders of images, or text files that list images.
    labels: folder of text files, with the subfolders of the only folder in `sources`; None: the last `images` in each
    image's path is replaced by `labels`.
    Raises: DataError without class names, for an invalid line, an unknown class index or an unreadable image header.
    """
    names = _read_names(root, labels)
    images = [image for source in sources for image in _images_of(source)]
    folder = Path(os.path.commonpath([image.parent for image in images])) if images else Path()
    rows: list[tuple[int, int, float, float, float, float]] = []
    label_files, faults = [], Faults()
    for i, image in enumerate(images):
        text = _label_path(image) if labels is None else labels / image.relative_to(sources[0])
        label_files.append(text.with_suffix(".txt"))
        with faults:
            rows.extend((i, *row) for row in _read_labels(label_files[i], len(names)))
    faults.raise_if_any()
    files = [image.relative_to(folder).as_posix() for image in images]
    sizes = header_sizes(folder, files)
    x1, y1, x2, y2 = np.array([row[2:] for row in rows], np.float64).reshape(-1, 4).T
    image_index, classes = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2).T
    height, width = sizes[image_index].T
    with np.errstate(over="ignore", invalid="ignore"):  # boxes that are not finite are skipped later
        boxes = np.stack([x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height], axis=1)
    return RawColumns(
        source=labels.name if labels else sources[0].name,
        names=names,
        category_ids=range(len(names)),
        folder=folder,
        files=files,
        image_ids=np.arange(1, len(images) + 1),
        sizes=sizes,
        sizes_annotated=False,
        image_index=image_index,
        boxes=boxes,
        areas=np.full(len(rows), np.nan),
        labels=classes,
        crowd=np.zeros(len(rows), bool),
        annotation_ids=np.arange(1, len(rows) + 1),
        label_files=list(map(str, label_files)),
    )


def _read_names(root: Path, labels: Path | None) -> list[str]:
    folders = [root] if labels in (None, root) else [root, labels]
    for folder in folders:
        names = _read_data_yaml(folder).get("names")
        if isinstance(names, dict):
            if sorted(names) != sorted(map(str, range(len(names)))):
                raise DataError(f"{folder / 'data.yaml'}: names has the keys {list(names)[:10]}; expected 0, 1, 2, ...")
            names = [names[str(index)] for index in range(len(names))]
        if isinstance(names, list) and names:
            if any(not isinstance(name, str) for name in names):
                raise DataError(f"{folder / 'data.yaml'}: names has lists or mappings; expected text")
            return names
        for file in (folder / "classes.txt", folder / "obj.names"):
            if file.is_file() and (lines := list(filter(None, read_lines(file)))):
                return lines
    places = " or ".join(map(str, folders))
    raise DataError(f"{places}: no class names; put them into data.yaml (names: [...]), classes.txt or obj.names there")


def _read_data_yaml(root: Path) -> dict[str, Any]:
    """The mapping in root/data.yaml, each scalar as its text; empty without such a file."""
    path = root / "data.yaml"
    if not path.is_file():
        return {}
    # as text, since a class may be called "no" or "1"
    return read_mapping(path, "train, val and names", as_text=True, error=DataError)


def read_lines(file: Path) -> list[str]:
    """The lines of a text file, stripped. Raises: DataError if it cannot be read."""
    return [line.strip() for line in read_bytes(file, MAX_BYTES, DataError).decode("utf-8-sig", "replace").splitlines()]


def split_sources(root: Path, name: str) -> list[Path]:
    """Image folders or list files of a split in root/data.yaml, possibly none. Raises: DataError if one is missing."""
    document = _read_data_yaml(root)
    entries = document.get(name) or []
    sources = []
    for entry in [entries] if isinstance(entries, str) else entries:
        if not isinstance(entry, str):
            raise DataError(f"{root / 'data.yaml'}: {name} has lists or mappings; expected a path, or a list of them")
        # `path` may be from another machine, and Roboflow writes ../train/images for train/images
        bases = [root / str(document.get("path") or ""), root]
        candidates = [base / tail for base in bases for tail in (entry, entry.removeprefix("../"))]
        source = next((path for path in candidates if os.path.exists(path)), None)
        if source is None:
            raise DataError(
                f"{root / 'data.yaml'}: {name} names {entry:.200}, which does not exist; looked for "
                f"{candidates[0]!s:.200}"
            )
        sources.append(source)
    return sources


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    images = [source.parent / line for line in read_lines(source) if line]
    for image in images:
        if not image.name:
            raise DataError(f"{source}: lists {image}, expected image files")
    return images


def _label_path(image: Path) -> Path:
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def _read_labels(file: Path, n_classes: int) -> list[tuple[int, float, float, float, float]]:
    """Class index, x1, y1, x2, y2 of each line, as fractions of the image; empty if the file is missing."""
    if not os.path.isfile(file):
        return []
    objects, faults = [], Faults(MOST_OF_A_PART)
    for number, line in enumerate(read_lines(file), start=1):
        if line:
            with faults:
                objects.append(_read_label(line, f"{file}, line {number}", n_classes))
    faults.raise_if_any()
    return objects


def _read_label(line: str, where: str, n_classes: int) -> tuple[int, float, float, float, float]:
    try:
        index, *rest = [float(word) for word in line.split()]
    except ValueError as error:
        raise DataError(f"{where}: {one_line(error)}; expected numbers, class cx cy w h") from error
    if len(rest) == 4:
        cx, cy, w, h = rest
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(rest) >= 6 and len(rest) % 2 == 0:
        box = (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))
    else:
        raise DataError(
            f"{where}: has {len(rest) + 1} values; expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..."
        )
    if index not in range(n_classes):
        raise DataError(f"{where}: has class {index:g}; expected 0 to {n_classes - 1}, as there are {n_classes} names")
    return (int(index), *box)
