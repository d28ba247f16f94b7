"""Reads Pascal VOC's XML files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from retinanet.data.formats.build import RawColumns, check_relative, header_sizes
from retinanet.data.images import SUFFIXES
from retinanet.errors import MOST_OF_A_PART, DataError, Faults
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line

MAX_BYTES = 2**23  # of one image's XML file: about 20,000 objects


def read_voc(images: Path, annotations: Path, stems: Sequence[str] | None = None) -> RawColumns:
    """The images of a VOC split with their boxes; `difficult` objects are crowd.

    Labels follow the sorted class names of all files, so that all splits have the same labels. VOC's pixels are 1-based
    and inclusive (VOC2012 development kit), so 1 is subtracted only from xmin and ymin; a box with xmax = xmin is
    skipped as a mistake.

    annotations: folder of XML files. stems: their names without suffix in this split; None: all files.
    Raises: DataError if an XML file of the split, or its image, is missing or invalid.
    """
    faults = Faults()
    paths = sorted(annotations.glob("*.xml"))
    stems = [path.stem for path in paths] if stems is None else stems
    for stem in sorted(set(stems) - {path.stem for path in paths}):
        faults.add(DataError(f'{annotations / stem}.xml: no such file; the split names "{stem}"'))
    pages = {}
    for path in paths:
        with faults:
            pages[path.stem] = _read_page(path)
    files = []
    for stem in stems:
        if stem in pages:
            with faults:
                files.append(_image_of(images, annotations, stem, pages[stem].file))
    faults.raise_if_any()

    names = sorted({entry.name for page in pages.values() for entry in page.objects})
    split = [pages[stem] for stem in stems]
    objects = [entry for page in split for entry in page.objects]
    corners = np.array([entry.corners for entry in objects], np.float64).reshape(-1, 4)
    annotated = all(all(page.size) for page in split)
    low, high = corners[:, :2], corners[:, 2:]
    label_of = {name: label for label, name in enumerate(names)}
    with np.errstate(over="ignore", invalid="ignore"):  # boxes that are not finite are skipped later
        boxes = np.concatenate([low - 1, high - low + (high > low)], axis=1)
    return RawColumns(
        source=annotations.name,
        names=names,
        category_ids=range(1, len(names) + 1),
        folder=images,
        files=files,
        image_ids=np.arange(1, len(split) + 1),
        sizes=np.array([page.size for page in split]) if annotated else header_sizes(images, files),
        sizes_annotated=annotated,
        image_index=np.repeat(np.arange(len(split)), [len(page.objects) for page in split]),
        boxes=boxes,
        areas=np.full(len(objects), np.nan),
        labels=np.array([label_of[entry.name] for entry in objects], np.int64),
        crowd=np.array([entry.difficult for entry in objects], bool),
        annotation_ids=np.arange(1, len(objects) + 1),
    )


class _Object(NamedTuple):
    name: str
    corners: list[float]  # xmin, ymin, xmax, ymax as written
    difficult: bool


class _Page(NamedTuple):
    file: str
    size: tuple[int, int]  # height and width; 0 where not written
    objects: list[_Object]


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Raises: ValueError, since a document type could define entities that expand without bound."""
        raise ValueError("has a DOCTYPE, which annotations do not need")


def _read_page(path: Path) -> _Page:
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        root = ElementTree.fromstring(read_bytes(path, MAX_BYTES, DataError), parser)
    except (ValueError, LookupError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: cannot be read as XML: {one_line(error)}") from error
    faults = Faults(MOST_OF_A_PART)
    with faults, _values_of(path):
        height, width = (_side(root.findtext(f"size/{side}") or "0") for side in ("height", "width"))
    objects = []
    for entry in root.findall("object"):
        with faults, _values_of(path):
            objects.append(_read_object(entry))
    faults.raise_if_any()
    return _Page((root.findtext("filename") or "").strip(), (height, width), objects)


@contextmanager
def _values_of(path: Path) -> Iterator[None]:
    """Raises: DataError in place of an error of a number or text in the file."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: {one_line(error)}") from error


def _read_object(entry: ElementTree.Element) -> _Object:
    return _Object(
        _text(entry, "name"),
        [float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")],
        (entry.findtext("difficult") or "0").strip() == "1",
    )


def _side(text: str) -> int:
    side = int(float(text))
    if side >= 2**31:
        raise ValueError(f"the size has a side of {side:.3g} pixels")
    return max(side, 0)


def _text(entry: ElementTree.Element, tag: str) -> str:
    text = (entry.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"an object has no {tag}; expected name and bndbox with xmin, ymin, xmax, ymax")
    return text


def _image_of(images: Path, annotations: Path, stem: str, file: str) -> str:
    """Name of the image in `images`: as in the XML if that file exists, else the stem with an image suffix."""
    if file:
        check_relative(file, f"{annotations / stem}.xml")
    candidates = [file] * bool(file) + [stem + suffix for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))]
    for candidate in candidates:
        if os.path.isfile(images / candidate):  # False for an overlong path, where pathlib raises
            return candidate
    raise DataError(
        f'{annotations / stem}.xml: its image is not in {images}; looked for "{candidates[0]:.200}" and {stem}.*',
        "missing-image",
    )
