"""Weights of other projects: those that are recognised, those refused, and the published ones in torch's cache."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.support import Result, publish, write_coco
from helpers.torchvision_models import random_model
from PIL import Image

from retinanet.checkpoints.checkpoint import read_metadata
from retinanet.checkpoints.convert import _labels_of, import_weights
from retinanet.checkpoints.pretrained import open_model
from retinanet.errors import CheckpointError
from retinanet.inference.detector import Detector, load
from retinanet.inference.torch_model import TorchModel
from retinanet.io.downloads import fetch

V1 = "retinanet_resnet50_fpn_coco-eeacb38b.pth"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, SimpleNamespace]:
    """Random weights in the form that torchvision publishes, in a torch home that also holds an image."""
    folder = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    entries = {}
    for v2, name in ((False, "RetinaNet_ResNet50_FPN_Weights"), (True, "RetinaNet_ResNet50_FPN_V2_Weights")):
        torch.save(random_model(v2).state_dict(), folder / f"{name}.pth")
        entries[f"{name}.COCO_V1"] = publish(folder / f"{name}.pth")
    home = folder.parents[1]
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).save(home / "img.jpg")
    return entries


@pytest.fixture
def v1(published) -> Path:
    return published["RetinaNet_ResNet50_FPN_Weights.COCO_V1"].file


@pytest.fixture
def v2(published) -> Path:
    return published["RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1"].file


@pytest.fixture
def cache(published, monkeypatch) -> Path:
    """The torch home; there is no network, wherever this runs."""
    home = next(iter(published.values())).file.parents[2]
    monkeypatch.setattr("torchvision.models.get_weight", published.__getitem__)
    offline(home, monkeypatch)
    return home


def offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


def test_predict_to_the_letter_with_cached_weights(cache, in_process, tmp_path):
    (tmp_path / "img.jpg").write_bytes((cache / "img.jpg").read_bytes())
    result = in_process("predict", "img.jpg", "--vis")
    assert result.code == 0, result.err
    assert result.err == "wrote 1 annotated image to predictions\n"
    assert Image.open(tmp_path / "predictions" / "img.jpg").size == (128, 96)
    assert len(result.out.splitlines()) > 10


def test_the_second_version(cache, in_process):
    result = in_process("predict", cache / "img.jpg", "-w", "coco_v2", "--score", 0.05, "--json")
    found = json.loads(result.out)["images"][0]["detections"]
    assert result.err == "" and len(found) == 300  # its preset's limit, not COCO's 100
    assert {item["label"] for item in found if item["category_id"] == 85} <= {"clock"}  # category ids are COCO's


def refused(result: Result) -> str:
    """The only line that the command prints."""
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    return result.err.removeprefix("retina: ").rstrip("\n")


def picture(folder: Path) -> Path:
    Image.new("RGB", (128, 96)).save(folder / "img.jpg")
    return folder / "img.jpg"


def test_without_network_or_cache_one_line_says_what_to_do(tmp_path, monkeypatch, in_process):
    offline(tmp_path, monkeypatch)
    message = refused(in_process("predict", picture(tmp_path)))
    assert message.startswith("the published weights coco are not available (")
    assert message.endswith(f"); put {V1} into {tmp_path}/hub/checkpoints, or name another checkpoint with -w")
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_a_file_in_the_cache_that_is_not_what_its_name_says(v2, tmp_path, monkeypatch, in_process):
    offline(tmp_path, monkeypatch)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / V1).write_bytes(v2.read_bytes())
    monkeypatch.setattr(torch, "load", None)
    message = refused(in_process("predict", picture(tmp_path)))
    assert f"({V1} has the SHA-256 {v2.stem[-8:]}..., unlike its name; remove it)" in message


@pytest.mark.parametrize("spoil", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("predict", "photo.png"), V1),
        (("train", "shapes.yaml", "-o", "run", "--set", "model.backbone=resnet18"), "resnet18-f37072fd.pth"),
    ],
)
def test_a_pipe_or_a_device_in_the_cache(tmp_path, monkeypatch, in_process, command, name, spoil):
    offline(tmp_path, monkeypatch)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    spoil(folder / name)
    message = refused(in_process(*command))
    assert f"({folder / name}: is a device or a pipe, expected a file); put {name} into {folder}, or " in message


@pytest.fixture
def served(tmp_path, monkeypatch) -> Callable[[bytes], None]:
    """A function that makes the web answer every request with the given bytes."""
    offline(tmp_path, monkeypatch)

    def serve(content: bytes) -> None:
        class Answer(io.BytesIO):
            def info(self):
                return SimpleNamespace(get_all=lambda name: [str(len(content))])

        monkeypatch.setattr(torch.hub, "urlopen", lambda request: Answer(content))

    return serve


def test_a_download_is_kept_once_its_hash_is_right(tmp_path, served):
    url = "https://example.org/a-2cf24dba.pth"  # the first digits of sha256("hello")
    served(b"hellO")
    with pytest.raises(RuntimeError, match='invalid hash value \\(expected "2cf24dba"'):
        fetch(url)
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []
    served(b"hello")
    assert fetch(url).read_bytes() == b"hello"
    served(b"no second request")
    assert fetch(url) == tmp_path / "hub" / "checkpoints" / "a-2cf24dba.pth"


@pytest.mark.parametrize("scheme", ["http", "file", "ftp"])
def test_only_https_is_allowed(served, scheme):
    served(b"hello")
    with pytest.raises(ValueError, match="does not begin with https"):
        fetch(f"{scheme}://example.org/a-2cf24dba.pth")


def test_an_import_that_is_ended_leaves_nothing(v2, tmp_path):
    script = Path(__file__).parents[1] / "helpers" / "signalled_at.py"
    place = ("retinanet.checkpoints.checkpoint:save_file", "1", "after", "SIGTERM")
    command = [sys.executable, script, *place, "import", v2, "-o", "new.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "retina: terminated\n")
    assert not list(tmp_path.iterdir())


def test_import_makes_a_checkpoint_with_the_same_detections(cache, v2, tmp_path, in_process):
    result = in_process("import", v2, "-o", "v2.safetensors")
    assert (result.code, result.out) == (0, "")
    assert result.err == "wrote v2.safetensors: RetinaNet with resnet50 and 91 classes\n"
    config = read_metadata(tmp_path / "v2.safetensors").config
    assert (config.model.head_norm, config.loss.box, config.data.resize) == ("gn", "giou", "float")
    assert config.detect.max_detections == 300 and config.anchors.whole_pixels
    model, metadata = import_weights(v2)
    detectors = load(tmp_path / "v2.safetensors"), Detector(TorchModel(model), metadata)
    assert detectors[0].data == detectors[1].data
    for detector in detectors:
        detector.data = replace(detector.data, short_side=256)  # as good as 800, and faster
    own, direct = (detector.predict(cache / "img.jpg", 0.05) for detector in detectors)
    assert len(own) == 300
    assert np.array_equal(own.boxes, direct.boxes) and np.array_equal(own.scores, direct.scores)
    again = in_process("import", v2, "-o", "v2.safetensors")
    assert (again.code, again.err) == (1, "retina: v2.safetensors: already exists; choose another file with -o\n")


def test_older_names_of_torchvision(v1, tmp_path):
    state = torch.load(v1, weights_only=True)
    old = {}
    for name, tensor in state.items():
        name = re.sub(r"(conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name) if "head" in name else name
        old[re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)] = tensor
    assert "head.classification_head.conv.6.weight" in old and "backbone.fpn.inner_blocks.2.weight" in old
    torch.save({name: t for name, t in old.items() if "num_batches" not in name}, tmp_path / "old.pth")
    model, _ = import_weights(tmp_path / "old.pth")
    same, _ = import_weights(v1)
    for name, tensor in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_the_published_first_version_has_an_epsilon_of_zero(cache, v1):
    plain, _ = import_weights(v1)
    published, metadata = open_model("coco")
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
        (
            {"a.weight": np.zeros(2), "b": np.zeros(1)},
            "is neither torchvision's RetinaNet nor detectron2's; it contains a.weight, b",
        ),
        ([1, 2], "cannot be read as weights: it contains list, expected named tensors"),
        (
            {"model": {"head.cls_score.weight": np.zeros(2)}},
            "is not a supported RetinaNet: it has no tensor trunk.body.conv1.weight",
        ),
        (
            {"head.cls_score.weight": np.zeros(2), "proposal_generator.x": np.zeros(2)},
            "is not a supported RetinaNet: unexpected tensor ",
        ),
    ],
)
def test_other_files_are_distinguished(tmp_path, held, message):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(CheckpointError) as error:
        import_weights(tmp_path / "other.pkl")
    assert str(error.value).startswith(f"{tmp_path}/other.pkl: {message}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes([200, 201]), "its content is damaged"),  # no instruction of a pickle
        (b"\x80\x02K", "its content is damaged"),  # it ends within a number
        (b"\x80\x02a.", "its content is damaged"),  # it appends to nothing
        (b"\x80\x02K\x07.", "it contains int, expected named tensors"),
    ],
)
def test_damaged_pickles_are_refused_in_words(tmp_path, content, reason):
    (tmp_path / "own.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"own.pkl: cannot be read as weights: {reason}$"):
        import_weights(tmp_path / "own.pkl")


def test_a_file_of_other_objects_is_not_said_to_be_loadable_without_a_check(tmp_path):
    torch.save({"model": SimpleNamespace(a=1)}, tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"own.pth: cannot be read as weights: it holds objects that are no") as e:
        import_weights(tmp_path / "own.pth")
    assert "weights_only" not in str(e.value) and str(e.value).endswith("save the state_dict() of the model alone")


def test_text_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match="text.pth: cannot be read as weights: "):
        import_weights(tmp_path / "text.pth")
    with pytest.raises(CheckpointError, match="gone.pth: no such file; expected weights of torchvision"):
        import_weights(tmp_path / "gone.pth")


def test_a_foreign_file_in_place_of_a_checkpoint_names_import(v1):
    with pytest.raises(
        CheckpointError, match=r"; if it is torchvision's or detectron2's, convert it with retina import$"
    ):
        load(v1)


@pytest.fixture
def own(v1, tmp_path) -> Path:
    """Weights of four classes, as torchvision's training on three: class 0 is the background."""
    state = torch.load(v1, weights_only=True)
    for name in ("weight", "bias"):
        key = f"head.classification_head.cls_logits.{name}"
        state[key] = state[key].unflatten(0, (9, 91))[:, :4].flatten(0, 1).clone()
    torch.save(state, tmp_path / "own.pth")
    return tmp_path / "own.pth"


