"""Finds the files of a split in the layouts that people and labelling tools use."""

import glob
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from retinanet.config.schema import SplitConfig
from retinanet.data.formats.files import ROOT, files_in, find_moved, named, read_data_yaml
from retinanet.data.images import SUFFIXES
from retinanet.errors import DataError
from retinanet.messages import did_you_mean

SAME = ({"train", "training"}, {"val", "valid", "validation"}, {"test", "testing"})  # names for one split
MOST_NAMES = 200  # that are tried to list the splits of a folder
START_BYTES = 2**20  # of a JSON file; LVIS has 1,203 categories before its images
WRONG_ROOT = f"no such folder; {ROOT}"

COCO_FILES = (
    "annotations/instances_{}.json",
    "annotations/{}.json",
    "{}/_annotations.coco.json",  # Roboflow
    "{}/result.json",  # Label Studio
    "{}/labels.json",  # FiftyOne
    "{}/annotations.json",
    "{}/output.json",  # Darwin
    "instances_{}.json",
    "{}.json",
)
COCO_FOLDERS = ("images/{}", "{}", "{}/images", "{}/data", "images")
PAIRS = (  # folders of images and annotations
    ("images/{}", "labels/{}"),
    ("{}/images", "{}/labels"),
    ("images/{}", "annotations/{}"),
    ("{}/images", "{}/annotations"),
    ("{}/JPEGImages", "{}/Annotations"),
    ("JPEGImages/{}", "Annotations/{}"),
    ("{}/images", "{}"),
    ("{}", "labels/{}"),
    ("{}", "annotations/{}"),
    ("{}", "{}"),
)
WHOLES = (  # images and annotations that are not divided into splits
    ("images", "result.json"),
    ("data", "labels.json"),
    ("images", "labels"),
    ("JPEGImages", "Annotations"),
    ("images", "annotations"),
    ("images", "annotations.json"),
    ("images", "output.json"),
    (".", "_annotations.coco.json"),
    ("obj_train_data", "obj_train_data"),
)


class Place(NamedTuple):
    """Where a split is.

    images: COCO: folders, of which the first that has the images counts; VOC: one folder; YOLO: folders or lists.
    annotations: COCO: the file; VOC: a folder; YOLO: a folder, or None if they are found from the images' paths.
    lists: VOC: files that name the split's images; empty: all images.
    """

    format: Literal["COCO", "VOC", "YOLO"]
    images: tuple[Path, ...]
    annotations: Path | None = None
    lists: tuple[Path, ...] = ()


def locate(root: Path, split: SplitConfig) -> Place:
    """Where a split of the data set in the folder `root` is. Raises: DataError if it is in no known layout."""
    if split.images is not None and split.annotations is not None:
        return _given(root, split.name, root / split.images, root / split.annotations)
    if split.name is not None and split.images is None and split.annotations is None:
        return find_split(root, split.name)
    raise DataError(f"{root}: a split needs images and annotations, or only a name")


def find_split(root: Path, name: str) -> Place:
    """Where the split `name` is, or one of another usual name for it.

    Raises: DataError, naming the splits that there are.
    """
    for each in [name, *_other_names(name)]:
        if place := next(_places(root, each), None):
            return place
    found = splits_in(root)
    message = (
        f'{root}: no split "{name}"; looked for annotations/instances_{name}.json, annotations/{name}.json, '
        f"{name}/_annotations.coco.json, ImageSets/Main/{name}.txt, {name} in data.yaml, {name}.txt with obj.names, "
        f"images/{name} with labels/{name}, {name}/images with {name}/labels, {name}/*.xml"
    )
    if found:
        near = did_you_mean(name, found) or next((f"did you mean {x}?" for x in found if x.startswith(name)), "")
        message += f"; found: {', '.join(found[:10])}" + f"; {near}" * bool(near)
    elif whole := undivided(root):
        message += f"; found pictures and labels without splits: train: {files_text(whole)} and val: 0.2 use them"
    elif any(files_in(root, *SUFFIXES)):
        message += "; there are pictures; if their labels are there, name both: {images: DIR, annotations: FILE or DIR}"
    else:
        message += "; there are no pictures, either"
    raise DataError(message)


def undivided(root: Path) -> SplitConfig | None:
    """The pictures and labels of a data set without splits, or None if there are none, or more than one choice.

    Outside the usual places, the only folder of pictures and the only labels that fit them count.
    """
    for images, annotations in WHOLES:
        labels = root / annotations
        if (root / images).is_dir() and (labels.is_file() or _format_of(labels)):
            return SplitConfig(images=images, annotations=annotations)
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    pictures = [folder for folder in folders if any(named(path.name, SUFFIXES) for path in folder.iterdir())]
    if len(pictures) != 1:
        return None
    stems = {path.stem for path in pictures[0].iterdir() if named(path.name, SUFFIXES)}
    found = [file for folder in folders for file in sorted(folder.glob("*.json")) if _names_images(file)]
    for folder in folders:
        if any(named(path.name, (".xml", ".txt")) and path.stem in stems for path in folder.iterdir()):
            found.append(folder)
    if len(found) != 1:
        return None
    images, annotations = (path.relative_to(root).as_posix() for path in (pictures[0], found[0]))
    return SplitConfig(images=images, annotations=annotations)


