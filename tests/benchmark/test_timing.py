"""What `retina bench` measures; never how long it takes."""

from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import detection

from retinanet.benchmark import timing as bench
from retinanet.benchmark.random_detector import save_random_detector
from retinanet.benchmark.subject import Subject, open_subject, with_short_side
from retinanet.benchmark.timing import (
    PairedTiming,
    predict_in_stages,
    time_in_turns,
    time_pairs,
    time_predict,
    time_stages,
    workload,
)
from retinanet.benchmark.torchvision_detectors import make_torchvision_detector
from retinanet.checkpoints.checkpoint import read_tensors
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config, DataConfig
from retinanet.inference.detector import Detector
from retinanet.inference.exported_model import ExportedModel
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import make_model
from retinanet.paper.speed_table import PAPER, Row, rows

METADATA = Metadata(Config(DataConfig(short_side=64, long_side=107)), ("a", "b"), (1, 2))


@pytest.fixture(scope="module")
def subject():
    with open_subject(None, depth=18, short_side=64) as made:
        yield made


def one_box(inputs):
    """The same in each image, as a file of ONNX Runtime or OpenVINO would find it."""
    images = len(inputs["images"])
    boxes = np.array([[[1, 2, 3, 4]]] * images, np.float32)
    return [boxes, np.full((images, 1), 0.5, np.float32), np.ones((images, 1), np.int64), np.ones(images, np.int64)]


def test_calls_take_each_input_in_turns_and_the_first_one_warms_up(clock):
    clock(9, 0, 9, 0, 1, 0, 5, 0, 2, 0, 6, 0, 3, 0, 10, 0)
    taken = []
    ours, theirs = time_in_turns(
        [lambda x: taken.append(("ours", x)), lambda x: taken.append(("theirs", x))], [7, 8, 9]
    )
    assert taken == [(name, x) for x in (7, 7, 8, 9) for name in ("ours", "theirs")]
    assert (ours, theirs) == pytest.approx((2000, 6000))


