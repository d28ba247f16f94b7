import pytest
from PIL import Image

from retinanet.config.schema import SplitConfig
from retinanet.data.formats.recognise import open_split
from retinanet.errors import DataError

LINES = "1 0.5 0.5 0.5 1\n\n0 0.1 0.2 0.3 0.2 0.3 0.6\n"


def image(path, orientation=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (20, 10)).save(path, exif=exif)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def files(dataset):
    return [dataset.files[index] for index in range(len(dataset))]


def test_columns(tmp_path):
    image(tmp_path / "images/train/b.jpg")
    image(tmp_path / "images/train/a.jpg", orientation=6)
    image(tmp_path / "images/train/c.PNG")
    for stem in "ab":
        text(tmp_path / f"labels/train/{stem}.txt", LINES)
    text(tmp_path / "data.yaml", "names: [no, yes, 3]")
    dataset = open_split(tmp_path, SplitConfig("train"))
    assert dataset.classes == ("no", "yes", "3")
    assert dataset.category_ids == (0, 1, 2)
    assert files(dataset) == ["a.jpg", "b.jpg", "c.PNG"]
    assert dataset.folder == tmp_path / "images/train"
    assert dataset.image_ids.tolist() == [1, 2, 3]
    assert (dataset.sizes.tolist(), dataset.sizes_annotated) == ([[20, 10], [10, 20], [10, 20]], False)
    assert dataset.first_object.tolist() == [0, 2, 4, 4]
    assert dataset.labels.tolist() == [1, 0, 1, 0]
    assert dataset.annotation_ids.tolist() == [1, 2, 3, 4]
    assert dataset.boxes.ravel() == pytest.approx([2.5, 0, 5, 20] + [1, 4, 2, 8] + [5, 0, 10, 10] + [2, 2, 4, 4])
    assert dataset.areas == pytest.approx([100, 16, 100, 16])
    assert not dataset.crowd.any()
    assert dataset[0].image.shape == (20, 10, 3)


LAYOUTS = {
    "images/val + labels/val": ("images/val", "labels/val", "names: [a, b]"),
    "val/images + val/labels": ("val/images", "val/labels", "names: {0: a, 1: b}"),
    "a folder in data.yaml": ("photos/images/x", "photos/labels/x", "val: photos/images\nnames: [a, b]"),
    "folders in data.yaml": ("p/images", "p/labels", "val: [p/images]\nnames: [a, b]"),
    "with a path that is not here": ("val/images", "val/labels", "path: /elsewhere\nval: ../val/images\nnames: [a, b]"),
    "below a path": ("data/images", "data/labels", "path: data\nval: images\nnames: [a, b]"),
    "a list in data.yaml": ("images/x", "labels/x", "val: val.txt\nnames: [a, b]"),
    "labels beside the images": ("mixed", "mixed", "val: mixed\nnames: [a, b]"),
}


@pytest.mark.parametrize(("images", "labels", "yaml"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, images, labels, yaml):
    image(tmp_path / images / "a.jpg")
    text(tmp_path / labels / "a.txt", LINES)
    text(tmp_path / "val.txt", f"./{images}/a.jpg\n")
    text(tmp_path / "data.yaml", yaml)
    dataset = open_split(tmp_path, SplitConfig("val"))
    assert (dataset.classes, dataset.labels.tolist()) == (("a", "b"), [1, 0])
    assert (dataset.folder / dataset.files[0]).is_file()


@pytest.mark.parametrize("names", ["classes.txt", "obj.names", "labels/classes.txt", "labels/obj.names"])
def test_split_given_by_its_paths(tmp_path, names):
    image(tmp_path / "photos/deep/a.b.jpg")
    image(tmp_path / "photos/c.jpg")
    text(tmp_path / "labels/deep/a.b.txt", LINES)
    text(tmp_path / names, "cat\ndog\n\n")
    dataset = open_split(tmp_path, SplitConfig(images="photos", annotations="labels"), classes=["dog"])
    assert (dataset.classes, dataset.category_ids) == (("dog",), (1,))
    assert files(dataset) == ["c.jpg", "deep/a.b.jpg"]
    assert dataset.first_object.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "has 4 values; expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..."),
        ("0 0.5 0.5 0.5 0.5 0.9 0.9 0.9", "has 8 values; expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..."),
        ("0 0.5 O.5 0.5 0.5", 'has "O.5"; expected numbers, class cx cy w h'),
        ("2 0.5 0.5 0.5 0.5", "has class 2; expected 0 to 1, as there are 2 names"),
        ("-1 0.5 0.5 0.5 0.5", "has class -1; expected 0 to 1, as there are 2 names"),
        ("0.5 0.5 0.5 0.5 0.5", "has class 0.5; expected 0 to 1, as there are 2 names"),
        ("nan 0.5 0.5 0.5 0.5", "has class nan; expected 0 to 1, as there are 2 names"),
    ],
)
def test_lines_at_fault(tmp_path, line, message):
    image(tmp_path / "images/val/a.jpg")
    text(tmp_path / "labels/val/a.txt", f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    text(tmp_path / "classes.txt", "cat\ndog")
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, SplitConfig("val"))
    assert str(raised.value) == f"{tmp_path}/labels/val/a.txt, line 3: {message}"


