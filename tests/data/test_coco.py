import copy
import json

import numpy as np
import pytest
from PIL import Image

from retinanet.config.schema import SplitConfig
from retinanet.data.formats.build import build_dataset
from retinanet.data.formats.coco import read_coco
from retinanet.data.formats.recognise import open_split
from retinanet.errors import DataError

# Two streets of 20 x 10 pixels; the second image's objects stand first, and the category ids have gaps.
DOCUMENT = {
    "images": [
        {"id": 7, "file_name": "street.jpg", "width": 20, "height": 10},
        {"id": 3, "file_name": "sub/road.jpg", "width": 20, "height": 10},
        {"id": 9, "file_name": "empty.jpg", "width": 20, "height": 10},
    ],
    "annotations": [
        {"id": 40, "image_id": 3, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 7.5, "iscrowd": 0},
        {"segmentation": [[0, 0, 5.5, 0], [1e-1]], "id": 41, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5]},
        {"id": 42, "image_id": 3, "category_id": 90, "bbox": [15.5, 5, 10, 10], "area": 20, "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "zebra"}, {"id": 2, "name": "car"}, {"id": 18, "name": "dog"}],
}


@pytest.fixture
def read(tmp_path):
    (tmp_path / "images").mkdir()

    def read(document, classes=None):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "val.json").write_text(text, "utf-8")
        return build_dataset(read_coco(tmp_path / "images", tmp_path / "val.json"), classes)

    return read


def boxes_of(index, *bad):
    """DOCUMENT with further boxes in image 7, ids from 50."""
    document = copy.deepcopy(DOCUMENT)
    document["annotations"] += [
        {"id": 50 + i, "image_id": 7, "category_id": 2, "bbox": box} for i, box in enumerate(bad)
    ]
    return document


def changed(*path, value):
    """DOCUMENT with the entry at `path` set, or deleted if value is None."""
    document = copy.deepcopy(DOCUMENT)
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def test_columns(read):
    dataset = read(DOCUMENT)
    assert dataset.classes == ("car", "dog", "zebra")
    assert dataset.category_ids == (2, 18, 90)
    assert dataset.image_ids.tolist() == [7, 3, 9]
    assert [dataset.files[i] for i in range(3)] == ["street.jpg", "sub/road.jpg", "empty.jpg"]
    assert dataset.first_object.tolist() == [0, 1, 3, 3]
    assert dataset.annotation_ids.tolist() == [41, 40, 42]
    assert dataset.labels.tolist() == [0, 1, 2]
    assert dataset.boxes.tolist() == [[0, 0, 5, 5], [1, 2, 3, 4], [15.5, 5, 10, 10]]
    assert dataset.areas.tolist() == [25, 7.5, 20]
    assert dataset.crowd.tolist() == [False, False, True]
    assert dataset.sizes.tolist() == [[10, 20]] * 3
    assert (dataset.sizes_annotated, dataset.notes) == (True, [])


def test_a_sample_is_clipped_to_its_image(read, tmp_path):
    (tmp_path / "images" / "sub").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "sub" / "road.jpg")
    sample = read(DOCUMENT)[1]
    assert sample.boxes.tolist() == [[1, 2, 4, 6], [15.5, 5, 20, 10]]
    assert (sample.image_id, sample.file, sample.original_size) == (3, "sub/road.jpg", (10, 20))


def test_chosen_classes_stand_in_the_order_given(read):
    dataset = read(DOCUMENT, classes=["zebra", "car"])
    assert dataset.classes == ("zebra", "car")
    assert dataset.category_ids == (90, 2)
    assert (dataset.annotation_ids.tolist(), dataset.labels.tolist()) == ([41, 42], [1, 0])
    assert len(dataset) == 3


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat"], 'val.json: has no class "cat"; the nearest is "car"'),
        (["car", "dog", "car"], "val.json: data.classes has a name twice: car, dog, car"),
    ],
)
def test_classes_at_fault(read, classes, message):
    with pytest.raises(DataError) as raised:
        read(DOCUMENT, classes)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        ([[1, 1, 0, 5]], "has width 0; boxes need width > 0. It was skipped."),
        (
            [[1, 1, 5, -2], [1, 1, 0, 5]],
            "has height -2; boxes need height > 0. It was skipped; 1 like it (51).",
        ),
        (
            [[20, 0, 5, 5], [0, 10, 5, 5], [-5, 0, 5, 5], [0, -5, 5, 5], [21, 0, 5, 5]],
            "has the box [20.0, 0.0, 5.0, 5.0], outside its 20 x 10 pixels. "
            "It was skipped; 4 like it (51, 52, 53, ...).",
        ),
        (
            [[0, 0, float("nan"), 5], [0, 0, float("inf"), 5]],
            "has the box [0.0, 0.0, nan, 5.0]; boxes need finite numbers, below 2^31. It was skipped; 1 like it (51).",
        ),
    ],
    ids=["width", "height", "outside", "not finite"],
)
def test_bad_boxes_are_skipped_with_a_note(read, bad, note):
    dataset = read(boxes_of(7, *bad))
    assert dataset.annotation_ids.tolist() == [41, 40, 42]
    assert dataset.notes == [f'val.json: annotation 50 (image 7, "street.jpg") {note}']


