"""A detector as a library's user has it: what `predict` takes, and at which threshold."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from helpers.support import retina
from PIL import Image

import retinanet
from retinanet.errors import ConfigError, DataError
from retinanet.inference import exported_model
from retinanet.inference.detector import Detector

LOW = 0.0001  # the tiny detector is sure of little


@pytest.fixture(scope="module")
def detector(tiny_run: Path) -> Detector:
    return retinanet.load(tiny_run)


@pytest.fixture(scope="module")
def pictures(tiny: Path) -> list[Path]:
    return sorted((tiny / "shapes" / "val").glob("*.png"))


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("boxes", "scores", "labels"))


def test_files_arrays_and_images_of_pillow_give_the_same(detector: Detector, pictures):
    file = pictures[0]
    with Image.open(file) as opened:
        given = [file, str(file), np.asarray(opened.convert("RGB")), opened, opened.convert("RGBA")]
        results = [detector.predict(each, LOW) for each in given]
    assert len(results[0]) and all(same(results[0], each) for each in results)


def test_a_list_gives_a_list(detector: Detector, pictures):
    one_by_one = [detector.predict(file, LOW) for file in pictures]
    with Image.open(pictures[1]) as opened:
        mixed = [pictures[0], opened, *map(str, pictures[2:])]
        together = detector.predict(mixed, LOW)
    assert len(together) == len(pictures) == 4
    assert all(same(*pair) for pair in zip(one_by_one, together, strict=True))
    batched = detector.predict(tuple(pictures), LOW, batch_size=3)
    assert all(np.allclose(a.scores, b.scores, atol=1e-5) for a, b in zip(one_by_one, batched, strict=True))
    assert detector.predict([]) == [] and detector.predict_batch([]) == []
    [only] = detector.predict(pictures[:1], LOW, labels=[1])
    assert set(only.labels.tolist()) == {1}


def test_the_exported_model_takes_the_same(onnx_file: Path, pictures):
    exported = retinanet.load(onnx_file, "auto")
    assert same(exported.predict(pictures, LOW)[1], exported.predict(pictures[1], LOW))
    assert exported.predict([]) == []


@pytest.mark.parametrize("name", ["tiny_run", "onnx_file", "openvino_file"])
def test_threads_share_a_detector(name: str, request: pytest.FixtureRequest):
    detector = retinanet.load(request.getfixturevalue(name))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((64, 64), (80, 128), (128, 100)) * 6]
    alone = [detector.predict(image, LOW) for image in images]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: detector.predict(image, LOW), images))
    assert len(alone[0]) and all(same(*pair) for pair in zip(alone, together, strict=True))


def test_threads_that_open_their_first_model_share_the_core_of_openvino(monkeypatch):
    made, barrier = [], Barrier(4)

    def make() -> object:
        made.append(object())
        time.sleep(0.05)  # so that every thread finds that there is none yet
        return made[-1]

    def first(_: int) -> object:
        barrier.wait(timeout=60)
        return exported_model.openvino_core()

    monkeypatch.setattr(exported_model, "_core", cache(make))  # the real one stays the only one of this process
    with ThreadPoolExecutor(4) as threads:
        cores = set(threads.map(first, range(4)))
    assert [*cores] == made and len(made) == 1


def test_the_threshold_is_the_commands_unless_another_is_given(tiny_run: Path, pictures):
    scores = retinanet.load(tiny_run).predict(pictures[0], LOW).scores
    top = float(scores[0])
    assert top < 0.3  # so that the default finds nothing
    document = json.loads(retina("predict", pictures[0], "-w", tiny_run, "--json").out)
    assert document["images"][0]["detections"] == []
    assert len(retinanet.load(tiny_run).predict(pictures[0])) == 0
    low = retinanet.load(tiny_run, score_threshold=LOW)
    assert len(low.predict(pictures[0])) == len(scores) and len(low.predict(pictures[0], top)) == 0
    assert low.metadata.config.detect.score_threshold == 0.05  # the config's own


def test_a_score_replaces_the_thresholds_of_the_classes(tiny_run: Path, pictures, tmp_path: Path):
    classes = retinanet.load(tiny_run).classes
    never = "".join(f"- {{label: {name}, threshold: 1}}\n" for name in classes)
    (tmp_path / "never.yaml").write_text(f"classes:\n{never}")
    detector = retinanet.load(tiny_run, thresholds=tmp_path / "never.yaml")
    assert len(detector.predict(pictures[0])) == 0
    assert same(detector.predict(pictures[0], LOW), retinanet.load(tiny_run).predict(pictures[0], LOW))


def test_pillows_orientation_and_depth_count_as_in_a_file(detector: Detector, tmp_path: Path):
    rng = np.random.default_rng(0)
    turned, deep = tmp_path / "turned.jpg", tmp_path / "deep.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(turned, exif=exif)
    Image.fromarray(rng.integers(0, 65536, (40, 60), np.uint16)).save(deep)
    for file, shape in ((turned, (60, 40, 3)), (deep, (40, 60, 3))):
        with Image.open(file) as opened:
            pixels = detector.pixels(opened)
            assert opened.size == (60, 40)  # as it was
        assert pixels.shape == shape and np.array_equal(pixels, detector.read(file))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, ValueError, "image is a int, expected an array, an image of Pillow, a file or a list"),
        (
            np.zeros((4, 4)),
            ValueError,
            r"image is float64 of shape \(4, 4\), expected uint8 of shape \(H, W, 3\), RGB",
        ),
        ("none.png", DataError, "none.png: no such image file"),
        (Image.new("F", (4, 4)), DataError, "image: has floating-point pixels; expected 8 or 16 bits"),
    ],
)
def test_what_is_no_image_is_refused(detector: Detector, image, error, message):
    for given in (image, [image]):
        with pytest.raises(error, match=f"^{message}$"):
            detector.predict(given)


def test_a_torn_file_that_pillow_has_opened_is_named(detector: Detector, tmp_path: Path):
    file = tmp_path / "torn.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with Image.open(file) as opened, pytest.raises(DataError, match=r"torn.png: cannot be read as an image: \w+"):
        detector.predict(opened)


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
def test_a_score_outside_its_range_is_refused(detector: Detector, pictures, score):
    with pytest.raises(ValueError, match=f"^score_threshold is {score}, expected 0 to 1$"):
        detector.predict(pictures[0], score)
    with pytest.raises(ValueError, match="^batch_size is 0, expected at least 1$"):
        detector.predict(pictures, batch_size=0)


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_refused_in_one_line(tiny_run: Path, device):
    expected = f"^the device {device!r} is not available; expected one of auto, cpu"
    with pytest.raises(ConfigError, match=expected):
        retinanet.load(tiny_run, device)
    assert retinanet.load(tiny_run, torch.device("cpu")).model.device == torch.device("cpu")