def test_all_files_at_fault_are_listed(tmp_path):
    """Those of pictures and those of labels; a picture without label file is none."""
    for stem in "abcd":
        image(tmp_path / f"images/train/{stem}.jpg")
        text(tmp_path / f"labels/train/{stem}.txt", LINES)
    (tmp_path / "images/train/a.jpg").write_bytes(b"")
    text(tmp_path / "images/train/b.jpg", "no picture")
    (tmp_path / "labels/train/c.txt").unlink()
    (tmp_path / "labels/train/c.txt").mkdir()
    text(tmp_path / "labels/train/d.txt", "0 0.5 0.5\n")
    text(tmp_path / "data.yaml", "names: [no, yes]")
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, SplitConfig("train"))
    assert [str(fault).removeprefix(f"{tmp_path}/") for fault in raised.value.faults] == [
        "images/train/a.jpg: is empty",
        'images/train/b.jpg: not an image but text: "no picture"',
        "labels/train/c.txt: cannot be read: Is a directory",
        "labels/train/d.txt, line 1: has 3 values; expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ...",
    ]


def test_bad_boxes_are_skipped_with_a_note(tmp_path):
    image(tmp_path / "images/val/a.jpg")
    text(tmp_path / "labels/val/a.txt", "0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0 0.5\n0 1.5 0.5 0.5 0.5\n")
    text(tmp_path / "classes.txt", "cat")
    dataset = open_split(tmp_path, SplitConfig("val"))
    assert dataset.annotation_ids.tolist() == [1]
    assert dataset.notes == [
        'val: annotation 2 (image 1, "a.jpg") has width 0; boxes need width > 0. It was skipped.',
        (
            'val: annotation 3 (image 1, "a.jpg") has the box [25.0, 2.5, 10.0, 5.0], outside its 20 x 10 pixels. '
            "It was skipped."
        ),
    ]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "val: images/val",
            "{root}: no class names; put them into data.yaml (names: [...]), classes.txt or obj.names there, or list "
            "them in data.classes",
        ),
        ("val: gone\nnames: [a]", "{root}/data.yaml: val names gone, which does not exist; looked for {root}/gone"),
        (
            "val: images/val\nnames: {1: a, 2: b}",
            "{root}/data.yaml: names has the keys ['1', '2']; expected 0, 1, 2, ...",
        ),
        ("- a", "{root}/data.yaml: contains a list, expected a mapping with train, val and names"),
        ("val: empty\nnames: [a]", "{root}: the split val has no images"),
    ],
)
def test_data_yaml_at_fault(tmp_path, yaml, message):
    image(tmp_path / "images/val/a.jpg")
    (tmp_path / "empty").mkdir()
    text(tmp_path / "data.yaml", yaml)
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, SplitConfig("val"))
    assert str(raised.value) == message.format(root=tmp_path)


def test_data_yaml_is_no_yaml(tmp_path):
    text(tmp_path / "data.yaml", "names: [a")
    with pytest.raises(DataError) as raised:
        open_split(tmp_path, SplitConfig("val"))
    assert str(raised.value).startswith(f"{tmp_path}/data.yaml: is not readable YAML: while parsing a flow sequence")
    assert "\n" not in str(raised.value)
