"""`retina init`: a config from a folder."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.support import write_coco

from retinanet.config_file import load_config
from retinanet.data import open_dataset


def test_the_config_that_it_writes_works(in_process, tmp_path):
    for split, images in (("train", 6), ("val", 3)):
        write_coco(tmp_path / "a set", split, images)
    result = in_process("init", "a set")
    assert result.code == 0 and result.err == "wrote a set.yaml; read it, then: retina check 'a set.yaml', " + (
        "retina train 'a set.yaml'\n"
    )
    rows = [row.replace("│", " ").split() for row in result.out.splitlines()]
    assert ["train", "train", "6"] in [row[:3] for row in rows]
    config = load_config(tmp_path / "a set.yaml")
    assert (config.data.train.name, config.data.val.name, config.data.short_side) == ("train", "val", 256)
    assert [len(open_dataset(config.data, split)) for split in ("train", "val")] == [6, 3]
    assert in_process("check", "a set.yaml", "--fast").code == 0
    again = in_process("init", "a set")
    assert (again.code, again.err) == (1, "retina: a set.yaml: exists; choose another name with -o\n")


def test_json_and_a_folder_elsewhere(in_process, tmp_path):
    write_coco(tmp_path / "data", "train", 4)
    Path("sub").mkdir()
    document = json.loads(in_process("init", "data", "-o", "sub/x.yaml", "--json").out)
    assert document["config"] == "sub/x.yaml" and len(document["classes"]) >= 3
    assert [(row["split"], row["used as"], row["images"]) for row in document["splits"]] == [("train", "train", 4)]
    text = Path("sub/x.yaml").read_text()
    assert "root: ../data" in text and "val: 0.2" in text
    data = load_config("sub/x.yaml").data
    assert [len(open_dataset(data, split)) for split in ("train", "val")] == [3, 1]


def move_labelimg(data: Path) -> None:
    """One folder with pictures and XML files of the same names."""
    size = "<size><width>64</width><height>64</height></size>"
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"
    for picture in data.glob("train/*"):
        page = f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>"
        picture.with_suffix(".xml").write_text(page)
        for file in (picture, picture.with_suffix(".xml")):
            file.rename(data / file.name)
    shutil.rmtree(data / "train")
    shutil.rmtree(data / "annotations")


def move_label_studio(data: Path) -> None:
    (data / "train").rename(data / "images")
    (data / "annotations/instances_train.json").rename(data / "result.json")


def move_own_names(data: Path) -> None:
    (data / "train").rename(data / "my: pictures")
    (data / "annotations/instances_train.json").rename(data / "boxes.json")
    (data / "annotations").rmdir()


@pytest.mark.parametrize(
    ("move", "files"),
    [
        (move_labelimg, "{images: ., annotations: .}"),
        (move_label_studio, "{images: images, annotations: result.json}"),
        (move_own_names, "{images: 'my: pictures', annotations: boxes.json}"),
    ],
)
def test_a_data_set_without_splits(in_process, tmp_path, move, files):
    write_coco(tmp_path / "data", "train", 5)
    move(tmp_path / "data")
    result = in_process("init", "data")
    assert result.code == 0 and files in result.out
    text = Path("data.yaml").read_text()
    assert f"  train: {files}  # 5 images" in text and "  val: 0.2  #" in text
    data = load_config("data.yaml").data
    assert [len(open_dataset(data, split)) for split in ("train", "val")] == [4, 1]


def test_two_folders_of_pictures_leave_a_choice(in_process, tmp_path):
    write_coco(tmp_path / "data", "train", 2)
    move_own_names(tmp_path / "data")
    shutil.copytree("data/my: pictures", "data/more")
    result = in_process("init", "data")
    assert result.code == 1 and result.err.startswith("retina: data/boxes: no such image folder")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("gone", "gone: no such folder"),
        (__file__, "test_init.py: is a file, expected the folder of a data set"),
        (".", 'no split "train"'),
    ],
)
def test_a_folder_that_holds_no_data_set(in_process, folder, message):
    result = in_process("init", folder, "-o", "x.yaml")
    assert result.code == 1 and message in result.err and not Path("x.yaml").exists()
