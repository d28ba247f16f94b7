"""Validation images that are a fraction of the training split."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.support import retina, write_coco
from PIL import Image

from retinanet.checkpoints.checkpoint import BEST, read_metadata
from retinanet.config.schema import Config, DataConfig, SplitConfig, TrainConfig
from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.formats.build import RawColumns
from retinanet.data.held_out import held_out
from retinanet.dataset_analysis.check import check
from retinanet.errors import ConfigError, DataError

N = 20


def coco(root: Path) -> None:
    write_coco(root, "train", N)


def voc(root: Path) -> None:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    for i in range(N):
        Image.new("RGB", (20, 10), (9 * i, 0, 0)).save(root / f"JPEGImages/{i}.png")
        name = f"<object><name>{'ab'[i % 4 == 0]}</name>{box}</object>"
        (root / f"Annotations/{i}.xml").write_text(f"<annotation>{name}</annotation>")
    (root / "ImageSets/Main/train.txt").write_text("\n".join(map(str, range(N))))


def yolo(root: Path) -> None:
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for i in range(N):
        Image.new("RGB", (20, 10), (9 * i, 0, 0)).save(root / f"images/train/{i}.png")
        (root / f"labels/train/{i}.txt").write_text(f"{int(i % 4 == 0)} 0.5 0.5 0.5 0.5\n")
    (root / "classes.txt").write_text("a\nb\n")


def config(root: Path, *overrides: str, text: str = "val: 0.25") -> Config:
    file = root / "config.yaml"
    file.write_text(f"data: {{root: ., train: train, {text}}}\n")
    return load_config(file, overrides)


def names(dataset: Dataset) -> list[str]:
    return [dataset.files[index] for index in range(len(dataset))]


@pytest.mark.parametrize("write", [coco, voc, yolo])
def test_every_format_is_split_in_two_parts(tmp_path: Path, write):
    write(tmp_path)
    data = config(tmp_path).data
    whole = open_dataset(config(tmp_path, text="val: null").data, "train")
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    assert (len(train), len(val)) == (15, 5)
    assert sorted(names(train) + names(val)) == sorted(names(whole))
    assert len(train.boxes) + len(val.boxes) == len(whole.boxes)
    for part in (train, val):
        assert (part.classes, part.category_ids) == (whole.classes, whole.category_ids)
        for index, name in enumerate(names(part)):
            of_whole = names(whole).index(name)
            ours, theirs = slice(*part.first_object[index:][:2]), slice(*whole.first_object[of_whole:][:2])
            assert np.array_equal(part.boxes[ours], whole.boxes[theirs])
            assert np.array_equal(part.annotation_ids[ours], whole.annotation_ids[theirs])
    assert names(open_dataset(data, "val")) == names(val)
    report = check(config(tmp_path))
    assert [report.splits[split].images for split in ("train", "val")] == [15, 5]
    assert not report.count("error") and "shared-image" not in [finding.code for finding in report.findings]


def test_neither_classes_nor_empty_images_nor_another_training_seed_change_the_choice(tmp_path: Path):
    coco(tmp_path)
    first = config(tmp_path)
    val = names(open_dataset(first.data, "val"))
    assert names(open_dataset(config(tmp_path, "data.classes=[red circle]").data, "val")) == val
    assert names(open_dataset(config(tmp_path, "data.skip_empty=true").data, "val")) == val
    assert names(open_dataset(replace(first, train=replace(first.train, seed=7)).data, "val")) == val
    assert names(open_dataset(config(tmp_path, "train.seed=7").data, "val")) != val
    assert names(open_dataset(config(tmp_path, "train.seed=7", "data.val.seed=0").data, "val")) == val


def columns(files: list[str], labels: list[list[int]]) -> RawColumns:
    """Images with objects of `labels`; nothing else matters here."""
    index = np.repeat(np.arange(len(files)), list(map(len, labels)))
    flat = np.array([label for of_image in labels for label in of_image], np.int64)
    one, none = np.zeros(len(flat)), np.zeros((len(flat), 4))
    ids, sizes = np.arange(len(files)), np.ones((len(files), 2))
    k = ["a", "b", "c", "d"]
    return RawColumns("x", k, range(4), Path(), files, ids, sizes, True, index, none, one, flat, one, one)


def test_each_class_gives_its_share_whatever_the_order_of_the_images():
    rng = np.random.default_rng(0)
    labels = [rng.choice(4, size=rng.integers(0, 4), p=[0.7, 0.2, 0.08, 0.02]).tolist() for _ in range(1000)]
    files = [f"{i}.jpg" for i in range(1000)]
    held = held_out(columns(files, labels), 0.2, seed=3)
    assert held.sum() == 200
    for label in range(4):
        having = np.array([label in of_image for of_image in labels])
        assert abs(held[having].sum() - 0.2 * having.sum()) <= 2
    order = rng.permutation(1000)
    shuffled = held_out(columns([files[i] for i in order], [labels[i] for i in order]), 0.2, seed=3)
    assert np.array_equal(shuffled, held[order])


@pytest.mark.parametrize(("n", "fraction", "expected"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.05, 1), (100, 0.333, 33)])
def test_at_least_one_image_is_left_on_either_side(n: int, fraction: float, expected: int):
    for labels in ([[i % 4] for i in range(n)], [[] for _ in range(n)], [[0, 1, 2, 3]] * n):
        assert held_out(columns([f"{i}" for i in range(n)], labels), fraction, 0).sum() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: 20", "data.val.fraction is 20.0, expected 0.001 to 0.999"),
        ("val: true", "data.val is a truth value, expected a mapping"),
        ("val: {fraction: 0.2, name: val}", "data.val has a fraction and name, images or annotations; expected one or"),
        ("val: 0.2, embedded: shapes", "data.val is the fraction 0.2, but shapes has images to evaluate on"),
    ],
)
def test_configs_at_fault(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, text=text)
    assert message in str(raised.value)
    with pytest.raises(ConfigError, match=r"data\.train is the fraction 0\.8; only data\.val can be a fraction"):
        config(tmp_path, "data.train=0.8")


def test_data_at_fault(tmp_path: Path):
    write_coco(tmp_path, "train", 1)
    with pytest.raises(DataError, match=r"data\.val holds out 0\.25 of 1 images; expected two"):
        open_dataset(config(tmp_path).data, "train")
    data = DataConfig(val=SplitConfig(fraction=0.2))
    for split in ("train", "val"):
        with pytest.raises(ConfigError, match=r"data\.train is not set"):
            open_dataset(data, split)
    assert Config(data=data, train=TrainConfig(seed=5)).data.val == SplitConfig(fraction=0.2, seed=5)


def test_a_run_its_evaluation_and_its_continuation_hold_out_the_same_images(tiny: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    text = (tiny / "tiny.yaml").read_text().replace("val: val", "val: 0.25").replace("epochs: 2", "epochs: 1")
    (tmp_path / "split.yaml").write_text(text)
    trained = retina("train", "split.yaml", "-o", "run", "--seed", "4", cwd=tmp_path)
    assert trained.code == 0 and "6 training images of 6 classes, 2 validation images" in trained.err, trained.err
    data = read_metadata(tmp_path / "run" / BEST).config.data
    assert (data.val.fraction, data.val.seed, len(data.val.fingerprint)) == (0.25, 4, 16)
    assert load_config(tmp_path / "run" / "config.yaml").data.val == data.val
    result = retina("eval", "run", "--json", "--save-coco", "found.json", cwd=tmp_path)
    assert result.code == 0, result.err
    val = set(open_dataset(data, "val").image_ids.tolist())
    assert {row["image_id"] for row in json.loads((tmp_path / "found.json").read_text())} <= val
    again = ("train", "split.yaml", "-o", "run", "--resume", "--epochs", "2")
    resumed = retina(*again, "--seed", "4", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    # without its images
    file = tmp_path / "shapes" / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for image in document["images"]:
        image["file_name"] = image["file_name"].replace(".png", ".PNG")
        (tmp_path / "shapes" / "train" / image["file_name"]).symlink_to(image["file_name"].replace(".PNG", ".png"))
    file.write_text(json.dumps(document))
    result = retina("eval", "run", cwd=tmp_path)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "have changed since the run, so that other images would be held out than then" in result.err
    refused = retina(*again, "--seed", "4", cwd=tmp_path)
    assert refused.code == 1 and "data.val.fingerprint was " in refused.err
