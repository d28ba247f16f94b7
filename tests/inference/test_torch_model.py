"""A model of torch and an exported one: the same calls, and what only torch's can do."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_from_dict
from retinanet.errors import ConfigError
from retinanet.inference.detector import Detector, load
from retinanet.inference.exported_model import ExportedModel
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import make_model

SMALL = {"backbone": "resnet18", "pretrained": False, "trunk_norm": "frozen_bn", "fpn_channels": 16}
CONFIG = config_from_dict({"data": {"short_side": 64, "long_side": 107}, "model": SMALL}, "test")
METADATA = Metadata(CONFIG, ("a", "b"), (1, 2))


@pytest.fixture(scope="module")
def model() -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(make_model(CONFIG.model, CONFIG.anchors, 2, pretrained=False).eval())


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((96, 128), (80, 64))]


@pytest.mark.parametrize("name", sorted(name for name in vars(TorchModel) if name[0] != "_"))
def test_an_exported_model_has_each_method_of_torchs(name: str):
    if name == "device":
        pytest.skip("an exported model runs on the CPU, without torch's devices")
    ours, theirs = getattr(TorchModel, name), getattr(ExportedModel, name)
    if inspect.isfunction(ours):
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_an_observer_gets_every_stage_and_changes_no_detection(model: TorchModel, images):
    inputs = Detector(model, METADATA).prepare(images)
    seen = []
    settings = CONFIG.detect
    observed = model.detect(*inputs, settings, [0.001, 0.002], lambda *stages: seen.append(stages))
    plain = model.detect(*inputs, settings, [0.001, 0.002])
    [(predictions, sizes, stages)] = seen
    assert sizes == [(64, 85), (80, 64)] and predictions.logits[0].shape[0] == 2
    assert [stage.detections for stage in stages] == observed
    assert all(np.array_equal(a.boxes, b.boxes) and len(a) for a, b in zip(observed, plain, strict=True))


def test_an_exported_model_refuses_an_observer(images):
    exported = ExportedModel(METADATA, Path("model.onnx"), run=lambda inputs: [])
    inputs = Detector(exported, METADATA).prepare(images)
    with pytest.raises(ValueError, match="gives no logits"):
        exported.detect(*inputs, CONFIG.detect, observer=print)


def test_the_copy_for_evaluation_detects_the_same_and_leaves_the_model_as_it_is(model: TorchModel, images):
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    inputs = Detector(model, METADATA).prepare(images)
    model.network.train()
    ours = model.copy_for_evaluation().detect(*inputs, CONFIG.detect, [0.001, 0.001])
    assert model.network.training
    theirs = TorchModel(model.network.eval()).detect(*inputs, CONFIG.detect, [0.001, 0.001])
    assert all(np.array_equal(a.boxes, b.boxes) and len(a) for a, b in zip(ours, theirs, strict=True))
    after = model.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_counts_of_a_batch(model: TorchModel, images):
    detector = Detector(model, METADATA)
    images_, sizes, original_sizes = detector.prepare(images[:1])
    detections, anchors, candidates = model.detect_and_count(images_, sizes, original_sizes, CONFIG.detect)
    assert anchors == 9 * (8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1 * 1)  # of 64 x 96 pixels
    assert (len(detections), candidates) == (1, 0)  # all scores are about the prior, 0.01


def test_bf16_predicts_what_fp32_does_within_its_eight_bits(images):
    torch.manual_seed(0)
    network = make_model(CONFIG.model, CONFIG.anchors, 2, pretrained=False).eval()
    with torch.no_grad():  # logits and deltas as far apart as in a trained network
        network.cls_subnet.predict.weight *= 100
        network.box_subnet.predict.weight *= 100
    outputs = []
    inputs = Detector(TorchModel(network), METADATA).prepare(images)
    for precision in ("fp32", "bf16"):
        model = TorchModel(network, None, precision).copy_for_evaluation()
        found = model.detect(*inputs, CONFIG.detect, observer=lambda predictions, *_: outputs.append(predictions))
        assert all(len(each) and (each.boxes.dtype, each.scores.dtype) == (np.float32, np.float32) for each in found)
    for name in ("logits", "deltas"):
        single, half = (torch.cat(getattr(predictions, name), dim=1) for predictions in outputs)
        error = float((single - half).abs().max())
        assert single.dtype == half.dtype == torch.float32
        assert 0 < error <= 4 * 2**-8 * float(single.abs().max()), (name, error)


def test_fp16_is_refused_on_a_cpu(tiny_run: Path):
    with pytest.raises(ConfigError, match="^precision fp16 is for GPUs; on a CPU, expected fp32 or bf16$"):
        load(tiny_run, "cpu", precision="fp16")