@pytest.fixture
def exported() -> Detector:
    return Detector(ExportedModel(METADATA, Path("one.onnx"), one_box), METADATA)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Makes the clock tell these seconds, one after the other."""

    def tell(*intervals: float) -> None:
        times = iter(np.cumsum([0, *intervals]).tolist())
        monkeypatch.setattr(bench.time, "perf_counter", lambda: next(times))

    return tell


def no_progress(done: int, total: int) -> None:
    pass


def equal(a, b) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("boxes", "scores", "labels"))


def test_stages_are_those_of_predict(subject: Subject):
    found, seconds = predict_in_stages(subject.detector, subject.file)
    assert equal(found, subject.detector.predict(subject.file)) and len(found) == 100
    assert len(seconds) == 6 and min(seconds) > 0


def test_stages_of_an_exported_model_are_those_of_predict(exported: Detector, subject: Subject):
    found, seconds = predict_in_stages(exported, subject.file)
    assert equal(found, exported.predict(subject.file)) and len(found) == 1
    assert len(seconds) == 3


def test_no_clock_stays_behind(exported: Detector, subject: Subject, clock):
    """A model that kept one would read it at its next use."""
    predict_in_stages(exported, subject.file)
    predict_in_stages(subject.detector, subject.file)
    clock()
    assert len(exported.predict(subject.file)) == 1 and len(subject.detector.predict(subject.file)) == 100


def test_stage_times_are_medians_without_the_first_run(exported: Detector, subject: Subject, clock):
    pauses = repeat([0])
    runs = [[9, 9, 9], [1, 2, 30], [2, 1, 10], [3, 6, 20]]
    clock(*chain.from_iterable(chain(*zip(runs, pauses, strict=False))))
    speed = time_stages(exported, subject.file, 3, no_progress)
    assert speed.stages == {"decode": 2000, "resize": 2000, "network, decode + NMS": 20000}
    assert speed.total == 29000  # of 33, 13 and 29 s
    assert speed.memory > 0


def test_both_of_a_pair_run_in_turns(exported: Detector, clock):
    image, order = np.zeros((48, 64, 3), np.uint8), []
    exported.predict = lambda image: order.append("ours")  # type: ignore[method-assign]
    pairs = [(9, 1), (1, 2), (2, 2), (3, 9)]
    clock(*(second for ours, theirs in pairs for second in (ours, 0, theirs, 0)))
    seen = []
    found = time_pairs(
        exported, lambda image: order.append("theirs"), image, 3, lambda done, total: seen.append((done, total))
    )
    assert found == PairedTiming(ours=2000, theirs=2000, ratio=2)  # the median of 2, 1 and 3
    assert order == ["ours", "theirs"] * 4
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_time_of_predict(exported: Detector, clock):
    clock(9, 0, 1, 0, 5, 0, 2, 0)
    assert time_predict(exported, np.zeros((48, 64, 3), np.uint8), 3, no_progress) == 2000


def test_workload_of_random_weights(subject: Subject):
    asks = workload(subject.detector, subject.image)
    assert asks.size == (64, 85) and asks.padded == (64, 96)  # of 480 x 640
    assert asks.anchors == 9 * (8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1 * 1)
    assert asks.candidates == 3000 and asks.detections == 100


def test_an_exported_model_tells_only_what_it_finds(exported: Detector, subject: Subject):
    asks = workload(exported, subject.image)
    assert (asks.size, asks.padded, asks.detections) == ((64, 85), (64, 96), 1)
    assert asks.anchors is None and asks.candidates is None


def test_a_new_model_has_no_candidates(subject: Subject):
    config = Config(METADATA.config.data)
    model = make_model(config.model, config.anchors, 2, pretrained=False).eval()
    assert workload(Detector(TorchModel(model), METADATA), subject.image).candidates == 0


def test_the_random_detector_is_always_the_same_and_takes_no_random_numbers(subject: Subject, tmp_path: Path):
    state = torch.get_rng_state()
    save_random_detector(tmp_path / "again.safetensors", 18, subject.image, subject.detector.data)
    assert torch.equal(torch.get_rng_state(), state)
    again, once = read_tensors(tmp_path / "again.safetensors"), read_tensors(Path(subject.path))
    assert again.keys() == once.keys() and all(torch.equal(again[name], once[name]) for name in again)


def test_nothing_is_left():
    with open_subject(None, depth=18, short_side=32) as made:
        assert made.detector.backbone == "resnet18" and made.file.exists()
    assert not made.file.parent.exists() and not Path(made.path).parent.exists()


def test_a_picture_of_ones_own(tmp_path: Path):
    file = tmp_path / "wide.png"
    Image.new("RGB", (300, 100), (200, 30, 30)).save(file)
    with open_subject(None, depth=18, short_side=32, picture=file) as made:
        assert made.file == file and made.image.shape == (100, 300, 3)
        assert workload(made.detector, made.image).size == (18, 53)  # 1333 / 800 limits the long side
    assert file.exists()


def test_the_long_side_keeps_its_proportion():
    data = DataConfig(short_side=800, long_side=1333)
    assert with_short_side(data, 600).long_side == 1000  # 999.75
    assert with_short_side(data, 32).long_side == 53
    assert with_short_side(data, None) == data


def test_rows_of_table_1e(subject: Subject):
    seen = []
    made = rows(subject.detector, subject.image, [64, 96], 1, lambda *now: seen.append(now))
    assert [(row.scale, row.long_side, row.work.padded) for row in made] == [(64, 107, (64, 96)), (96, 160, (96, 128))]
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert all(row.ap is None and row.paper is None for row in made)
    assert subject.detector.data.short_side == 64
    asks = made[0].work
    assert Row("resnet101", 600, 1000, asks, 1.0, None).paper == (122, 36.0)
    assert Row("efficientnet_lite0", 600, 1000, asks, 1.0, None).paper is None


def test_table_1e_gains_accuracy_and_takes_longer_with_scale_and_depth():
    assert set(PAPER) == {(f"resnet{d}", s) for d in (50, 101) for s in (400, 500, 600, 700, 800)}
    for column in (0, 1):
        values = np.array([[PAPER[f"resnet{d}", s][column] for s in (400, 500, 600, 700, 800)] for d in (50, 101)])
        assert (np.diff(values, axis=0) > 0).all() and (np.diff(values, axis=1) > 0).all()


def test_torchvisions_retinanet_gets_as_many_candidates(subject: Subject):
    peer = make_torchvision_detector("torchvision", "resnet18", 80, subject.image, 64, 107, 700, "cpu")
    logits = []
    peer.model.head.register_forward_hook(lambda module, inputs, output: logits.append(output["cls_logits"]))
    found = peer.predict(subject.image)
    assert int((logits[0].sigmoid() > 0.05).sum()) == 700
    assert peer.name == "retinanet_resnet18_fpn" and peer.padded == (64, 96)
    assert peer.detections == len(found["boxes"]) > 50 and found["scores"].min() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "function"),
    [("torchvision", detection.retinanet_resnet50_fpn), ("faster-rcnn", detection.fasterrcnn_resnet50_fpn)],
)
def test_with_resnet50_the_detector_is_that_of_torchvisions_function(architecture, function, subject: Subject):
    peer = make_torchvision_detector(architecture, "resnet50", 80, subject.image, 64, 107, 700, "cpu")
    classes = 80 + (architecture == "faster-rcnn")  # and the background
    theirs = function(weights=None, weights_backbone=None, num_classes=classes, min_size=64, max_size=107)
    assert peer.name == function.__name__ and peer.backbone == "resnet50"
    assert str(peer.model) == str(theirs.eval())
    assert peer.facts.weights == sum(each.numel() for each in theirs.parameters())
