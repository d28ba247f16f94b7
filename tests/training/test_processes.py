"""Several processes train the detector that a single one trains."""

import json
from pathlib import Path

import pytest
import torch
from helpers.processes import run
from helpers.support import TINY_MODEL, write_coco
from helpers.train_cases import CASES, train_cases

from retinanet.checkpoints.checkpoint import read_tensors

SCRIPT = Path(__file__).parents[1] / "helpers" / "train_cases.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images of three sizes, half of them without objects, and a config that trains on them at two scales."""
    folder = tmp_path_factory.mktemp("processes")
    write_coco(folder / "shapes", "train", 20)
    resize_pictures(folder / "shapes")
    (folder / "config.yaml").write_text(
        "data: {root: shapes, train: train, short_side: 64, long_side: 160, workers: 0}\n"
        f"model: {TINY_MODEL[:-1]}, trunk_norm: gn}}\n"
        "train: {batch_size: 8, optimizer: sgd, lr: 0.001, warmup_steps: 0, log_every: 1,\n"
        "        augment: {short_sides: [48, 64], jitter: 0.5, crop: 0.5}}\n"
    )
    return folder


def resize_pictures(root: Path) -> None:
    """Change the shape of two thirds of the pictures, and remove the objects of every second."""
    from PIL import Image

    file = root / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for image in document["images"]:
        width, height = ((128, 128), (200, 100), (100, 200))[image["id"] % 3]
        picture = Image.open(root / "train" / image["file_name"])
        picture.resize((width, height)).save(root / "train" / image["file_name"])
        for annotation in document["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, w, h = annotation["bbox"]
                annotation["bbox"] = [x * width / 128, y * height / 128, w * width / 128, h * height / 128]
        image |= {"width": width, "height": height}
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] % 2]
    file.write_text(json.dumps(document))


def joined_tensors(file: Path, prefix: str) -> torch.Tensor:
    tensors = read_tensors(file)
    names = sorted(name for name in tensors if name.startswith(prefix) and tensors[name].is_floating_point())
    return torch.cat([tensors[name].flatten().double() for name in names])


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_train_what_one_trains(data: Path, tmp_path: Path, world: int):
    train_cases(data / "config.yaml", tmp_path / "one")
    results = run(world, SCRIPT, data / "config.yaml", tmp_path / "many")
    assert [(result.code, result.out, result.err) for result in results] == [(0, "", "")] * world
    differences = {}
    for case in CASES:
        folders = [tmp_path / name / case / "last.safetensors" for name in ("one", "many")]
        (gradient, other_gradient), (weights, other_weights) = (
            [joined_tensors(folder, prefix) for folder in folders] for prefix in ("optimizer.", "model.")
        )
        differences[case] = (
            float((gradient - other_gradient).norm() / gradient.norm()),
            float((weights - other_weights).abs().max()),
        )
    print(f"{world} processes: {differences}")
    rounding = differences.pop("bf16")[0]
    alone = joined_tensors(tmp_path / "one" / "sgd" / "last.safetensors", "optimizer.")
    in_bf16 = joined_tensors(tmp_path / "one" / "bf16" / "last.safetensors", "optimizer.")
    assert rounding <= float((in_bf16 - alone).norm() / alone.norm())
    after_six = differences.pop("sgd, six steps")[1]
    assert after_six <= 1e-5
    assert max(gradient for gradient, _ in differences.values()) <= 1e-5, differences
    assert max(weights for _, weights in differences.values()) <= 1e-5, differences
