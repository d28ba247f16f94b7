"""Reads YOLO's text files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retinanet.data.formats.build import RawColumns, header_sizes
from retinanet.data.formats.files import files_in, find_moved, read_data_yaml, read_lines
from retinanet.data.images import SUFFIXES
from retinanet.errors import MOST_OF_A_PART, DataError, Faults

NAME_FILES = ("classes.txt", "obj.names", "darknet.labels", "_darknet.labels")  # the last two: Darwin's and Roboflow's


def read_yolo(
    root: Path, sources: Sequence[Path], labels: Path | None = None, classes: Sequence[str] | None = None
) -> RawColumns:
    """Images with the boxes of their text files: lines `class cx cy w h`, as fractions of the image, EXIF applied.

    A polygon, `class x1 y1 x2 y2 x3 y3 ...`, becomes its bounding box; a sixth value, a confidence or the number of a
    track, is left out, as are the keypoints of a data.yaml with kpt_shape. An image without a text file has no objects.
    The category ids are YOLO's class indices.

    root: folder with the class names, in data.yaml, classes.txt, obj.names or the like; else they are beside the labels
    or images. sources: folders of images, or text files that list images.
    labels: folder of text files, with the subfolders of the only folder in `sources`; None: the last `images` in each
    image's path is replaced by `labels`. A text file that is not there may be beside its image.
    classes: names of the classes 0, 1, ... where no file has names.
    Raises: DataError without class names, for an invalid line, an unknown class index or an unreadable image header.
    """
    names = _read_names(_name_folders(root, sources, labels), classes)
    images = [image for source in sources for image in _images_of(source)]
    folder = Path(os.path.commonpath([image.parent for image in images])) if images else Path()
    files = [image.relative_to(folder).as_posix() for image in images]
    faults = Faults()
    with faults:
        sizes = header_sizes(folder, files)
    places = [_label_path(image) if labels is None else labels / image.relative_to(sources[0]) for image in images]
    posed = "kpt_shape" in read_data_yaml(root)[1]
    rows: list[tuple[int, int, float, float, float, float]] = []
    label_files = [place.with_suffix(".txt") for place in places]
    for i, (image, place) in enumerate(zip(images, places, strict=True)):
        with faults:
            if text := _label_of(image, place):
                label_files[i] = text
                rows.extend((i, *row) for row in _read_labels(text, len(names), posed))
    faults.raise_if_any()
    x1, y1, x2, y2 = np.array([row[2:] for row in rows], np.float64).reshape(-1, 4).T
    image_index, class_indices = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2).T
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
        image_ids_annotated=False,
        sizes=sizes,
        sizes_annotated=False,
        image_index=image_index,
        boxes=boxes,
        areas=np.full(len(rows), np.nan),
        labels=class_indices,
        crowd=np.zeros(len(rows), bool),
        annotation_ids=np.arange(1, len(rows) + 1),
        label_files=list(map(str, label_files)),
    )


def _read_names(folders: Sequence[Path], classes: Sequence[str] | None) -> list[str]:
    """The class names in the first of the folders that has some, else `classes`."""
    for folder in folders:
        path, document = read_data_yaml(folder)
        names = document.get("names")
        if isinstance(names, dict):
            if sorted(names) != sorted(map(str, range(len(names)))):
                raise DataError(f"{path}: names has the keys {list(names)[:10]}; expected 0, 1, 2, ...")
            names = [names[str(index)] for index in range(len(names))]
        if isinstance(names, list) and names:
            if any(not isinstance(name, str) for name in names):
                raise DataError(f"{path}: names has lists or mappings; expected text")
            return _unique(names, path)
        for file in (folder / name for name in NAME_FILES):
            if file.is_file() and (lines := list(filter(None, read_lines(file)))):
                return _unique(lines, file)
    if classes is not None:
        return list(classes)
    raise DataError(
        f"{folders[0]}: no class names; put them into data.yaml (names: [...]), classes.txt or obj.names there, or "
        "list them in data.classes"
    )


def _unique(names: list[str], file: Path) -> list[str]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            raise DataError(f'{file}: classes {first[name]} and {index} are both "{name}"; names must differ')
    return names


def _name_folders(root: Path, sources: Sequence[Path], labels: Path | None) -> list[Path]:
    """`root`, then the folders of labels and images with their parents, as far as they are in `root`."""
    folders = [folder for path in (labels, *sources) if path for folder in (path, path.parent)]
    return list(dict.fromkeys([root, *(folder for folder in folders if folder.is_dir() and root in folder.parents)]))


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(files_in(source, *SUFFIXES))
    images = []
    for line in filter(None, read_lines(source)):
        # the list may be from another machine, or from CVAT, which writes data/ before each path
        image = find_moved(source.parent, line, shortest=1) or source.parent / line
        if not image.name or os.path.isdir(image):
            raise DataError(f"{source}: lists {image}, expected image files")
        images.append(image)
    return images


def _label_of(image: Path, place: Path) -> Path | None:
    """The text file of an image, at `place` or beside the image. Raises: DataError if it is a link to no file."""
    for file in (place.with_suffix(".txt"), image.with_suffix(".txt")):
        if os.path.lexists(file):
            if not os.path.exists(file):
                raise DataError(f"{file}: is a link to {os.readlink(file)}, which does not exist")
            return file
    return None


def _label_path(image: Path) -> Path:
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def _read_labels(file: Path, n_classes: int, posed: bool) -> list[tuple[int, float, float, float, float]]:
    """Class index, x1, y1, x2, y2 of each line, as fractions of the image. posed: keypoints follow each box."""
    objects, faults = [], Faults(MOST_OF_A_PART)
    for number, line in enumerate(read_lines(file), start=1):
        if line:
            with faults:
                objects.append(_read_label(line, f"{file}, line {number}", n_classes, posed))
    faults.raise_if_any()
    return objects


def _read_label(line: str, where: str, n_classes: int, posed: bool) -> tuple[int, float, float, float, float]:
    index, *rest = [_number(word, where) for word in line.split()]
    if len(rest) in (4, 5) or (posed and len(rest) > 5):  # the fifth is a confidence or the number of a track
        cx, cy, w, h = rest[:4]
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


def _number(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise DataError(f'{where}: has "{word:.80}"; expected numbers, class cx cy w h') from None
