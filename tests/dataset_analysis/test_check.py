import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers.support import write_coco
from PIL import Image

from retinanet.config.schema import Config
from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.dataset_analysis.check import Report, check, errors_without_images
from retinanet.dataset_analysis.findings import percentage
from retinanet.dataset_analysis.image_files import in_both_splits, missing_files, scan_files
from retinanet.errors import ConfigError, DataError

TRAIN, VAL = "annotations/instances_train.json", "annotations/instances_val.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 and 10 pictures of 128 px; every class has 10 objects or more to train on, and none is out of reach."""
    folder = tmp_path_factory.mktemp("sound")
    write_coco(folder, "train", 40)
    write_coco(folder, "val", 10)
    return folder


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(sound, tmp_path / "data")


def config_of(root: Path, *overrides: str) -> Config:
    file = root / "config.yaml"
    file.write_text("data: {root: ., train: train, val: val, short_side: 512}\n")
    return load_config(file, overrides)


def check_of(root: Path, *overrides: str, fast: bool = False) -> Report:
    return check(config_of(root, *overrides), fast)


def edit(file: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Spoils one annotation file."""

    def spoil(root: Path) -> None:
        document = json.loads((root / file).read_text())
        change(document)
        (root / file).write_text(json.dumps(document))

    return spoil


def on(annotation: int, **values: object) -> Callable[[Path], object]:
    """Spoils one training annotation."""
    return edit(TRAIN, lambda d: d["annotations"][annotation - 1].update(values))


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def cut(root: Path) -> None:
    path = root / "train" / "3.png"
    path.write_bytes(path.read_bytes()[:9000])


def text_named_jpg(root: Path) -> None:
    (root / "train" / "3.png").unlink()
    (root / "train" / "3.jpg").write_text("just text")
    edit(TRAIN, lambda d: d["images"][3].update(file_name="3.jpg"))(root)


def named_jpg(root: Path) -> None:
    (root / "train" / "3.png").rename(root / "train" / "3.jpg")
    edit(TRAIN, lambda d: d["images"][3].update(file_name="3.jpg"))(root)


def animated(root: Path) -> None:
    path = root / "train" / "3.png"
    with Image.open(path) as image:
        frames = [image.copy(), Image.new("RGB", image.size)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def again(document: dict, annotation: int) -> None:
    document["annotations"].append(document["annotations"][annotation - 1] | {"id": 900})


def without_class(document: dict, category: int) -> None:
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] != category]


def of_class(document: dict, category: int) -> list[dict]:
    return [annotation for annotation in document["annotations"] if annotation["category_id"] == category]


def as_corners(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, x + w, y + h]


def copied(root: Path) -> None:
    shutil.copy(root / "train" / "5.png", root / "val" / "2.png")


def linked(root: Path) -> None:
    (root / "val" / "2.png").unlink()
    (root / "val" / "2.png").symlink_to(root / "train" / "5.png")


# what is done to the data; level, code, split, count, ids and files of the finding; words of its text
SPOILED = {
    "missing file": (
        lambda root: (root / "train" / "3.png").unlink(),
        ("error", "missing-image", "train", 1, (3,), ("3.png",)),
        "1 of 40 image files of train is missing; the first: {root}/train/3.png",
    ),
    "missing file of val": (
        lambda root: [(root / "val" / f"{i}.png").unlink() for i in range(7)],
        ("error", "missing-image", "val", 7, (0, 1, 2, 3, 4), ("0.png", "1.png", "2.png", "3.png", "4.png")),
        "7 of 10 image files of val are missing; the first: {root}/val/0.png",
    ),
    "truncated file": (
        cut,
        ("warning", "unreadable-image", "train", 1, (3,), ("3.png",)),
        "1 of 40 images (2.5 %) cannot be read; the first: {root}/train/3.png: cannot be read as an image: ",
    ),
    "zero-byte file": (
        write("train/3.png", b""),
        ("warning", "unreadable-image", "train", 1, (3,), ("3.png",)),
        "1 of 40 images (2.5 %) cannot be read; the first: {root}/train/3.png: is empty",
    ),
    "text": (
        text_named_jpg,
        ("warning", "unreadable-image", "train", 1, (3,), ("3.jpg",)),
        '3.jpg: not an image but text: "just text"',
    ),
    "PNG named .jpg": (
        named_jpg,
        ("warning", "wrong-suffix", "train", 1, (3,), ("3.jpg",)),
        '1 of 40 images (2.5 %) has the suffix of another format: "3.jpg" is PNG',
    ),
    "animated": (
        animated,
        ("warning", "several-frames", "train", 1, (3,), ("3.png",)),
        '1 of 40 images (2.5 %) has several frames; the first: "3.png"',
    ),
    "two unreadable files": (
        lambda root: [(root / "val" / f"{i}.png").write_bytes(b"") for i in (4, 2)],
        ("error", "unreadable-image", "val", 2, (2, 4), ("2.png", "4.png")),
        "2 of 10 images (20 %) cannot be read; the first: {root}/val/2.png: is empty",
    ),
    "wrong size": (
        edit(TRAIN, lambda d: d["images"][3].update(width=130)),
        ("warning", "wrong-size", "train", 1, (3,), ("3.png",)),
        "3.png: is 128 x 128 pixels (width x height); its annotation says 130 x 128",
    ),
    "file listed twice": (
        edit(TRAIN, lambda d: d["images"][7].update(file_name="./3.png")),
        ("warning", "repeated-image", "train", 1, (7,), ("./3.png",)),
        '1 image has the file of an earlier image, as "./3.png"',
    ),
    "duplicate box": (
        edit(TRAIN, lambda d: again(d, 12)),
        ("warning", "duplicate-box", "train", 1, (900,), ("1.png",)),
        "1 of 133 boxes (0.75 %) is listed twice: the same image, class and box",
    ),
    "zero-width box": (
        on(12, bbox=[10, 10, 0, 20]),
        ("warning", "no-area-box", "train", 1, (12,), ("1.png",)),
        "1 box has no area: width and height must be > 0; dropped",
    ),
    "NaN box": (
        on(12, bbox=[10, 10, float("nan"), 20]),
        ("warning", "not-finite-box", "train", 1, (12,), ("1.png",)),
        "1 box has numbers that are not finite, or beyond 2^31; dropped",
    ),
    "box outside": (
        on(12, bbox=[300, 10, 20, 20]),
        ("warning", "outside-box", "train", 1, (12,), ("1.png",)),
        "1 box has no part inside the image; dropped",
    ),
    "box partly outside": (
        on(12, bbox=[100, 10, 40, 40]),
        ("warning", "clipped-box", "train", 1, (12,), ("1.png",)),
        "1 of 132 boxes (0.76 %) reaches beyond the image, by up to 12 px; clipped",
    ),
    "unknown category": (
        on(12, category_id=11),
        ("error", "unknown-category", "train", 1, (12,), ()),
        'instances_train.json: annotation 12 has category_id 11; "categories" has no such id',
    ),
    "unknown image": (
        edit(TRAIN, lambda d: [a.update(image_id=99) for a in d["annotations"][4:6]]),
        ("error", "unknown-image", "train", 2, (5, 6), ()),
        'instances_train.json: annotation 5 has image_id 99; "images" has no such id',
    ),
    "repeated image id": (
        edit(TRAIN, lambda d: d["images"][3].update(id=7)),
        ("error", "repeated-image-id", "train", 1, (7,), ()),
        'instances_train.json: "images" has id 7 2 times; ids must differ',
    ),
    "repeated annotation id": (
        edit(VAL, lambda d: d["annotations"][3].update(id=7)),
        ("error", "repeated-annotation-id", "val", 1, (7,), ()),
        'instances_val.json: "annotations" has id 7 2 times; ids must differ',
    ),
    "repeated category id": (
        edit(TRAIN, lambda d: d["categories"][3].update(id=10)),
        ("error", "repeated-category-id", "train", 1, (10,), ()),
        'instances_train.json: "categories" has id 10 2 times; ids must differ',
    ),
    "no JSON": (
        write(TRAIN, b"{"),
        ("error", "unusable-data", "train", 1, (), ()),
        "instances_train.json: not JSON: ",
    ),
    "other categories in val": (
        edit(VAL, lambda d: d["categories"][3].update(name="cat")),
        ("error", "different-categories", None, 1, (40,), ()),
        "data.train and data.val have different categories: cat (40), green square (40)",
    ),
    "two categories of one name": (
        lambda root: [
            edit(file, lambda d: [c.update(name="red circle") for c in d["categories"][2:4]])(root)
            for file in (TRAIN, VAL)
        ],
        ("warning", "repeated-name", "train", 3, (10, 30, 40), ()),
        '3 of 6 categories have the name of another: "red circle" (10), "red circle" (30), "red circle" (40)',
    ),
    "image copied to val": (
        copied,
        ("warning", "shared-image", None, 1, (2,), ("2.png",)),
        '1 of 10 images of val is also in train, by path or by content; the first: "2.png" is "5.png" of train',
    ),
    "image linked to val": (
        linked,
        ("warning", "shared-image", None, 1, (2,), ("2.png",)),
        '1 of 10 images of val is also in train, by path or by content; the first: "2.png" is "5.png" of train',
    ),
    "class only in val": (
        edit(TRAIN, lambda d: without_class(d, 20)),
        ("warning", "untrained-class", "train", 1, (20,), ()),
        "1 of 6 classes has objects in val but none in train: blue circle",
    ),
    "class nowhere": (
        lambda root: [edit(file, lambda d: without_class(d, 20))(root) for file in (TRAIN, VAL)],
        ("warning", "empty-class", "train", 1, (20,), ()),
        "1 of 6 classes has no object in train: blue circle",
    ),
    "class of one object": (
        edit(TRAIN, lambda d: [a.update(category_id=10) for a in of_class(d, 60)[1:]]),
        ("warning", "few-objects", "train", 1, (60,), ()),
        "1 of 6 classes has fewer than 10 objects in train: blue triangle",
    ),
    "object too long for any anchor": (
        on(12, bbox=[0, 10, 128, 9]),
        ("warning", "unreached-object", "train", 1, (12,), ("1.png",)),
        "1 of 132 objects (0.76 %) has no anchor of IoU >= 0.4 after the resize",
    ),
    "object too small": (
        on(12, bbox=[10, 10, 1.5, 1.5]),
        ("warning", "tiny-object", "train", 1, (12,), ("1.png",)),
        "1 of 132 objects (0.76 %) is smaller than 8 x 8 px after the resize",
    ),
    "crowd": (
        on(12, iscrowd=1),
        ("info", "crowds", "train", 1, (12,), ("1.png",)),
        "1 of 132 objects (0.76 %) is a crowd, or marked as difficult",
    ),
    "empty image": (
        edit(TRAIN, lambda d: d["images"].append({"id": 77, "file_name": "x.png", "width": 9, "height": 9})),
        ("info", "empty-images", "train", 1, (77,), ("x.png",)),
        "1 of 41 images (2.4 %) has no objects",
    ),
    "no objects": (
        edit(TRAIN, lambda d: d["annotations"].clear()),
        ("error", "no-objects", "train", 40, (0, 1, 2, 3, 4), ("0.png", "1.png", "2.png", "3.png", "4.png")),
        "train has no objects in 40 images",
    ),
    "most boxes outside": (
        edit(TRAIN, lambda d: [a.update(bbox=[9000, 9000, 20, 20]) for a in d["annotations"][:100]]),
        ("error", "most-boxes-dropped", "train", 100, (1, 2, 3, 4, 5), ("0.png",)),
        "100 of 132 boxes (76 %) are dropped in train: most have no part inside the image",
    ),
    "most boxes of val without area": (
        edit(VAL, lambda d: [a.update(bbox=[9, 9, 0, 0]) for a in d["annotations"]]),
        ("error", "most-boxes-dropped", "val", 32, (1, 2, 3, 4, 5), ("0.png",)),
        "32 of 32 boxes (100 %) are dropped in val: most have no area",
    ),
    "fractions in place of pixels": (
        edit(TRAIN, lambda d: [a.update(bbox=[b / 128 for b in a["bbox"]]) for a in d["annotations"]]),
        ("error", "boxes-in-fractions", "train", 132, (1, 2, 3, 4, 5), ("0.png",)),
        "132 of 132 boxes (100 %) are within the first pixel of the image in train",
    ),
    "corners in place of sizes": (
        edit(TRAIN, lambda d: [a.update(bbox=as_corners(*a["bbox"])) for a in d["annotations"]]),
        ("error", "boxes-as-corners", "train", 108, (1, 2, 3, 4, 7), ("0.png", "1.png")),
        "108 of 132 boxes (82 %) reach beyond the image in train; none would as corners",
    ),
    "images that no split lists": (
        lambda root: [shutil.copy(root / "train" / "3.png", root / "train" / f"{name}.png") for name in "ab"],
        ("info", "unlisted-image", None, 2, (), ("a.png", "b.png")),
        "2 of 52 image files (3.8 %) are in no split; the first: {root}/train/a.png",
    ),
    "no objects in val": (
        edit(VAL, lambda d: [a.update(iscrowd=1) for a in d["annotations"]]),
        ("warning", "no-objects", "val", 10, (0, 1, 2, 3, 4), ("0.png", "1.png", "2.png", "3.png", "4.png")),
        "val has no objects, only crowds in 10 images",
    ),
}


# what is true beside the fault
BESIDE = {
    "object too small": ["unreached-object"],
    "no objects": ["empty-images"],
    "no objects in val": ["crowds"],
    "file listed twice": ["unlisted-image"],
    "most boxes outside": ["outside-box", "empty-images", "few-objects"],
    "most boxes of val without area": ["no-area-box", "empty-images", "no-objects"],
    "corners in place of sizes": ["clipped-box"],
    "fractions in place of pixels": ["unreached-object", "tiny-object"],
}


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (10, 10, "100"),
        (99, 100, "99"),
        (999, 1000, "99.90"),
        (118_000, 118_001, "99.99915"),
        (1, 118_000, "0.00085"),
        (1, 133, "0.75"),
        (1, 40, "2.5"),
        (1, 3, "33"),
        (2, 3, "67"),
        (0, 3, "0"),
    ],
)
def test_percentages_are_plain_numbers(count: int, total: int, expected: str):
    assert percentage(count, total) == expected


def test_sound_data(sound: Path):
    report = check_of(sound)
    assert {name: asdict(split) | {"classes": None} for name, split in report.splits.items()} == {
        "train": {
            "images": 40,
            "objects": 132,
            "crowds": 0,
            "empty_images": 0,
            "dropped_boxes": 0,
            "classes": None,
        },
        "val": {
            "images": 10,
            "objects": 32,
            "crowds": 0,
            "empty_images": 0,
            "dropped_boxes": 0,
            "classes": None,
        },
    }
    assert sum(report.splits["train"].classes.values()) == 132
    assert [(finding.level, finding.code) for finding in report.findings] == [("info", "category-gaps")]
    assert report.findings[0].ids == (11, 12, 13, 14, 15)
    assert report.findings[0].count == 45
    assert report.findings[0].text == "45 of the category ids 10 to 60 are not used"


@pytest.mark.parametrize("fault", SPOILED)
def test_each_fault_is_named(root: Path, fault: str):
    spoil, expected, words = SPOILED[fault]
    spoil(root)
    if fault == "empty image":
        Image.new("RGB", (9, 9)).save(root / "train" / "x.png")
    report = check_of(root)
    found = [finding for finding in report.findings if finding.code != "category-gaps"]
    told = [(f.level, f.code, f.split, f.count, f.ids, f.files) for f in found]
    assert expected in told, told
    finding = found[told.index(expected)]
    assert words.replace("{root}", str(root)) in finding.text
    assert finding.advice and "\n" not in finding.text + finding.advice
    others = {f.code for f in found} - {finding.code}
    assert others <= set(BESIDE.get(fault, ())), others
    assert (report.count("error") > 0) == (finding.level == "error")


def test_levels_stand_in_order(root: Path):
    cut(root)
    (root / "val" / "3.png").unlink()
    assert [finding.level for finding in check_of(root).findings] == ["error", "warning", "info"]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [(cut, False), (write("train/3.png", b""), True), (SPOILED["wrong size"][0], True)],
    ids=["truncated", "zero-byte", "wrong size"],
)
def test_fast_reads_headers_alone(root: Path, spoil, found):
    spoil(root)
    assert bool(check_of(root, fast=True).count("warning")) == found


def test_a_size_is_right_as_stored_and_as_turned(root: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in (1, 2):
        Image.new("RGB", (128, 64)).save(root / "train" / f"{i}.png", exif=exif)
    Image.new("RGB", (128, 64)).save(root / "train" / "3.png")
    sizes = {1: (128, 64), 2: (64, 128), 3: (64, 128)}  # width and height
    edit(TRAIN, lambda d: [d["images"][i].update(width=w, height=h) for i, (w, h) in sizes.items()])(root)
    for fast in (False, True):
        wrong = [finding for finding in check_of(root, fast=fast).findings if finding.code == "wrong-size"]
        assert [finding.ids for finding in wrong] == [(3,)]


def test_equal_sizes_and_equal_ends_are_not_enough_to_be_the_same(root: Path):
    train, val = root / "train" / "5.png", root / "val" / "2.png"
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    for path, first in ((train, 0), (val, 1)):
        pixels[0, 0] = first
        Image.fromarray(pixels).save(path.with_suffix(".bmp"))
        path.with_suffix(".bmp").rename(path)
    assert train.stat().st_size == val.stat().st_size
    data = config_of(root).data
    assert in_both_splits(open_dataset(data, "train"), open_dataset(data, "val")) == []


def test_one_annotation_file_for_both_is_told_once(root: Path):
    cut(root)
    report = check_of(root, "data.val=train")
    assert [(f.code, f.split) for f in report.findings] == [
        ("unreadable-image", "train"),
        ("same-split", None),
        ("category-gaps", "train"),
    ]
    assert report.splits["train"] == report.splits["val"]


def test_without_val(root: Path):
    report = check_of(root, "data.val=null")
    assert list(report.splits) == ["train"]
    assert [(f.level, f.code) for f in report.findings] == [("warning", "no-val"), ("info", "category-gaps")]


def test_what_cannot_be_opened_is_told_once_and_the_rest_is_looked_at(root: Path):
    report = check_of(root, f"data.root={root}/nowhere")
    assert [(f.code, f.split, report.splits) for f in report.findings] == [("unusable-data", "train", {})]
    assert report.findings[0].text.startswith(f"{root}/nowhere: no such folder")
    (root / "val" / "3.png").unlink()
    report = check_of(root, "data.train=gone")
    assert [(f.code, f.split) for f in report.findings[:2]] == [("unusable-data", "train"), ("missing-image", "val")]
    with pytest.raises(ConfigError, match=r"data\.train is not set"):
        check_of(root, "data.train=null")


def test_imbalance(root: Path):
    def many(document: dict) -> None:
        first = document["annotations"][0]
        document["annotations"] += [
            first | {"id": 1000 + i, "category_id": 10, "bbox": [i % 50, i // 50, 20, 20]} for i in range(2500)
        ]

    edit(TRAIN, many)(root)
    report = check_of(root)
    (finding,) = (f for f in report.findings if f.code == "imbalance")
    assert finding.level == "info" and finding.ids[0] == 10
    assert finding.text.startswith("red circle (2,5")


def test_a_class_without_objects_is_no_imbalance(root: Path):
    edit(TRAIN, lambda d: [a.update(category_id=60) for a in d["annotations"]])(root)
    assert not [f for f in check_of(root).findings if f.code == "imbalance"]


def test_an_object_counts_as_unreached_if_no_short_side_reaches_it(root: Path):
    on(12, bbox=[10, 10, 5, 5])(root)  # 20 px at 512, 40 px at 1024
    assert not check_of(root, "train.augment.short_sides=[512, 1024]").count("warning")
    finding = check_of(root, "train.augment.short_sides=[400, 512]").findings[0]
    assert (finding.code, finding.ids) == ("unreached-object", (12,))
    assert finding.text.endswith("after the resize at any of train.augment.short_sides")


def test_atss_selects_no_anchor_for_an_object_between_the_centres(root: Path):
    # at 512 px the object covers x and y from 41 to 47, between the cells of P3 at 40 and at 48
    on(12, bbox=[10.25, 10.25, 1.5, 1.5])(root)
    findings = check_of(root, "anchors.matching=atss").findings
    assert [(f.code, f.ids) for f in findings[:2]] == [("unreached-object", (12,)), ("tiny-object", (12,))]
    assert findings[0].text.endswith("has no anchor that ATSS selects after the resize")
    assert findings[0].advice == "training ignores them; set a larger data.short_side"
    on(12, bbox=[10, 10, 3, 3])(root)  # 40 to 52 px
    assert not check_of(root, "anchors.matching=atss").count("warning")


def test_anchors_that_are_forced_reach_every_object(root: Path):
    on(12, bbox=[0, 10, 128, 9])(root)
    assert not check_of(root, "anchors.force_best=true").count("warning")


def test_the_embedded_data_set_has_no_files():
    report = check(load_config("shapes.yaml"))
    assert (report.splits["train"].images, report.splits["val"].images) == (1200, 300)
    assert report.count("error") == 0
    assert not {f.code for f in report.findings} & {"missing-image", "unreadable-image", "shared-image"}


def test_before_training_only_errors_and_no_pixels(root: Path, monkeypatch: pytest.MonkeyPatch):
    cut(root)
    on(12, bbox=[300, 10, 20, 20])(root)
    monkeypatch.setattr(Image, "open", None)
    data = config_of(root).data
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    assert errors_without_images(train, val) == errors_without_images(train, None) == []
    (root / "val" / "3.png").unlink()
    assert [f.code for f in errors_without_images(train, val)] == ["missing-image"]


def test_files_in_folders_of_their_own(root: Path):
    (root / "train" / "sub").mkdir()
    (root / "train" / "3.png").rename(root / "train" / "sub" / "3.png")
    (root / "train" / "4.png").unlink()
    (root / "train" / "4.png").mkdir()
    (root / "train" / "5.png").unlink()
    (root / "train" / "5.png").symlink_to("nowhere")
    edit(TRAIN, lambda d: d["images"][3].update(file_name="sub/3.png"))(root)
    assert missing_files(open_dataset(config_of(root).data, "train")) == [4, 5]


def test_every_image_is_looked_at_whatever_the_threads(root: Path):
    write("train/3.png", b"")(root)
    dataset = open_dataset(config_of(root).data, "train")
    for workers in (0, 3):
        told: list[int] = []
        scans = scan_files(dataset, range(1, 40), True, workers, told.append)
        assert [index for index, (error, _, _) in scans.items() if error] == [3]
        assert told == [39]


def test_coco128(shared_data: Path):
    report = check(load_config("coco128.yaml", [f"data.root={shared_data / 'coco128'}"]), fast=True)
    counts = {f.code: (f.level, f.count) for f in report.findings}
    assert counts["crowds"] == ("info", 10)
    assert counts["empty-images"] == ("info", 2)
    assert counts["same-split"] == ("info", 128)
    assert counts["category-gaps"] == ("info", 10)
    assert counts["empty-class"] == ("warning", 9)
    assert (report.count("error"), report.splits["train"].objects) == (0, 939)


def test_bccd(shared_data: Path):
    report = check(load_config("bccd.yaml", [f"data.root={shared_data / 'bccd'}"]), fast=True)
    (dropped,) = (f for f in report.findings if f.code == "no-area-box")
    assert (dropped.ids, dropped.files) == ((3153, 3197), ("BloodImage_00338.jpg", "BloodImage_00343.jpg"))
    assert (report.count("error"), report.splits["train"].dropped_boxes) == (0, 2)


def test_a_yolo_image_that_cannot_be_read(tmp_path: Path):
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "images" / split / "a.jpg").write_bytes(b"")
    (tmp_path / "classes.txt").write_text("cat")
    report = check_of(tmp_path)
    assert [(f.code, f.split) for f in report.findings] == [("unreadable-image", "train"), ("unreadable-image", "val")]


def test_a_voc_page_without_its_image(tmp_path: Path):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation></annotation>")
    for split in ("train", "val"):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("a\n")
    (finding,) = check_of(tmp_path).findings
    assert (finding.level, finding.code, finding.split) == ("error", "missing-image", "train")
    assert finding.text.startswith(f"{tmp_path}/Annotations/a.xml: its image is not in")


def yolo(root: Path, labels: dict[str, str], **images: tuple[int, int]) -> Path:
    """A YOLO data set whose label files lie in labels/train; its config is config.yaml."""
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for name, size in images.items():
        Image.new("RGB", size).save(root / "images/train" / f"{name}.png")
    for name, text in labels.items():
        (root / "labels/train" / name).write_text(text)
    (root / "classes.txt").write_text("cat\n")
    (root / "config.yaml").write_text("data: {root: ., train: train}\n")
    return root / "config.yaml"


def told(file: Path, level: str) -> list[tuple[str, int, str, str]]:
    return [(f.code, f.count, f.text, f.advice) for f in check(load_config(file)).findings if f.level == level]


def test_yolo_in_pixels_is_an_error_with_its_cause(tmp_path: Path):
    lines = [f"0 {20 + i} 40 12 10" for i in range(99)] + ["0 0.5 0.5 0.5 0.5"]
    file = yolo(tmp_path, {"a.txt": "\n".join(lines)}, a=(200, 100))
    ((code, count, text, advice),) = told(file, "error")
    assert (code, count) == ("most-boxes-dropped", 99)
    assert text == "99 of 100 boxes (99 %) are dropped in train: most have no part inside the image"
    assert advice.startswith(
        "the numbers look like pixels or per cent; YOLO wants fractions of the image's width and h"
    )
    data = load_config(file).data
    assert [f.code for f in errors_without_images(open_dataset(data, "train"), None)] == ["most-boxes-dropped"]


def test_label_files_and_images_that_do_not_belong_together(tmp_path: Path):
    labels = {f"{name}.txt": "0 0.5 0.5 0.5 0.5" for name in "xyz"} | {"classes.txt": "cat\n", "empty.txt": ""}
    folder = tmp_path / "none"
    file = yolo(folder, labels, a=(20, 10), b=(20, 10))
    (first, second) = told(file, "error")
    assert first[:3] == (
        "no-label-matches",
        3,
        f"3 label files of train have no image; the first: {folder}/labels/train/x.txt; no image has a label file; "
        f"looked for {folder}/labels/train/a.txt",
    )
    assert second[0] == "no-objects"
    folder = tmp_path / "some"
    file = yolo(folder, labels, x=(20, 10), b=(20, 10), c=(20, 10))
    assert told(file, "error") == []
    found = {code: (count, text) for level in ("warning", "info") for code, count, text, _ in told(file, level)}
    assert found["label-without-image"] == (
        2,
        f"2 label files of train have no image; the first: {folder}/labels/train/y.txt",
    )
    assert found["image-without-label"] == (
        2,
        f"2 of 3 images (67 %) have no label file; looked for {folder}/labels/train/b.txt",
    )


def test_label_files_of_other_splits_have_their_images(tmp_path: Path):
    file = yolo(tmp_path, {"a.txt": "0 0.5 0.5 0.5 0.5", "b.txt": "0 0.5 0.5 0.5 0.5"}, a=(20, 10), b=(20, 10))
    (tmp_path / "list.txt").write_text("images/train/a.png\n")
    (tmp_path / "data.yaml").write_text("train: list.txt\nnames: [cat]\n")
    assert "label-without-image" not in [code for code, *_ in told(file, "warning")]
    assert "unlisted-image" in [code for code, *_ in told(file, "info")]


def coco_faults(root: Path) -> Path:
    def spoil(document: dict) -> None:
        images, objects, categories = (document[name] for name in ("images", "annotations", "categories"))
        del categories[1]["name"]
        images[2]["file_name"], images[3]["file_name"], images[4]["width"] = 5, "../x.png", -1
        objects[3]["bbox"], objects[4]["bbox"], objects[5]["area"] = [1, 2, 3], None, "big"
        objects[6]["category_id"], objects[7]["image_id"], objects[8]["iscrowd"] = 11, 99, 2

    edit(TRAIN, spoil)(root)
    return root / "config.yaml"


COCO_FAULTS = [
    'instances_train.json: categories[1] has no "name"; expected a string',
    'instances_train.json: annotation 7 has category_id 11; "categories" has no such id',
    'instances_train.json: annotation 8 has image_id 99; "images" has no such id',
    "instances_train.json: images[2] has file_name 5; expected a string",
    "instances_train.json: images[4] has width -1; expected a number >= 1",
    "instances_train.json: annotations[3] has bbox [1, 2, 3]; expected 4 numbers, [x, y, width, height]",
    "instances_train.json: annotations[4] has bbox null; expected 4 numbers, [x, y, width, height]",
    'instances_train.json: annotations[5] has area "big"; expected a number',
    "instances_train.json: annotations[8] has iscrowd 2; expected 0 or 1",
]


def test_every_fault_of_a_coco_file_is_named(root: Path):
    config_of(root)
    file = coco_faults(root)
    assert [text for _, _, text, _ in told(file, "error")] == COCO_FAULTS
    with pytest.raises(DataError) as raised:
        open_dataset(load_config(file).data, "train")
    assert str(raised.value) == f"{COCO_FAULTS[0]}; 8 more faults, which retina check CONFIG lists"


def test_every_line_at_fault_of_every_label_file_is_named(tmp_path: Path):
    bad = "0 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n"
    file = yolo(tmp_path, {"a.txt": bad, "b.txt": "cat\n", "c.txt": "x\n" * 100}, a=(9, 9), b=(9, 9), c=(9, 9))
    texts = [text.removeprefix(f"{tmp_path}/labels/train/") for _, _, text, _ in told(file, "error")]
    assert texts[:4] == [
        "a.txt, line 1: has 4 values; expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ...",
        "a.txt, line 3: has class 7; expected 0 to 0, as there are 1 names",
        'b.txt, line 1: has "cat"; expected numbers, class cx cy w h',
        'c.txt, line 1: has "x"; expected numbers, class cx cy w h',
    ]
    # of one file, five lines, so that the other files are named too
    assert (len(texts), texts[-1]) == (9, "and 95 more faults of train")


def test_every_image_without_a_readable_header_is_named(tmp_path: Path):
    file = yolo(tmp_path, {"a.txt": "0 0.5 0.5 0.5 0.5"}, a=(9, 9), b=(9, 9), c=(9, 9))
    for name in "ac":
        (tmp_path / "images/train" / f"{name}.png").write_bytes(b"")
    folder = tmp_path / "images/train"
    assert [text for _, _, text, _ in told(file, "error")] == [f"{folder}/{name}.png: is empty" for name in "ac"]


def test_label_files_beside_images_and_in_folders_of_their_own(tmp_path: Path):
    for folder in ("flat/other", "pairs/images/sub", "pairs/labels/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for place in ("flat/a", "pairs/images/a", "pairs/images/sub/d"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{place}.png")
    for place in ("flat/a", "flat/b", "flat/other/c", "pairs/labels/a", "pairs/labels/b", "pairs/labels/sub/c"):
        (tmp_path / f"{place}.txt").write_text("0 0.5 0.5 0.5 0.5")
    for root, paths, alone in (("flat", (".", "."), 1), ("pairs", ("images", "labels"), 2)):
        (tmp_path / root / "classes.txt").write_text("cat\n")
        file = tmp_path / root / "config.yaml"
        file.write_text(f"data: {{root: ., train: {{images: {paths[0]}, annotations: {paths[1]}}}}}\n")
        assert ("label-without-image", alone) in [entry[:2] for entry in told(file, "warning")], told(file, "warning")


def test_a_pipe_among_label_files_is_not_read(tmp_path: Path):
    file = yolo(tmp_path, {"a.txt": "0 0.5 0.5 0.5 0.5"}, a=(20, 10))
    os.mkfifo(tmp_path / "labels/train/other.txt")
    assert told(file, "error") == []
    assert "label-without-image" not in [code for code, *_ in told(file, "warning")]


def test_every_fault_of_every_page_is_named(tmp_path: Path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>8</ymax></bndbox>"
    objects = f"<object>{box.format(8)}</object><object><name>cat</name>{box.format('one')}</object>"
    for name, page in (("a", "<annotation>"), ("b", f"<annotation>{objects}</annotation>"), ("c", "<annotation/>")):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(page)
    file = tmp_path / "config.yaml"
    file.write_text("data: {root: ., train: {images: JPEGImages, annotations: Annotations}}\n")
    assert [text.removeprefix(f"{tmp_path}/Annotations/")[:50] for _, _, text, _ in told(file, "error")] == [
        "a.xml: cannot be read as XML: no element found: line 1, column 12"[:50],
        "b.xml: an object has no name; expected name and bndbox"[:50],
        'b.xml: has xmax "one"; expected a number',
        f"c.xml: its image is not in {tmp_path}/JPEGImages"[:50],
    ]
