"""Reads Pascal VOC's XML files."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from retinanet.data.formats.build import RawColumns, check_relative, header_sizes
from retinanet.data.formats.files import files_in, read_lines
from retinanet.data.images import SUFFIXES
from retinanet.errors import MOST_OF_A_PART, DataError, Faults
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line

MAX_BYTES = 2**23  # of one image's XML file: about 20,000 objects


def read_voc(
    images: Path, annotations: Path, stems: Sequence[str] | None = None, more_names: Collection[str] = ()
) -> RawColumns:
    """The images of a VOC split with their boxes; `difficult` objects are crowd.

    Labels follow the sorted class names of all files and `more_names`, so that all splits have the same labels. VOC's
    pixels are 1-based and inclusive (VOC2012 development kit), so 1 is subtracted only from xmin and ymin; a box with
    xmax = xmin is skipped as a mistake.

    annotations: folder of XML files. stems: their paths without suffix in this split; None: all files.
    Raises: DataError if an XML file of the split, or its image, is missing or invalid.
    """
    faults = Faults()
    pages = _read_pages(annotations, faults)
    stems = list(pages) if stems is None else _pages_named(stems, pages, annotations, faults)
    files = []
    for stem in stems:
        with faults:
            if pages[stem] is not INVALID:
                files.append(_image_of(images, annotations, stem, pages[stem].file))
    faults.raise_if_any()

    names = sorted({entry.name for page in pages.values() for entry in page.objects} | set(more_names))
    split = [pages[stem] for stem in stems]
    objects = [entry for page in split for entry in page.objects]
    corners = np.array([entry.corners for entry in objects], np.float64).reshape(-1, 4)
    annotated = all(all(page.size) for page in split)
    written = np.array([page.size for page in split], np.int64).reshape(-1, 2)
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
        image_ids_annotated=False,
        sizes=written if annotated else header_sizes(images, files),
        sizes_annotated=annotated,
        image_index=np.repeat(np.arange(len(split)), [len(page.objects) for page in split]),
        boxes=boxes,
        areas=np.full(len(objects), np.nan),
        labels=np.array([label_of[entry.name] for entry in objects], np.int64),
        crowd=np.array([entry.difficult for entry in objects], bool),
        annotation_ids=np.arange(1, len(objects) + 1),
    )


def class_names(annotations: Path) -> set[str]:
    """The names of the classes in a folder of XML files. Raises: DataError if one is invalid."""
    faults = Faults()
    pages = _read_pages(annotations, faults)
    faults.raise_if_any()
    return {entry.name for page in pages.values() for entry in page.objects}


def read_lists(files: Sequence[Path]) -> list[str]:
    """The images that files in ImageSets name, one file for all classes or one for each class, with 1, 0 or -1.

    Raises: DataError if a file names none or cannot be read.
    """
    lists = [list(filter(None, read_lines(file))) for file in files]
    for file, stems in zip(files, lists, strict=True):
        if not stems:
            raise DataError(f"{file}: names no images; expected a name without suffix on each line")
    if len(lists) == 1:
        return lists[0]
    return list(dict.fromkeys(_without_mark(line) for stems in lists for line in stems))


def _without_mark(line: str) -> str:
    return line.rsplit(maxsplit=1)[0] if line.endswith((" 1", " 0", " -1")) else line


class _Object(NamedTuple):
    name: str
    corners: list[float]  # xmin, ymin, xmax, ymax as written
    difficult: bool


class _Page(NamedTuple):
    file: str
    size: tuple[int, int]  # height and width; 0 where not written
    objects: list[_Object]


INVALID = _Page("", (0, 0), [])


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Raises: ValueError, since a document type could define entities that expand without bound."""
        raise ValueError("has a DOCTYPE, which annotations do not need")


def _read_pages(annotations: Path, faults: Faults) -> dict[str, _Page]:
    """The XML files in a folder by their paths without suffix, sorted; INVALID, and in `faults`, where one is."""
    pages = {}
    for path in sorted(files_in(annotations, ".xml")):
        stem = path.relative_to(annotations).with_suffix("").as_posix()
        pages[stem] = INVALID
        with faults:
            pages[stem] = _read_page(path)
    return pages


def _pages_named(stems: Sequence[str], pages: Collection[str], annotations: Path, faults: Faults) -> list[str]:
    """The pages that a split names; adds a fault for each that has no file."""
    found = []
    for stem in stems:
        with faults:
            found.append(_page_named(stem, pages, annotations))
    return found


def _page_named(line: str, pages: Collection[str], annotations: Path) -> str:
    """The page that a line of a split means: the name, in lists of one class with 1, 0 or -1, in VoTT's with suffix."""
    name = line.replace("\\", "/")
    for text in (line, name, _without_mark(name)):
        for stem in (text, text.removesuffix(Path(text).suffix) if text.lower().endswith(SUFFIXES) else text):
            if stem in pages:
                return stem
    raise DataError(f'{annotations / line}.xml: no such file; the split names "{line}"')


def _read_page(path: Path) -> _Page:
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        root = ElementTree.fromstring(read_bytes(path, MAX_BYTES, DataError), parser)
    except (ValueError, LookupError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: cannot be read as XML: {one_line(error)}") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]  # ElementTree puts the namespace before the name
    if root.tag != "annotation":
        raise DataError(
            f"{path}: is XML of <{root.tag:.80}>; expected Pascal VOC's <annotation>, one file for each image"
        )
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
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _read_object(entry: ElementTree.Element) -> _Object:
    return _Object(
        _text(entry, "name"),
        [_number(_text(entry, f"bndbox/{side}"), side) for side in ("xmin", "ymin", "xmax", "ymax")],
        (entry.findtext("difficult") or "0").strip() == "1",
    )


def _number(text: str, tag: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'has {tag} "{text.strip():.80}"; expected a number') from None


def _side(text: str) -> int:
    side = _number(text.strip() or "0", "a size")
    if not side < 2**31:  # NaN, too
        raise ValueError(f"the size has a side of {side:.3g} pixels; expected a number below 2^31")
    return int(max(side, 0))


def _text(entry: ElementTree.Element, tag: str) -> str:
    text = (entry.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"an object has no {tag}; expected name and bndbox with xmin, ymin, xmax, ymax")
    return text


def _image_of(images: Path, annotations: Path, stem: str, file: str) -> str:
    """Path of the image in `images`: as in the XML if that file exists, else the stem with an image suffix."""
    candidates = [stem + suffix for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))]
    if file:
        check_relative(file, f"{annotations / stem}.xml")
        file = file if os.path.isfile(images / file) else file.replace("\\", "/")
        folder, slash, _ = stem.rpartition("/")  # files in subfolders may be named without them
        candidates = [folder + slash + file, file, *candidates]
    for candidate in candidates:
        if os.path.isfile(images / candidate):  # False for an overlong path, where pathlib raises
            return candidate
    raise DataError(
        f'{annotations / stem}.xml: its image is not in {images}; looked for "{candidates[0]:.200}" and {stem}.*',
        "missing-image",
    )