def files_text(split: SplitConfig) -> str:
    """The files of a split as a config names them: `{images: DIR, annotations: FILE or DIR}`."""
    files = {"images": split.images, "annotations": split.annotations}
    return yaml.safe_dump(files, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()


def splits_in(root: Path) -> list[str]:
    """The names of the splits in the folder `root`, sorted. Raises: DataError if data.yaml is not readable."""
    names = {key for key, value in read_data_yaml(root)[1].items() if value and key in set().union(*SAME)}
    for folder in (root, *(root / part for part in ("images", "annotations", "Annotations", "JPEGImages"))):
        if folder.is_dir():
            names |= {path.name for path in folder.iterdir() if path.is_dir()}
    for folder in (root, root / "annotations", root / "ImageSets" / "Main", root / "ImageSets"):
        paths = [*folder.glob("*.json"), *folder.glob("*.txt")]
        names |= {path.stem.removeprefix("instances_") for path in paths}
    parts = {Path(part).stem for pair in WHOLES for part in pair}
    found = []
    for name in sorted(names - parts)[:MOST_NAMES]:
        with suppress(DataError):  # data.yaml may name folders that do not exist
            place = next(_places(root, name), None)
            if place and (place.format != "COCO" or _names_images(place.annotations)):
                found.append(name)
    return found


def _names_images(file: Path | None) -> bool:
    """Whether a JSON file is likely COCO's, by the part before its first images."""
    if file is None:
        return False
    with file.open("rb") as stream:
        return b'"images"' in stream.read(START_BYTES)


def _other_names(name: str) -> list[str]:
    same = next((group for group in SAME if name.lower() in group), set())
    return [other for each in sorted(same) for other in (each, each.capitalize()) if other != name]


def _places(root: Path, name: str) -> Iterator[Place]:
    parts = Path(name).parts
    if not parts or Path(name).anchor or ".." in parts:  # means no folder of its own in `root`
        return
    folders = [root / folder.format(name) for folder in COCO_FOLDERS]
    images = (*([folder for folder in folders if folder.is_dir()] or [root / name]), root)
    cocos = [root / file.format(name) for file in COCO_FILES]
    for file in cocos[:-2]:
        if file.is_file():
            yield Place("COCO", images, file)
    for base in (root, root / name):
        lists = [base / "ImageSets" / folder / f"{name}.txt" for folder in ("Main", ".")]
        lists = [file for file in lists if file.is_file()][:1]
        # for VoTT, and in VOC itself beside the whole split, a list for each class
        if lists := lists or sorted((base / "ImageSets" / "Main").glob(f"*_{glob.escape(name)}.txt")):
            yield Place("VOC", (base / "JPEGImages",), base / "Annotations", tuple(lists))
    if sources := _sources(root, name):
        yield Place("YOLO", tuple(sources))
    if (root / f"{name}.txt").is_file() and any((root / file).is_file() for file in ("obj.names", "obj.data")):
        yield Place("YOLO", (root / f"{name}.txt",))
    for pair in PAIRS:
        pictures, annotations = (root / part.format(name) for part in pair)
        if pictures.is_dir() and annotations.is_dir():
            kind = _format_of(annotations)
            if "labels" in pair[1] or (kind and any(files_in(pictures, *SUFFIXES))):  # folders of labels may be empty
                yield Place(kind or "YOLO", (pictures,), annotations)
    for file in cocos[-2:]:
        if file.is_file():
            yield Place("COCO", images, file)


def _format_of(annotations: Path) -> Literal["VOC", "YOLO"] | None:
    if any(files_in(annotations, ".xml")):
        return "VOC"
    return "YOLO" if any(files_in(annotations, ".txt")) else None


def _given(root: Path, name: str | None, images: Path, annotations: Path) -> Place:
    if annotations.suffix.lower() == ".json":
        # Label Studio's names start with the folder of the images
        beside = [folder for folder in (annotations.parent, images.parent) if folder.is_relative_to(root)]
        return Place("COCO", (images, *beside), annotations)
    wanted = "expected a .json file, or a folder of .xml or .txt files"
    if annotations.is_file():
        raise DataError(f"{annotations}: is one file; {wanted}")
    for folder in (images, annotations):
        if not folder.is_dir():
            raise DataError(f"{folder}: {WRONG_ROOT}")
    kind = _format_of(annotations)
    if kind is None:
        found = "".join(f"; found {path.name}" for path in sorted(files_in(annotations, ".json"))[:1])
        raise DataError(f"{annotations}: no annotations found; {wanted}{found}")
    lists = [base / "ImageSets" / "Main" / f"{name}.txt" for base in (root, annotations.parent)]
    return Place(kind, (images,), annotations, tuple(file for file in lists if file.is_file())[:1])


def _sources(root: Path, name: str) -> list[Path]:
    """Image folders or list files of a split in data.yaml, possibly none. Raises: DataError if one is missing."""
    file, document = read_data_yaml(root)
    entries = document.get(name) or []
    sources = []
    for entry in [entries] if isinstance(entries, str) else entries:
        if not isinstance(entry, str):
            raise DataError(f"{file}: {name} has lists or mappings; expected a path, or a list of them")
        # `path` may be from another machine, and Roboflow writes ../train/images for train/images
        bases = [root / str(document.get("path") or "").replace("\\", "/"), root]
        source = next(filter(None, (find_moved(base, entry, shortest=2) for base in bases)), None)
        if source is None:
            looked = f"{bases[0] / entry!s:.200}"
            raise DataError(f"{file}: {name} names {entry:.200}, which does not exist; looked for {looked}")
        sources.append(source)
    return sources
