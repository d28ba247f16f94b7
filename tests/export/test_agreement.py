"""What the comparison with torch before a file is written accepts and refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_from_dict
from retinanet.detections import Detections
from retinanet.errors import CheckpointError, VerificationError
from retinanet.export.agreement import random_pictures, verify
from retinanet.inference.detector import Detector
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import make_model

SMALL = {"backbone": "resnet18", "pretrained": False, "fpn_channels": 16, "head_channels": 16, "head_depth": 0}


def fresh(seed: int) -> Detector:
    """A detector that was not trained, whose scores differ by rounding."""
    config = config_from_dict({"model": SMALL, "data": {"short_side": 64, "long_side": 107}}, "test")
    torch.manual_seed(seed)
    network = make_model(config.model, config.anchors, 3, pretrained=False).eval()
    return Detector(TorchModel(network), Metadata(config, ("a", "b", "c"), (1, 2, 3)))


class Changed(TorchModel):
    """settings, found: what is done to the settings and to the detections of an image."""

    settings: Callable = staticmethod(lambda settings: settings)
    found: Callable = staticmethod(lambda detections: detections)

    def detect(self, images, sizes, original_sizes, settings, thresholds=None, observer=None):
        every = super().detect(images, sizes, original_sizes, self.settings(settings), thresholds, observer)
        return [self.found(detections) for detections in every]


def changed(detector: Detector, **changes: Callable) -> Detector:
    detector.model = Changed(detector.model.network)
    for name, change in changes.items():
        setattr(detector.model, name, change)
    return detector


def shifted(detections: Detections) -> Detections:
    return replace(detections, boxes=detections.boxes + 1)


def relabelled(detections: Detections) -> Detections:
    return replace(detections, labels=(1 - detections.labels) % 3)


def without_a_class(detections: Detections) -> Detections:
    known = detections.labels != 2
    return Detections(detections.boxes[known], detections.scores[known], detections.labels[known])


def wider_in_one_place_of_nine(detections: Detections) -> Detections:
    boxes = detections.boxes.copy()
    boxes[::9, 2] += 1
    return replace(detections, boxes=boxes)


def other_iou(settings):
    return settings if settings.nms_iou > 0.9 else replace(settings, nms_iou=settings.nms_iou + 0.1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"found": shifted}, "candidates"),
        ({"found": relabelled}, "candidates"),
        ({"found": without_a_class}, "candidates"),
        ({"found": wider_in_one_place_of_nine}, "candidates"),
        ({"settings": other_iou}, "detections"),
    ],
    ids=["shifted boxes", "swapped classes", "a missing class", "another anchor", "another IoU"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_differences_are_refused(seed: int, changes: dict[str, Callable], what: str):
    message = rf"x.onnx: \d+ of \d+ {what} differ from torch's by more than 0.01 pixels or 0.001 in logits; no file was"
    with pytest.raises(VerificationError, match=message):
        verify(fresh(seed), changed(fresh(seed), **changes), random_pictures(), Path("x.onnx"))


@pytest.mark.parametrize(
    "part", ["trunk.body.layer2.0.conv1", "fpn.lateral.1", "cls_subnet.predict", "box_subnet.predict"]
)
def test_weights_that_differ_by_three_percent_are_refused(part: str):
    other = fresh(0)
    other.model.network.get_submodule(part).weight.data.mul_(1.03)
    with pytest.raises(VerificationError, match=r"x.onnx: \d+ of \d+ candidates differ from torch's"):
        verify(fresh(0), other, random_pictures(), Path("x.onnx"))


@pytest.mark.parametrize("seed", range(10))
def test_rounding_is_not_refused(seed: int):
    # scores that are nearly equal, so that rounding decides their order, the best 1000 and who suppresses whom
    other = fresh(seed)
    for tensor in other.model.network.parameters():
        generator = torch.Generator().manual_seed(seed)
        tensor.data.mul_(1 + 3e-7 * torch.randn(tensor.shape, generator=generator))
    agreement = verify(fresh(seed), other, random_pictures(), Path("x.onnx"))
    assert agreement.detections > 5000 and agreement.boxes < 0.01 and 0 < agreement.scores < 1e-4


def test_an_agreement_on_nothing_is_refused():
    def nothing(detections: Detections) -> Detections:
        return Detections(detections.boxes[:0], detections.scores[:0], detections.labels[:0])

    blind = changed(fresh(0), found=nothing)
    with pytest.raises(VerificationError, match=r"x.onnx: torch detects nothing to compare with; no file was written"):
        verify(blind, blind, random_pictures(), Path("x.onnx"))


def test_weights_of_nan_are_named():
    detector = fresh(0)
    detector.model.network.cls_subnet.predict.bias.data.fill_(float("nan"))
    detector.model.file = "run/best.safetensors"
    with pytest.raises(CheckpointError, match=r"run/best.safetensors: its logits or boxes are not finite"):
        verify(detector, detector, random_pictures(), Path("x.onnx"))