def test_objects_of_an_image_keep_their_order(read):
    dataset = read(boxes_of(7, *[[0, 0, 5, 5]] * 40))
    assert dataset.annotation_ids.tolist() == [41, *range(50, 90), 40, 42]


def test_a_box_that_touches_the_image_is_kept(read):
    dataset = read(boxes_of(7, [-4.5, -4.5, 5, 5], [19.5, 9.5, 5, 5]))
    assert dataset.annotation_ids.tolist() == [41, 50, 51, 40, 42]
    assert dataset.notes == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            "[1, 2]",
            "{path}: is a JSON list; expected an object with COCO's images, annotations and categories",
        ),
        ('{"images": [', "{path}: not JSON: Expecting value: line 1 column 13 (char 12)"),
        (
            "[" * 100_000,
            "{path}: not COCO's JSON: nested too deeply",
        ),
        (
            changed("images", value=None),
            'val.json: has no list "images"; expected COCO\'s images, annotations and categories',
        ),
        (changed("images", value=[]), 'val.json: "images" is empty'),
        (changed("categories", value=[]), 'val.json: "categories" is empty'),
        (changed("annotations", 1, value=5), "val.json: annotations[1] is 5; expected an object"),
        (changed("images", 1, "id", value=7), 'val.json: "images" has id 7 2 times; ids must differ'),
        (changed("annotations", 1, "id", value=40), 'val.json: "annotations" has id 40 2 times; ids must differ'),
        (
            changed("annotations", 1, "image_id", value=8),
            'val.json: annotation 41 has image_id 8; "images" has no such id',
        ),
        (
            changed("annotations", 0, "category_id", value=91),
            'val.json: annotation 40 has category_id 91; "categories" has no such id',
        ),
        (
            changed("annotations", 2, "bbox", value=None),
            'val.json: annotations[2] has no "bbox"; expected 4 numbers, [x, y, width, height]',
        ),
        (
            changed("annotations", 2, "bbox", value=[1, 2, "3", 4]),
            'val.json: annotations[2] has bbox [1, 2, "3", 4]; expected 4 numbers, [x, y, width, height]',
        ),
        (changed("annotations", 0, "id", value="a"), 'val.json: annotations[0] has id "a"; expected an integer'),
        (changed("annotations", 0, "id", value=2**70), f"val.json: annotations[0] has id {2**70}; expected an integer"),
        (changed("annotations", 0, "area", value="big"), 'val.json: annotations[0] has area "big"; expected a number'),
        (changed("annotations", 0, "iscrowd", value=2), "val.json: annotations[0] has iscrowd 2; expected 0 or 1"),
        (changed("images", 0, "file_name", value=5), "val.json: images[0] has file_name 5; expected a string"),
        (changed("images", 0, "width", value=-5), "val.json: images[0] has width -5; expected a number >= 1"),
        *(
            (
                changed("images", 0, "file_name", value=name),
                f'val.json: images[0] has the file name "{name}"; '
                'expected a path inside the image folder, without ".."',
            )
            for name in ("/etc/passwd", "../street.jpg", "a/../../b.jpg", "C:\\street.jpg", "..\\street.jpg")
        ),
    ],
)
def test_faults_of_structure(read, tmp_path, document, message):
    with pytest.raises(DataError) as raised:
        read(document)
    assert str(raised.value) == message.replace("{path}", str(tmp_path / "val.json"))