def test_classes_without_names_are_numbered_and_the_command_says_how_to_name_them(own, in_process):
    result = in_process("import", own)
    wrote, hint = result.err.splitlines()
    assert wrote == "wrote own.safetensors: RetinaNet with resnet50 and 4 classes"
    assert hint == (
        "its classes are named class 1, class 2, ...; --classes NAME,... or --data CONFIG gives their names"
    )


def test_the_command_names_the_classes(own, in_process, tmp_path):
    assert (
        in_process("import", own, "-o", "every.safetensors", "--classes", "none, cat", "--classes", "dog,hat").code == 0
    )
    assert in_process("import", own, "-o", "three.safetensors", "--classes", "cat,dog,hat").code == 0
    every, three = (load(tmp_path / f"{name}.safetensors") for name in ("every", "three"))
    assert (every.classes, every.category_ids) == (("none", "cat", "dog", "hat"), (1, 2, 3, 4))
    assert (three.classes, three.category_ids) == (("cat", "dog", "hat"), (1, 2, 3))
    weights = [each.model.network.cls_subnet.predict.weight for each in (every, three)]
    assert torch.equal(weights[0].unflatten(0, (9, 4))[:, 1:], weights[1].unflatten(0, (9, 3)))


def test_a_data_set_names_the_classes(own, in_process, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "data: {root: data, train: train, classes: [blue circle, red square, red circle]}"
    )
    write_coco(tmp_path / "data", "train", 8)
    result = in_process("import", own, "--data", "own.yaml")
    assert result.code == 0, result.err
    metadata = read_metadata(tmp_path / "own.safetensors")
    assert metadata.classes == ("blue circle", "red square", "red circle")
    assert len(set(metadata.category_ids)) == 3 and all(each % 10 == 0 for each in metadata.category_ids)


