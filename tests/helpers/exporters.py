"""One small data set as labelling tools and people write it: functions that fill a folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

CLASSES = ("cat", "dog", "hat")
IDS = {"cat": 1, "dog": 2, "hat": 5}  # COCO's, with a gap


class Picture(NamedTuple):
    """objects: name, and x, y, width and height in pixels."""

    stem: str
    width: int
    height: int
    objects: tuple[tuple[str, int, int, int, int], ...] = ()


TRAIN = (
    Picture("a", 40, 30, (("cat", 4, 3, 10, 12), ("dog", 20, 10, 16, 15))),
    Picture("b", 32, 24, (("hat", 2, 2, 8, 8),)),
    Picture("c", 24, 32),
)
VAL = (Picture("d", 48, 36, (("dog", 10, 6, 20, 18), ("dog", 1, 1, 4, 4))),)  # lacks cat and hat
Edit = Callable[[dict[str, Any]], object]


def text(path: Path, content: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def draw(folder: Path, pictures: Sequence[Picture] = TRAIN) -> None:
    """The pictures as files, each object a box of another grey."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        image = Image.new("L", (picture.width, picture.height))
        for shade, (_, x, y, w, h) in enumerate(picture.objects, 1):
            image.paste(80 * shade, (x, y, x + w, y + h))
        image.save(folder / f"{picture.stem}.jpg")


def document(pictures: Sequence[Picture] = TRAIN, prefix: str = "") -> dict[str, Any]:
    """COCO's, with `prefix` before each file name."""
    images = [
        {"id": i, "file_name": f"{prefix}{each.stem}.jpg", "width": each.width, "height": each.height}
        for i, each in enumerate(pictures, 1)
    ]
    annotations = [
        {
            "image_id": i,
            "category_id": IDS[name],
            "bbox": box,
            "area": box[2] * box[3],
            "segmentation": [],
            "iscrowd": 0,
        }
        for i, each in enumerate(pictures, 1)
        for name, *box in each.objects
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": i, "name": name, "supercategory": ""} for name, i in IDS.items()]
    return {"info": {}, "licenses": [], "images": images, "categories": categories, "annotations": annotations}


def coco(  # noqa: PLR0913 - each is one property of a layout
    root: Path,
    file: str = "annotations/instances_train.json",
    images: str = "train",
    prefix: str = "",
    edit: Edit = lambda document: None,
    encoding: str = "utf-8",
    pictures: Sequence[Picture] = TRAIN,
) -> None:
    made = document(pictures, prefix)
    edit(made)
    draw(root / images, pictures)
    text(root / file, json.dumps(made), encoding)


def each(table: str, change: Edit) -> Edit:
    """A change of a document that is applied to each entry of one of its lists."""
    return lambda document: [change(entry) for entry in document[table]]


def as_polygon(annotation: dict[str, Any], flat: bool = False) -> None:
    x, y, w, h = annotation.pop("bbox")
    corners = [x, y, x + w, y + h / 2, x, y + h]
    annotation["segmentation"] = corners if flat else [corners, [x, y, x + 1, y, x, y + 1]]


def page(picture: Picture, file: str | None = None, head: str = "<annotation>", size: bool = True) -> str:
    """VOC's XML: pixels from 1, both ends included."""
    objects = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>\n"
        for name, x, y, w, h in picture.objects
    )
    sides = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>" * size
    file = f"{picture.stem}.jpg" if file is None else file.format(picture.stem)
    return f"{head}<folder>images</folder><filename>{file}</filename>{sides}\n{objects}</annotation>"


def voc(  # noqa: PLR0913 - each is one property of a layout
    root: Path,
    annotations: str = "Annotations",
    images: str = "JPEGImages",
    lists: dict[str, str] | None = None,
    encoding: str = "utf-8",
    pictures: Sequence[Picture] = TRAIN,
    **how: Any,
) -> None:
    """lists: content of files in ImageSets by their names. how: as for `page`."""
    draw(root / images, pictures)
    for picture in pictures:
        text(root / annotations / f"{picture.stem}.xml", page(picture, **how))
    for name, content in (lists or {}).items():
        text(root / "ImageSets" / name, content, encoding)


def lines(picture: Picture, ending: str = "\n", pattern: str = "{i} {cx} {cy} {w} {h}") -> str:
    """YOLO's, in fractions of the picture. pattern: of a line, also of x1, y1, x2 and y2."""
    made = []
    for name, x, y, w, h in picture.objects:
        sides = (picture.width, picture.height)
        x1, x2, y1, y2 = x / sides[0], (x + w) / sides[0], y / sides[1], (y + h) / sides[1]
        box = {"cx": (x1 + x2) / 2, "cy": (y1 + y2) / 2, "w": x2 - x1, "h": y2 - y1}
        made.append(pattern.format(i=CLASSES.index(name), x1=x1, x2=x2, y1=y1, y2=y2, **box))
    return "".join(line + ending for line in made)


def yolo(  # noqa: PLR0913 - each is one property of a layout
    root: Path,
    images: str = "images/train",
    labels: str = "labels/train",
    names: dict[str, str] | None = None,
    encoding: str = "utf-8",
    pictures: Sequence[Picture] = TRAIN,
    **how: Any,
) -> None:
    """names: content of further files by their paths; a data.yaml with the names alone if None. how: as for `lines`."""
    draw(root / images, pictures)
    for picture in pictures:
        text(root / labels / f"{picture.stem}.txt", lines(picture, **how), encoding)
    for file, content in ({"data.yaml": "names: [cat, dog, hat]"} if names is None else names).items():
        text(root / file, content)


def cvat_yolo(root: Path, subset: str = "train", prefix: str = "data/") -> None:
    """CVAT's "YOLO 1.1"."""
    folder = f"obj_{subset}_data"
    data = f"classes = 3\n{subset} = data/{subset}.txt\nnames = data/obj.names\nbackup = backup/\n"
    listed = "".join(f"{prefix}{folder}/{each.stem}.jpg\n" for each in TRAIN)
    yolo(root, folder, folder, {"obj.data": data, "obj.names": "cat\ndog\nhat\n", f"{subset}.txt": listed})


def cvat_ultralytics(root: Path, prefix: str = "data/images/train/") -> None:
    """CVAT's "Ultralytics YOLO Detection 1.0"."""
    yaml = "names:\n  0: cat\n  1: dog\n  2: hat\npath: .\ntrain: train.txt\n"
    listed = "".join(f"{prefix}{each.stem}.jpg\n" for each in TRAIN)
    yolo(root, names={"data.yaml": yaml, "train.txt": listed})


def vott(root: Path, ending: str = "\n") -> None:
    """VoTT's Pascal VOC: a list for each class, that names files."""
    lists = {
        f"Main/{name}_{split}.txt": ending.join(
            f"{each.stem}.jpg {1 if name in {box[0] for box in each.objects} else -1}" for each in pictures
        )
        for name in CLASSES
        for split, pictures in (("train", TRAIN), ("val", VAL))
    }
    voc(root, lists=lists)
    voc(root, pictures=VAL)


def mac(root: Path, *files: str) -> None:
    """The files of attributes that macOS writes on disks of other systems."""
    for file in files:
        text(root / file, "\0\5\26\7\0\2\0\0Mac OS X")
