"""Other projects' weights: what is recognised, what is refused, and the published ones in torch's cache."""

import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import RETINA
from torchvision_models import random_model

from retinanet.checkpoint import read_metadata
from retinanet.errors import CheckpointError
from retinanet.prediction import Detector, load
from retinanet.weights import import_weights

V1, V2 = "retinanet_resnet50_fpn_coco-eeacb38b.pth", "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A torch home with weights made here under the published files' names, and a picture."""
    home = tmp_path_factory.mktemp("torch")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    for v2, name in ((False, V1), (True, V2)):
        torch.save(random_model(v2).state_dict(), home / "hub" / "checkpoints" / name)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).save(home / "img.jpg")
    return home


def retina(*arguments: object, home: Path, cwd: Path) -> subprocess.CompletedProcess:
    # no network, wherever this runs
    environment = os.environ | {"TORCH_HOME": str(home), "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run([RETINA, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True)


def test_predict_to_the_letter_with_cached_weights(cache):
    result = retina("predict", "img.jpg", "--vis", home=cache, cwd=cache)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "annotated copies: 1 in predictions\n"
    assert Image.open(cache / "predictions" / "img.jpg").size == (128, 96)
    assert len(result.stdout.splitlines()) > 10


def test_the_second_version(cache):
    result = retina("predict", "img.jpg", "-w", "coco_v2", "--score", 0.05, "--json", home=cache, cwd=cache)
    found = json.loads(result.stdout)["images"][0]["detections"]
    assert result.stderr == "" and len(found) == 300  # its preset's limit, not COCO's 100
    assert {item["label"] for item in found if item["category_id"] == 85} <= {"clock"}  # category ids are COCO's


def test_without_network_or_cache_one_line_tells_what_to_do(cache, tmp_path):
    result = retina("predict", cache / "img.jpg", home=tmp_path, cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("retina: the published weights coco are not at hand (")
    assert result.stderr.endswith(f"); lay {V1} into {tmp_path}/hub/checkpoints, or name another checkpoint with -w\n")
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_a_damaged_file_in_the_cache(cache, tmp_path):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / V1).write_bytes((cache / "hub" / "checkpoints" / V1).read_bytes()[:100_000])
    result = retina("predict", cache / "img.jpg", home=tmp_path, cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"{V1}: cannot be read as weights: " in result.stderr


def test_import_makes_a_checkpoint_that_finds_the_same(cache, tmp_path):
    file = cache / "hub" / "checkpoints" / V2
    result = retina("import", file, "-o", "v2.safetensors", home=cache, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "resnet50, 91 classes, in v2.safetensors\n"
    config = read_metadata(tmp_path / "v2.safetensors").config
    assert (config.model.head_norm, config.loss.box, config.data.resize) == ("gn", "giou", "float")
    assert config.detect.max_detections == 300 and config.anchors.whole_pixels
    own = load(tmp_path / "v2.safetensors").predict(cache / "img.jpg")
    direct = Detector(*import_weights(file)).predict(cache / "img.jpg")
    assert len(own) == 300
    assert np.array_equal(own.boxes, direct.boxes) and np.array_equal(own.scores, direct.scores)
    again = retina("import", file, "-o", "v2.safetensors", home=cache, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (1, "retina: v2.safetensors: exists; -o names another file\n")


def test_older_names_of_torchvision(cache, tmp_path):
    state = torch.load(cache / "hub" / "checkpoints" / V1, weights_only=True)
    old = {}
    for name, tensor in state.items():
        name = re.sub(r"(conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name) if "head" in name else name
        old[re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)] = tensor
    assert "head.classification_head.conv.6.weight" in old and "backbone.fpn.inner_blocks.2.weight" in old
    torch.save({name: t for name, t in old.items() if "num_batches" not in name}, tmp_path / "old.pth")
    model, _ = import_weights(tmp_path / "old.pth")
    same, _ = import_weights(cache / "hub" / "checkpoints" / V1)
    for name, tensor in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_the_published_first_version_has_no_epsilon(cache, monkeypatch):
    from retinanet import weights

    monkeypatch.setenv("TORCH_HOME", str(cache))
    plain, _ = import_weights(cache / "hub" / "checkpoints" / V1)
    published, metadata = weights.published("coco")
    ours, theirs = plain.trunk.body.bn1, published.trunk.body.bn1
    torch.testing.assert_close(theirs.weight / ours.weight, torch.sqrt((ours.running_var + 1e-5) / ours.running_var))
    assert len(metadata.classes) == 91 and metadata.classes[1] == "person" and metadata.category_ids[90] == 90
    assert sum(name.startswith("unused") for name in metadata.classes) == 11


class Trap:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("make", [pickle.dump, lambda held, file: torch.save(held, file.name)])
def test_a_file_that_would_run_code_is_refused_and_nothing_runs(tmp_path, make):
    with (tmp_path / "trap.pkl").open("wb") as file:
        make({"model": {"head.cls_score.weight": Trap(tmp_path / "ran")}}, file)
    with pytest.raises(CheckpointError, match=r"trap\.pkl: cannot be read as weights: ") as error:
        import_weights(tmp_path / "trap.pkl")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"a.weight": np.zeros(2), "b": np.zeros(1)}, "is neither torchvision's RetinaNet nor detectron2's; it holds a.weight, b"),
        ([1, 2], "holds list, expected named tensors"),
        ({"model": {"head.cls_score.weight": np.zeros(2)}}, "is no RetinaNet that is known here: "),
        (
            {"head.cls_score.weight": np.zeros(2), "proposal_generator.x": np.zeros(2)},
            "is no RetinaNet that is known here: unexpected tensor ",
        ),
    ],
)  # fmt: skip
def test_other_files_are_told_apart(tmp_path, held, message):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(CheckpointError) as error:
        import_weights(tmp_path / "other.pkl")
    assert str(error.value).startswith(f"{tmp_path}/other.pkl: {message}")


def test_text_and_nothing(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match="text.pth: cannot be read as weights: "):
        import_weights(tmp_path / "text.pth")
    with pytest.raises(CheckpointError, match="gone.pth: no such file; expected weights of torchvision"):
        import_weights(tmp_path / "gone.pth")


def test_a_foreign_file_in_place_of_a_checkpoint_names_import(cache, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"; if it is torchvision's or detectron2's, retina import makes one of it$"
    ):
        load(cache / "hub" / "checkpoints" / V1)
