"""The data set of `helpers.exporters` in labelling tools' layouts: read right, or refused with words that help."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.exporters import (
    CLASSES,
    TRAIN,
    VAL,
    as_polygon,
    coco,
    cvat_ultralytics,
    cvat_yolo,
    document,
    draw,
    each,
    mac,
    page,
    text,
    voc,
    vott,
    yolo,
)

from retinanet.config.schema import DataConfig, SplitConfig
from retinanet.data import open_dataset
from retinanet.data.formats import layouts
from retinanet.data.formats.layouts import splits_in
from retinanet.data.formats.recognise import open_split
from retinanet.data.formats.yolo import NAME_FILES
from retinanet.errors import DataError

Write = Callable[[Path], Any]


def paths(images: str, annotations: str) -> SplitConfig:
    return SplitConfig(images=images, annotations=annotations)


MAIN = {"Main/train.txt": "a\nb\nc\n"}
YAML = "names: [cat, dog, hat]\n"
JPG = "a.jpg\nb.jpg\nc.jpg"


def strings(entry: dict[str, Any]) -> None:
    entry.update({key: str(value) for key, value in entry.items() if key in ("id", "image_id", "category_id")})


def floats(entry: dict[str, Any]) -> None:
    entry.update({key: float(value) for key, value in entry.items() if key in ("id", "image_id", "category_id")})


def in_all(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda made: [change(entry) for table in ("images", "categories", "annotations") for entry in made[table]]


def sides(kind: Callable[[int], Any]) -> Callable[[dict[str, Any]], object]:
    return each("images", lambda image: image.update(width=kind(image["width"]), height=kind(image["height"])))


def no_ids(made: dict[str, Any]) -> None:
    del made["annotations"][0]["id"]
    made["annotations"][2]["id"] = None


def roboflow(made: dict[str, Any]) -> None:
    made["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})


def both(*writes: Write) -> Write:
    return lambda root: [write(root) for write in writes]


def with_(write: Callable[..., Any], *arguments: Any, **options: Any) -> Write:
    return lambda root: write(root, *arguments, **options)


TRAINING = SplitConfig("train")
RESULT = "result.json"

COCO: dict[str, tuple[Write, SplitConfig]] = {
    "images in a folder of the split": (coco, TRAINING),
    "images in images/": (with_(coco, images="images/train"), TRAINING),
    "images flat": (with_(coco, images="images"), TRAINING),
    "images beside the annotations' folder": (with_(coco, images="."), TRAINING),
    "file names with the folder": (with_(coco, images="images/train", prefix="train/"), TRAINING),
    "file names with both folders": (with_(coco, images="images/train", prefix="images/train/"), TRAINING),
    "annotations/train.json": (with_(coco, "annotations/train.json"), TRAINING),
    "train.json": (with_(coco, "train.json", "images"), TRAINING),
    "instances_train.json": (with_(coco, "instances_train.json"), TRAINING),
    "training": (with_(coco, "annotations/instances_training.json", "training"), TRAINING),
    "Roboflow": (with_(coco, "train/_annotations.coco.json", edit=roboflow), TRAINING),
    "CVAT": (with_(coco, "annotations/instances_default.json", "images/default"), SplitConfig("default")),
    "CVAT, flat": (with_(coco, "annotations/instances_default.json", "images"), SplitConfig("default")),
    "CVAT, a subset": (with_(coco, "annotations/instances_Train.json", "images/Train"), TRAINING),
    "Label Studio": (with_(coco, RESULT, "images", "images/"), paths("images", RESULT)),
    "Label Studio, Windows": (with_(coco, RESULT, "images", "images\\"), paths("images", RESULT)),
    "Label Studio, from the folder above": (with_(coco, RESULT, "images", "images/"), paths(".", RESULT)),
    "Label Studio, a split": (with_(coco, "train/result.json", "train/images", "images/"), TRAINING),
    "Darwin": (with_(coco, "output.json", "images"), paths("images", "output.json")),
    "Darwin, a split": (with_(coco, "train/output.json", "train/images"), TRAINING),
    "FiftyOne": (with_(coco, "labels.json", "data"), paths("data", "labels.json")),
    "FiftyOne, a split": (with_(coco, "train/labels.json", "train/data"), TRAINING),
    "ids as text": (with_(coco, edit=in_all(strings)), TRAINING),
    "ids as 1.0": (with_(coco, edit=in_all(floats)), TRAINING),
    "sizes as text": (with_(coco, edit=sides(str)), TRAINING),
    "sizes as 40.0": (with_(coco, edit=sides(float)), TRAINING),
    "sizes as null": (with_(coco, edit=sides(lambda side: None)), TRAINING),
    "iscrowd as text": (with_(coco, edit=each("annotations", lambda made: made.update(iscrowd="0"))), TRAINING),
    "annotations without ids": (with_(coco, edit=each("annotations", lambda made: made.pop("id"))), TRAINING),
    "some annotations without ids": (with_(coco, edit=no_ids), TRAINING),
    "polygons without bbox": (with_(coco, edit=each("annotations", as_polygon)), TRAINING),
    "one polygon without bbox": (with_(coco, edit=lambda made: as_polygon(made["annotations"][1], True)), TRAINING),
    "a byte order mark": (with_(coco, encoding="utf-8-sig"), TRAINING),
    "UTF-16": (with_(coco, encoding="utf-16"), TRAINING),
}
VOC: dict[str, tuple[Write, SplitConfig]] = {
    "VOC": (with_(voc, lists=MAIN), TRAINING),
    "VOC, ImageSets without Main": (with_(voc, lists={"train.txt": "a\nb\nc"}), TRAINING),
    "VOC, by paths": (voc, paths("JPEGImages", "Annotations")),
    "VOC, by paths and name": (voc, SplitConfig("train", "JPEGImages", "Annotations")),
    "VOC below the root": (
        lambda root: voc(root / "VOC2012", lists=MAIN),
        SplitConfig("train", "VOC2012/JPEGImages", "VOC2012/Annotations"),
    ),
    "a folder for each split": (with_(voc, "train/Annotations", "train/JPEGImages"), TRAINING),
    "a folder for each split, in small letters": (with_(voc, "train/annotations", "train/images"), TRAINING),
    "images/train, annotations/train": (with_(voc, "annotations/train", "images/train"), TRAINING),
    "Annotations/train": (with_(voc, "Annotations/train", "JPEGImages/train"), TRAINING),
    "labels/train": (with_(voc, "labels/train", "images/train"), TRAINING),
    "Roboflow": (with_(voc, "train", "train"), TRAINING),
    "VoTT": (vott, TRAINING),
    "VoTT, Windows": (with_(vott, "\r\n"), TRAINING),
    "labelImg": (with_(voc, "photos", "photos"), paths("photos", "photos")),
    "labelImg, names without suffix": (with_(voc, "photos", "photos", file="{}"), paths("photos", "photos")),
    "CVAT": (with_(voc, lists={"Main/default.txt": "a\nb\nc\n"}), SplitConfig("default")),
    "CVAT, subfolders": (
        with_(voc, "Annotations/x", "JPEGImages/x", {"Main/train.txt": "x/a\nx/b\nx/c\n"}, file="x/{}.jpg"),
        TRAINING,
    ),
    "subfolders that the pages leave out": (
        with_(voc, "Annotations/x", "JPEGImages/x", {"Main/train.txt": "x\\a\nx\\b\nx\\c\n"}),
        TRAINING,
    ),
    "Darwin": (with_(voc, "annotations", "images"), paths("images", "annotations")),
    "lists with suffixes": (with_(voc, lists={"Main/train.txt": JPG}), TRAINING),
    "lists of PowerShell": (with_(voc, lists={"Main/train.txt": "a\r\nb\r\nc\r\n"}, encoding="utf-16"), TRAINING),
    "backslashes in names": (
        with_(voc, "Annotations", "JPEGImages/x", file="x\\{}.jpg"),
        paths("JPEGImages", "Annotations"),
    ),
    "a namespace": (
        with_(voc, lists=MAIN, head='<annotation xmlns="http://host.robots.ox.ac.uk/pascal/VOC">'),
        TRAINING,
    ),
    "a declaration and a comment": (
        with_(voc, lists=MAIN, head='<?xml version="1.0"?><!-- by hand --><annotation verified="yes">'),
        TRAINING,
    ),
    "no sizes": (with_(voc, lists=MAIN, size=False), TRAINING),
    "macOS": (both(with_(voc, "train", "train"), with_(mac, "train/._a.xml", "train/._a.jpg")), TRAINING),
}
YOLO: dict[str, tuple[Write, SplitConfig]] = {
    "images/train, labels/train": (yolo, TRAINING),
    "Ultralytics": (with_(yolo, names={"data.yaml": YAML + "path: ../coco8\ntrain: images/train"}), TRAINING),
    "Ultralytics, data.yml": (with_(yolo, names={"data.yml": YAML + "train: images/train"}), TRAINING),
    "Ultralytics, dataset.yaml": (with_(yolo, names={"dataset.yaml": YAML + "train: [images/train]"}), TRAINING),
    "names with indices": (with_(yolo, names={"data.yaml": "names: {0: cat, 1: dog, 2: hat}"}), TRAINING),
    "a Windows path": (with_(yolo, names={"data.yaml": YAML + "path: C:\\me\\data\ntrain: images\\train"}), TRAINING),
    "another machine's path": (with_(yolo, names={"data.yaml": YAML + "train: /content/data/images/train"}), TRAINING),
    "another Windows machine's": (with_(yolo, names={"data.yaml": YAML + "train: D:\\data\\images\\train"}), TRAINING),
    "a list with backslashes": (
        with_(
            yolo,
            names={"data.yaml": YAML + "train: l.txt", "l.txt": "\r\n".join(f"images\\train\\{x}.jpg" for x in "abc")},
        ),
        TRAINING,
    ),
    "a list of another machine": (
        with_(
            yolo,
            names={
                "data.yaml": YAML + "train: l.txt",
                "l.txt": "\n".join(f"C:\\d\\images\\train\\{x}.jpg" for x in "abc"),
            },
        ),
        TRAINING,
    ),
    "a list of absolute paths": (
        lambda root: yolo(
            root,
            names={
                "data.yaml": YAML + "train: l.txt",
                "l.txt": "\n".join(f"{root}/images/train/{x}.jpg" for x in "abc"),
            },
        ),
        TRAINING,
    ),
    "Roboflow": (
        with_(
            yolo, "train/images", "train/labels", {"data.yaml": YAML + "train: ../train/images\nval: ../valid/images"}
        ),
        TRAINING,
    ),
    "Roboflow, Darknet": (with_(yolo, "train", "train", {"train/_darknet.labels": "cat\ndog\nhat\n"}), TRAINING),
    "CVAT, YOLO 1.1": (cvat_yolo, TRAINING),
    "CVAT, YOLO 1.1 without data/": (with_(cvat_yolo, prefix=""), TRAINING),
    "CVAT, YOLO 1.1, the folder alone": (cvat_yolo, paths("obj_train_data", "obj_train_data")),
    "CVAT, YOLO 1.1, valid": (with_(cvat_yolo, "valid"), SplitConfig("val")),
    "CVAT, Ultralytics": (cvat_ultralytics, TRAINING),
    "CVAT, Ultralytics, newer": (with_(cvat_ultralytics, "images/train/"), TRAINING),
    "Label Studio": (
        with_(yolo, "images", "labels", {"classes.txt": "cat\ndog\nhat\n", "notes.json": "{}"}),
        paths("images", "labels"),
    ),
    "Label Studio, a split": (
        with_(yolo, "train/images", "train/labels", {"train/classes.txt": "cat\ndog\nhat\n", "train/notes.json": "{}"}),
        TRAINING,
    ),
    "labelImg": (with_(yolo, "photos", "photos", {"photos/classes.txt": "cat\ndog\nhat\n"}), paths("photos", "photos")),
    "labelImg, a split": (with_(yolo, "train", "train", {"train/classes.txt": "cat\r\ndog\r\nhat\r\n"}), TRAINING),
    "labels beside images in images/": (with_(yolo, "images/train", "images/train"), paths("images/train", "images")),
    "Darwin": (
        with_(yolo, "images", "annotations", {"annotations/darknet.labels": "cat\ndog\nhat\n"}),
        paths("images", "annotations"),
    ),
    "subfolders": (with_(yolo, "images/train/x", "labels/train/x"), TRAINING),
    "Train": (with_(yolo, "images/Train", "labels/Train"), TRAINING),
    "with confidences": (with_(yolo, pattern="{i} {cx} {cy} {w} {h} 0.97"), TRAINING),
    "with tracks": (with_(yolo, pattern="{i} {cx} {cy} {w} {h} 12"), TRAINING),
    "polygons": (with_(yolo, pattern="{i} {x1} {y1} {x2} {y1} {x2} {y2} {cx} {y2} {x1} {cy}"), TRAINING),
    "rotated boxes": (with_(yolo, pattern="{i} {cx} {y1} {x2} {cy} {cx} {y2} {x1} {cy}"), TRAINING),
    "poses": (
        with_(
            yolo,
            names={"data.yaml": YAML + "kpt_shape: [2, 2]\ntrain: images/train"},
            pattern="{i} {cx} {cy} {w} {h} 0.9 0.9 0 0",
        ),
        TRAINING,
    ),
    "Windows' line ends": (with_(yolo, ending="\r\n", encoding="utf-8-sig"), TRAINING),
    "UTF-16": (with_(yolo, ending="\r\n", encoding="utf-16"), TRAINING),
    "macOS": (both(yolo, with_(mac, "images/train/._a.jpg", "labels/train/._a.txt", "images/._train")), TRAINING),
    "a folder named as a picture": (both(yolo, lambda root: (root / "images/train/x.jpg").mkdir()), TRAINING),
}
LAYOUTS = {
    f"{name}: {what}": case
    for name, cases in (("COCO", COCO), ("VOC", VOC), ("YOLO", YOLO))
    for what, case in cases.items()
}


def content(dataset) -> dict[str, tuple[tuple[int, int], list[tuple[Any, ...]]]]:
    """Size and named boxes of each picture, by the name of its file, which must be there."""
    made = {}
    for index in range(len(dataset)):
        objects = slice(*dataset.first_object[index : index + 2])
        boxes = [
            (dataset.classes[label], *(round(side, 6) for side in box))
            for label, box in zip(dataset.labels[objects], dataset.boxes[objects].tolist(), strict=True)
        ]
        assert dataset.image(index).shape[:2] == tuple(dataset.sizes[index])
        made[Path(dataset.files[index]).name] = (tuple(dataset.sizes[index].tolist()), boxes)
    return made


def expected(pictures=TRAIN) -> dict[str, tuple[tuple[int, int], list[tuple[Any, ...]]]]:
    return {f"{each.stem}.jpg": ((each.height, each.width), list(each.objects)) for each in pictures}


@pytest.mark.parametrize(("write", "split"), LAYOUTS.values(), ids=LAYOUTS)
def test_read_right(tmp_path, write, split):
    write(tmp_path)
    dataset = open_split(tmp_path, split)
    assert content(dataset) == expected()
    assert set(dataset.classes) - {"animals"} == set(CLASSES)
    assert not dataset.notes and not dataset.crowd.any()
    assert len(set(dataset.annotation_ids.tolist())) == 3


PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_page_of_data_sets_has_every_layout():
    page = PAGE.read_text(encoding="utf-8")
    files = [file.format("NAME") for file in (*layouts.COCO_FILES, *layouts.COCO_FOLDERS, *NAME_FILES)]
    assert [file for file in files if f"`{file}`" not in page] == []
    rows = [re.findall("`([^`]+)`", line) for line in page.splitlines()]
    pairs = [[labels.format("NAME"), images.format("NAME")] for images, labels in layouts.PAIRS]
    assert [pair for pair in pairs if pair not in rows] == []


@pytest.mark.parametrize(
    "tool", ["Roboflow", "CVAT", "Label Studio", "labelImg", "VoTT", "Darwin", "FiftyOne", "Ultralytics"]
)
def test_the_page_of_data_sets_has_every_tool(tool):
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {tool}")]
    formats = [name for name, cases in (("COCO", COCO), ("VOC", VOC), ("YOLO", YOLO)) if tool in str(list(cases))]
    assert formats and [name for name in formats if not any(name in row for row in rows)] == []


@pytest.mark.parametrize("name", ["valid", "validation", "Validation"])
@pytest.mark.parametrize(
    "write",
    [
        lambda root, name: coco(root, f"{name}/_annotations.coco.json", name, pictures=VAL),
        lambda root, name: voc(root, name, name, pictures=VAL),
        lambda root, name: voc(root, lists={f"Main/{name}.txt": "d"}, pictures=VAL),
        lambda root, name: yolo(root, f"{name}/images", f"{name}/labels", pictures=VAL),
    ],
    ids=["COCO", "VOC, folders", "VOC, lists", "YOLO"],
)
def test_other_names_of_val(tmp_path, write, name):
    write(tmp_path, name)
    assert content(open_split(tmp_path, SplitConfig("val"))) == expected(VAL)


def test_the_exact_name_comes_first(tmp_path):
    yolo(tmp_path, "images/valid", "labels/valid")
    yolo(tmp_path, "val/images", "val/labels", pictures=VAL)
    assert content(open_split(tmp_path, SplitConfig("val"))) == expected(VAL)


BY_FOLDERS = [
    (paths("photos/train", "pages/train"), paths("photos/val", "pages/val")),
    (SplitConfig("train"), SplitConfig("val")),
]


@pytest.mark.parametrize(("train", "val"), BY_FOLDERS, ids=["paths", "names"])
@pytest.mark.parametrize("classes", [None, ("hat", "dog"), ("cat",)])
def test_classes_of_voc_are_those_of_all_splits(tmp_path, train, val, classes):
    for split, pictures in ((train, TRAIN), (val, VAL)):
        pages, photos = split.annotations or split.name, split.images or split.name
        voc(tmp_path, pages, photos, pictures=pictures)
    data = DataConfig(root=str(tmp_path), train=train, val=val, classes=classes)
    ours, theirs = (open_dataset(data, split) for split in ("train", "val"))
    ids = dict(zip(CLASSES, (1, 2, 3), strict=True))
    assert ours.classes == theirs.classes == (classes or CLASSES)
    assert ours.category_ids == theirs.category_ids == tuple(ids[name] for name in classes or CLASSES)
    kept = {
        name: (size, [box for box in boxes if box[0] in ours.classes]) for name, (size, boxes) in expected().items()
    }
    assert content(ours) == kept


def test_a_class_of_no_split_is_refused(tmp_path):
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        voc(tmp_path, split, split, pictures=pictures)
    data = DataConfig(root=str(tmp_path), train=SplitConfig("train"), val=SplitConfig("val"), classes=("bat",))
    with pytest.raises(DataError, match='val: has no class "bat"; the nearest is "[ch]at"'):
        open_dataset(data, "val")


def test_yolo_without_names_has_those_of_the_config(tmp_path):
    yolo(tmp_path, names={})
    dataset = open_split(tmp_path, SplitConfig("train"), classes=CLASSES)
    assert (dataset.classes, dataset.category_ids) == (CLASSES, (0, 1, 2))
    assert content(dataset) == expected()


@pytest.mark.parametrize(
    ("write", "splits"),
    [
        (both(coco, with_(coco, "annotations/instances_val2017.json", "val2017")), ["train", "val2017"]),
        (with_(voc, lists={"Main/train.txt": "a", "Main/trainval.txt": "a"}), ["train", "trainval"]),
        (both(with_(voc, "train", "train"), with_(voc, "valid", "valid")), ["train", "valid"]),
        (
            with_(yolo, names={"data.yaml": YAML + "train: images/train\nval: gone\ntest: images/train"}),
            ["test", "train"],
        ),
        (both(yolo, with_(yolo, "images/extra", "labels/extra")), ["extra", "train"]),
        (cvat_yolo, ["train"]),
        (with_(yolo, "images", "labels", {"classes.txt": "cat\ndog\nhat", "notes.json": "{}"}), []),
        (lambda root: None, []),
    ],
)
def test_the_splits_of_a_folder(tmp_path, write, splits):
    write(tmp_path)
    assert splits_in(tmp_path) == splits


def labels_at_fault(line: str) -> Write:
    return both(yolo, lambda root: text(root / "labels/train/a.txt", line))


def dangling(root: Path) -> None:
    yolo(root)
    (root / "labels/train/a.txt").unlink()
    (root / "labels/train/a.txt").symlink_to("/gone/a.txt")


def two_of_a_name(made: dict[str, Any]) -> None:
    made["categories"][2]["name"] = "cat"


TO_2017 = both(
    with_(coco, "annotations/instances_train2017.json", "train2017"),
    with_(coco, "annotations/instances_val2017.json", "val2017", pictures=VAL),
)
REFUSED: dict[str, tuple[Write, SplitConfig, str]] = {
    "another name": (TO_2017, TRAINING, "; found: train2017, val2017; did you mean train2017?"),
    "a name like none": (TO_2017, SplitConfig("x"), "x/*.xml; found: train2017, val2017"),
    "a short name": (TO_2017, SplitConfig("t"), "; found: train2017, val2017; did you mean train2017?"),
    "Label Studio's COCO by name": (
        with_(coco, RESULT, "images", "images/"),
        TRAINING,
        "pictures and labels without splits: train: {images: images, annotations: result.json} and val: 0.2 use",
    ),
    "Label Studio's YOLO by name": (
        with_(yolo, "images", "labels"),
        TRAINING,
        "pictures and labels without splits: train: {images: images, annotations: labels} and val: 0.2 use them",
    ),
    "VOC without lists by name": (voc, TRAINING, "train: {images: JPEGImages, annotations: Annotations} and val"),
    "pictures alone": (
        with_(draw),
        TRAINING,
        "there are pictures; if their labels are there, name both: {images: DIR, annotations: FILE or DIR}",
    ),
    "an empty folder": (lambda root: None, TRAINING, "train/*.xml; there are no pictures, either"),
    "Label Studio's own JSON": (
        both(with_(draw), lambda root: text(root / "tasks.json", "[]")),
        paths(".", "tasks.json"),
        "tasks.json: is a JSON list; expected an object with COCO's images, annotations and categories",
    ),
    "Label Studio's paths on the server": (
        with_(coco, RESULT, "images", "../../label-studio/media/upload/4/"),
        paths("images", RESULT),
        'result.json: images[0] has the file name "../../label-studio/media/upload/4/a.jpg"; expected a path inside',
    ),
    "VoTT's own JSON": (
        both(draw, lambda root: text(root / "x-export.json", json.dumps({"assets": {}, "tags": []}))),
        paths(".", "x-export.json"),
        'x-export.json: has no list "images"; expected COCO\'s images, annotations and categories',
    ),
    "VoTT's CSV": (
        both(draw, lambda root: text(root / "x-export.csv", '"image","xmin"')),
        paths(".", "x-export.csv"),
        "x-export.csv: is one file; expected a .json file, or a folder of .xml or .txt files",
    ),
    "CVAT's own XML": (
        both(draw, lambda root: text(root / "annotations.xml", "<annotations/>")),
        paths(".", "annotations.xml"),
        "annotations.xml: is one file; expected a .json file, or a folder of .xml or .txt files",
    ),
    "CVAT's own XML by its folder": (
        both(draw, lambda root: text(root / "annotations.xml", "<annotations><version>1.1</version></annotations>")),
        paths(".", "."),
        "annotations.xml: is XML of <annotations>; expected Pascal VOC's <annotation>, one file for each image",
    ),
    "LabelMe's JSON": (
        both(with_(draw), lambda root: text(root / "a.json", "{}")),
        paths(".", "."),
        "no annotations found; expected a .json file, or a folder of .xml or .txt files; found a.json",
    ),
    "COCO's folder for its file": (
        with_(coco, images="images"),
        paths("images", "annotations"),
        "annotations: no annotations found; expected a .json file, or a folder of .xml or .txt files; found instances_",
    ),
    "COCO without images": (
        lambda root: text(root / "annotations/instances_train.json", json.dumps(document())),
        TRAINING,
        "/train: no such image folder; data.root (--set data.root=DIR) must be the data set's folder",
    ),
    "neither box nor polygon": (
        with_(coco, edit=each("annotations", lambda made: made.pop("bbox"))),
        TRAINING,
        'annotations[0] has no "bbox"; expected 4 numbers, [x, y, width, height]',
    ),
    "half an id": (
        with_(coco, edit=each("images", lambda image: image.update(id=1.5))),
        TRAINING,
        "images[0] has id 1.5; expected an integer",
    ),
    "an id in words": (
        with_(coco, edit=each("images", lambda image: image.update(id="a.jpg"))),
        TRAINING,
        'images[0] has id "a.jpg"; expected an integer',
    ),
    "an empty list": (
        with_(voc, lists={"Main/train.txt": ""}),
        TRAINING,
        "train.txt: names no images; expected a name",
    ),
    "a list of blank lines": (
        with_(voc, lists={"Main/train.txt": "\n \n\t\n"}),
        TRAINING,
        "train.txt: names no images",
    ),
    "a list of NUL": (with_(voc, lists={"Main/train.txt": "\0\0"}), TRAINING, "no such file; the split names"),
    "a list that is a folder": (
        both(voc, lambda root: (root / "ImageSets/Main/train.txt").mkdir(parents=True)),
        TRAINING,
        'no split "train"',
    ),
    "a Windows path in a page": (
        with_(voc, lists=MAIN, file="C:\\me\\{}.jpg"),
        TRAINING,
        'a.xml has the file name "C:\\me\\a.jpg"; expected a path inside the image folder',
    ),
    "a decimal comma in a page": (
        both(voc, lambda root: text(root / "Annotations/a.xml", page(TRAIN[0]).replace(">5<", ">5,5<"))),
        paths("JPEGImages", "Annotations"),
        'a.xml: has xmin "5,5"; expected a number',
    ),
    "a size in words": (
        both(voc, lambda root: text(root / "Annotations/a.xml", page(TRAIN[0]).replace(">40<", ">wide<"))),
        paths("JPEGImages", "Annotations"),
        'a.xml: has a size "wide"; expected a number',
    ),
    "a decimal comma": (labels_at_fault("0 0,5 0,5 0,1 0,1"), TRAINING, 'a.txt, line 1: has "0,5"; expected numbers'),
    "a name for a class": (
        labels_at_fault("cat 0.5 0.5 0.1 0.1"),
        TRAINING,
        'a.txt, line 1: has "cat"; expected numbers',
    ),
    "seven values": (
        labels_at_fault("0 0.5 0.5 0.1 0.1 0.1 0.1 0.1"),
        TRAINING,
        "has 8 values; expected class cx cy w h",
    ),
    "a dangling label": (dangling, TRAINING, "labels/train/a.txt: is a link to /gone/a.txt, which does not exist"),
    "a folder for a label": (
        both(
            with_(yolo, pictures=TRAIN[1:]),
            lambda root: draw(root / "images/train"),
            lambda root: (root / "labels/train/a.txt").mkdir(),
        ),
        TRAINING,
        "labels/train/a.txt: cannot be read: Is a directory",
    ),
    "no label at all": (
        with_(yolo, labels="annotations/x"),
        SplitConfig("train", None, None),
        'no split "train"',
    ),
    "two names alike": (
        with_(yolo, names={"data.yaml": "names: [cat, dog, cat]"}),
        TRAINING,
        'data.yaml: classes 0 and 2 are both "cat"; names must differ',
    ),
    "two lines alike": (
        with_(yolo, names={"classes.txt": "cat\ndog\ndog\n"}),
        TRAINING,
        'classes.txt: classes 1 and 2 are both "dog"; names must differ',
    ),
    "no names": (with_(yolo, names={}), TRAINING, "classes.txt or obj.names there, or list them in data.classes"),
    "a damaged picture": (
        both(yolo, with_(mac, "images/train/e.jpg")),
        TRAINING,
        "images/train/e.jpg: not an image, or of an unknown format",
    ),
}


@pytest.mark.parametrize(("write", "split", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_words_that_help(tmp_path, write, split, words):
    write(tmp_path)
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, split)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "[a", "{}", "*", "a\0"])
def test_no_split_has_such_a_name(tmp_path, name):
    voc(tmp_path, "x", "x")
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, SplitConfig(name))
    assert str(raised.value).startswith(f'{tmp_path}: no split "{name}"; looked for annotations/instances_{name}.json')


def test_a_chosen_class_needs_one_category(tmp_path):
    coco(tmp_path, edit=two_of_a_name)
    assert open_split(tmp_path, TRAINING).classes == ("cat", "dog", "cat")
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, TRAINING, classes=["cat"])
    assert str(raised.value) == (
        'instances_train.json: has 2 categories named "cat", with the ids [1, 5]; data.classes needs names that differ'
    )


@pytest.mark.parametrize("command", ["check", "train"])
def test_commands_refuse_an_empty_list_in_one_line(tmp_path, in_process, command):
    voc(tmp_path / "data", lists={"Main/train.txt": "\n\n"})
    text(tmp_path / "voc.yaml", "data: {root: data, train: train}")
    result = in_process(command, "voc.yaml", *["--json"] * (command == "check"))
    assert result.code == 1
    assert (
        "ImageSets/Main/train.txt: names no images; expected a name without suffix on each line"
        in result.out + result.err
    )
    assert "Traceback" not in result.err
