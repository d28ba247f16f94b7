from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from retinanet.config.schema import SplitConfig
from retinanet.data.formats.recognise import open_split
from retinanet.data.formats.voc import read_voc
from retinanet.errors import DataError


def entry(name, corners, difficult=0):
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def page(*objects, filename="", size=(20, 10), head=""):
    width, height = size
    return (
        f"{head}<annotation><filename>{filename}</filename>"
        f"<size><width>{width}</width><height>{height}</height></size>{''.join(objects)}</annotation>"
    )


@pytest.fixture
def voc(tmp_path):
    """Writes pages with an image each and the split "train" of all but the page `other`; returns the root."""

    def write(**pages):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True)
        for stem, text in pages.items():
            (tmp_path / "Annotations" / f"{stem}.xml").write_text(text)
            Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / f"{stem}.png")
        split = "\n".join(stem for stem in pages if stem != "other")
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(split + "\n\n")
        return tmp_path

    return write


def test_columns(voc):
    root = voc(
        b=page(entry("dog", (1, 1, 20, 10)), entry("cat", (3, 4, 5, 6), difficult=1)),
        a=page(),
        c=page(entry("dog", (2.5, 1, 4, 2)), filename="b.png"),
        other=page(entry("ant", (1, 1, 2, 2))),
    )
    dataset = open_split(root, SplitConfig("train"))
    assert dataset.classes == ("ant", "cat", "dog")
    assert dataset.category_ids == (1, 2, 3)
    assert [dataset.files[i] for i in range(3)] == ["b.png", "a.png", "b.png"]
    assert dataset.image_ids.tolist() == [1, 2, 3]
    assert dataset.first_object.tolist() == [0, 2, 2, 3]
    assert dataset.boxes.tolist() == [[0, 0, 20, 10], [2, 3, 3, 3], [1.5, 0, 2.5, 2]]
    assert dataset.areas.tolist() == [200, 9, 5]
    assert dataset.labels.tolist() == [2, 1, 2]
    assert dataset.crowd.tolist() == [False, True, False]
    assert dataset.annotation_ids.tolist() == [1, 2, 3]
    assert (dataset.sizes.tolist(), dataset.sizes_annotated) == ([[10, 20]] * 3, True)
    assert dataset[0].boxes.tolist() == [[0, 0, 20, 10], [2, 3, 5, 6]]


def test_every_page_counts_without_a_split(voc):
    root = voc(a=page(), other=page())
    paths = SplitConfig(images="JPEGImages", annotations="Annotations")
    assert len(open_split(root, paths)) == 2
    assert len(open_split(root, replace(paths, name="train"))) == 1
    with pytest.raises(DataError) as raised:
        open_split(root, paths, skip_empty=True)
    assert str(raised.value) == f"{root}: the split Annotations has no images with objects"


def test_a_box_from_a_pixel_to_itself_is_skipped(voc):
    dataset = open_split(voc(a=page(entry("dog", (3, 4, 3, 9)), entry("dog", (3, 4, 4, 9)))), SplitConfig("train"))
    assert dataset.boxes.tolist() == [[2, 3, 2, 6]]
    assert dataset.notes == [
        'Annotations: annotation 1 (image 1, "a.png") has width 0; boxes need width > 0. It was skipped.'
    ]


@pytest.mark.parametrize("size", [(0, 0), (20, 0), ("", "")])
def test_sizes_that_are_missing_come_from_the_headers(voc, size):
    dataset = open_split(voc(a=page(size=size)), SplitConfig("train"))
    assert (dataset.sizes.tolist(), dataset.sizes_annotated) == ([[10, 20]], False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "{xml}: cannot be read as XML: no element found: line 1, column 12"),
        (
            page(head='<!DOCTYPE a [<!ENTITY b "c">]>'),
            "{xml}: cannot be read as XML: has a DOCTYPE, which annotations do not need",
        ),
        (
            page("<object><name>dog</name></object>"),
            "{xml}: an object has no bndbox/xmin; expected name and bndbox with xmin, ymin, xmax, ymax",
        ),
        (
            page(entry(" ", (1, 1, 2, 2))),
            "{xml}: an object has no name; expected name and bndbox with xmin, ymin, xmax, ymax",
        ),
        (page(entry("dog", (1, "one", 2, 2))), '{xml}: has ymin "one"; expected a number'),
        (
            page(filename="../a.png"),
            '{xml} has the file name "../a.png"; expected a path inside the image folder, without ".."',
        ),
    ],
)
def test_pages_at_fault(voc, text, message):
    root = voc(a=text)
    with pytest.raises(DataError) as raised:
        open_split(root, SplitConfig("train"))
    assert str(raised.value) == message.format(xml=root / "Annotations" / "a.xml")


def test_a_page_or_an_image_is_missing(voc):
    root = voc(a=page(filename="b.png"))
    images, annotations = root / "JPEGImages", root / "Annotations"
    with pytest.raises(DataError) as raised:
        read_voc(images, annotations, ["a", "z"])
    assert str(raised.value) == f'{annotations}/z.xml: no such file; the split names "z"'
    (images / "a.png").unlink()
    with pytest.raises(DataError) as raised:
        read_voc(images, annotations)
    assert str(raised.value) == f'{annotations}/a.xml: its image is not in {images}; looked for "b.png" and a.*'


@pytest.mark.parametrize(
    ("split", "n_images", "n_boxes", "notes"),
    [
        (
            "trainval",
            292,
            3941,
            [
                (
                    'Annotations: annotation 3153 (image 238, "BloodImage_00338.jpg") has width 0; '
                    "boxes need width > 0. It was skipped; 1 like it (3197)."
                )
            ],
        ),
        ("test", 72, 945, []),
    ],
)
def test_bccd(shared_data, split, n_images, n_boxes, notes):
    # 3,941 + 945 + the two without area, in BloodImage_00338 and BloodImage_00343, are the 4,888 of the whole.
    dataset = open_split(shared_data / "bccd", SplitConfig(split))
    assert (len(dataset), len(dataset.boxes)) == (n_images, n_boxes)
    assert dataset.classes == ("Platelets", "RBC", "WBC")
    assert dataset.notes == notes
    assert np.array_equal(dataset.sizes, [[480, 640]] * n_images)
    assert dataset[0].image.shape == (480, 640, 3)


def test_bccd_skips_the_second_box_too(shared_data):
    dataset = open_split(shared_data / "bccd", SplitConfig("trainval"), classes=["RBC"])
    index = [dataset.files[i] for i in range(len(dataset))].index("BloodImage_00343.jpg")
    objects = slice(*dataset.first_object[index : index + 2])
    assert 3197 not in dataset.annotation_ids[objects]
    assert dataset.boxes[objects.start].tolist() == [483, 194, 130, 109]  # xmin 484, ymin 195, xmax 613, ymax 303
    assert (dataset.classes, dataset.category_ids) == (("RBC",), (2,))