@pytest.mark.parametrize(("missing", "kind"), [("val.json", "annotation file"), ("images", "image folder")])
def test_missing_data(tmp_path, missing, kind):
    (tmp_path / "images").mkdir()
    (tmp_path / "val.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError) as raised:
        read_coco(tmp_path / "images", tmp_path / "val.json")
    path = tmp_path / missing
    assert str(raised.value) == f"{path}: no such {kind}; data.root (--set data.root=DIR) must be the data set's folder"


def test_sizes_that_are_missing_come_from_the_headers(read, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "images" / "a.jpg", exif=exif)
    image = {"id": 1, "file_name": "a.jpg"}
    dataset = read({"images": [image], "annotations": [], "categories": DOCUMENT["categories"]})
    assert dataset.sizes.tolist() == [[30, 20]]
    assert not dataset.sizes_annotated
    assert dataset[0].image.shape == (30, 20, 3)
    assert dataset[0].boxes.shape == (0, 4)


def test_polygons_are_cut_exactly(read):
    document = changed("annotations", 0, "segmentation", value={"counts": [1, 2], "size": [10, 20]})
    document["annotations"][2]["segmentation"] = []
    document["images"][2]["file_name"] = '"segmentation": [[1, 2]].jpg'
    dataset = read(document)
    assert dataset.files[2] == '"segmentation": [[1, 2]].jpg'
    assert dataset.annotation_ids.tolist() == [41, 40, 42]


def test_coco128(shared_data):
    dataset = open_split(shared_data / "coco128", SplitConfig("train2017"))
    assert len(dataset) == 128
    assert len(dataset.boxes) == 939
    assert dataset.crowd.sum() == 10
    assert dataset.image_ids[np.diff(dataset.first_object) == 0].tolist() == [250, 508]
    assert (len(dataset.classes), dataset.category_ids[0], dataset.category_ids[-1]) == (80, 1, 90)
    assert (dataset.classes[0], dataset.classes[-1]) == ("person", "toothbrush")
    assert dataset.notes == []
    assert dataset[0].image.shape == (480, 640, 3)
    assert len(open_split(shared_data / "coco128", SplitConfig("train2017"), skip_empty=True)) == 126


def test_split_given_by_its_paths(shared_data):
    dataset = open_split(
        shared_data / "coco128",
        SplitConfig(images="train2017", annotations="annotations/instances_train2017.json"),
        classes=["dog", "person"],
        skip_empty=True,
    )
    assert dataset.category_ids == (18, 1)
    assert len(dataset.first_object) == len(dataset) + 1 < 128
    assert np.diff(dataset.first_object).min() == 1
    first = slice(*dataset.first_object[:2])
    assert set(dataset.labels[first].tolist()) <= {0, 1}


def test_roboflow_layout(tmp_path):
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "_annotations.coco.json").write_text(json.dumps(DOCUMENT))
    dataset = open_split(tmp_path, SplitConfig("valid"))
    assert (dataset.folder, len(dataset)) == (tmp_path / "valid", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "val"},
            (
                '{root}: no split "val"; looked for annotations/instances_val.json, annotations/val.json, '
                "val/_annotations.coco.json, ImageSets/Main/val.txt, val in data.yaml, val.txt with obj.names, "
                "images/val with labels/val, val/images with val/labels, val/*.xml; there are no pictures, either"
            ),
        ),
        ({}, "{root}: a split needs images and annotations, or only a name"),
        ({"name": "val", "images": "a"}, "{root}: a split needs images and annotations, or only a name"),
        (
            {"images": "a", "annotations": "b"},
            "{root}/a: no such folder; data.root (--set data.root=DIR) must be the data set's folder",
        ),
        (
            {"images": ".", "annotations": "."},
            "{root}: no annotations found; expected a .json file, or a folder of .xml or .txt files",
        ),
    ],
)
def test_nothing_recognised(tmp_path, arguments, message):
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, SplitConfig(**arguments))
    assert str(raised.value) == message.format(root=tmp_path)


def test_root_is_missing(tmp_path):
    root = tmp_path / "coco"
    with pytest.raises(DataError) as raised:
        open_split(root, SplitConfig("val"))
    assert str(raised.value) == f"{root}: no such folder; data.root (--set data.root=DIR) must be the data set's folder"