def test_labels_of_named_classes():
    labels = lambda ids, held, ours=True: _labels_of(ids, held, ours, Path("w.pth"))  # noqa: E731
    assert labels([10, 20, 30], 3) == [0, 1, 2]
    assert labels([10, 20, 30], 4) == [1, 2, 3]
    assert labels([1, 3, 5], 6) == [1, 3, 5]  # as of COCO's 80 categories among torchvision's 91
    assert labels([0, 1, 2], 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("ids", "held", "of_torchvision", "message"),
    [
        (7, 4, True, "has 4 classes, but 7 names are given; expected 4, or 3 if its class 0 is the background"),
        (3, 4, False, "has 4 classes, but 3 names are given; expected 4"),
    ],
)
def test_a_wrong_number_of_names_is_refused_with_both_numbers(ids, held, of_torchvision, message):
    with pytest.raises(CheckpointError, match=f"^w.pth: {message}$"):
        _labels_of(range(1, ids + 1), held, of_torchvision, Path("w.pth"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ["--classes", "a,b"],
            1,
            "own.pth: has 4 classes, but 2 names are given; expected 4, or 3 if its class 0 is the background",
        ),
        (
            ["--classes", "a,,b"],
            2,
            "--classes: a name is empty; expected names with a comma between them, such as cat,dog",
        ),
        (["--classes", "a,b,a"], 2, "--classes: 'a' is named twice; names must differ"),
        (["--classes", "a", "--data", "x"], 2, "--classes and --data both name the classes; use only one of them"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_a_file_is_written(own, in_process, tmp_path, options, code, message):
    result = in_process("import", "own.pth", *options)
    assert (result.code, result.out, result.err) == (code, "", f"retina: {message}\n")
    assert not (tmp_path / "own.safetensors").exists()
