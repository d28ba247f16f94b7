"""A folder in which everything is sound, to be spoiled."""

import shutil
from pathlib import Path

import pytest
from helpers.hostile_input import MODEL
from helpers.support import TINY_MODEL, write_coco


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data in three formats with configs, a checkpoint of its classes, a picture, thresholds, a folder to protect."""
    from PIL import Image

    from retinanet.checkpoints import checkpoint
    from retinanet.checkpoints.metadata import Metadata
    from retinanet.config_file import load_config
    from retinanet.data import open_dataset
    from retinanet.model.retinanet import make_model

    folder = tmp_path_factory.mktemp("sound")
    for split in ("train", "val"):
        write_coco(folder / "coco", split, 2)
    for name in ("voc", "yolo"):
        (folder / f"{name}.yaml").write_text(_config(name))
    (folder / "coco.yaml").write_text(_config("coco"))
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / "voc" / part).mkdir(parents=True)
    for part in ("images/train", "labels/train"):
        (folder / "yolo" / part).mkdir(parents=True)
    picture = Image.open(folder / "coco" / "val" / "0.png")
    for name in ("a", "b"):
        picture.save(folder / "voc" / "JPEGImages" / f"{name}.jpg")
        picture.save(folder / "yolo" / "images" / "train" / f"{name}.jpg")
        (folder / "voc" / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>128</width><height>128</height></size><object>"
            "<name>cell</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>60</xmax><ymax>70</ymax></bndbox></object>"
            "</annotation>"
        )
        (folder / "yolo" / "labels" / "train" / f"{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "voc" / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (folder / "yolo" / "data.yaml").write_text("train: images/train\nnames: [cell]\n")
    (folder / "photos").mkdir()
    picture.save(folder / "photos" / "a.png")

    config = load_config(folder / "coco.yaml")
    dataset = open_dataset(config.data, "train")
    model = make_model(config.model, config.anchors, len(dataset.classes))
    tensors = {checkpoint.MODEL + name: tensor for name, tensor in model.state_dict().items()}
    checkpoint.save(folder / MODEL, tensors, Metadata(config, dataset.classes, dataset.category_ids))
    entries = "".join(f"- {{label: {name}, threshold: 0.001}}\n" for name in dataset.classes)
    (folder / "thresholds.yaml").write_text("classes:\n" + entries)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_text("nobody reads or writes this")
    return folder


def _config(data: str) -> str:
    val = ", val: val" if data == "coco" else ""
    return f"data: {{root: {data}, train: train{val}, short_side: 64, workers: 0}}\nmodel: {TINY_MODEL}\n"


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, the working folder of the command."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path
