"""The baselines of table 2 give the losses, gradients and detections of torchvision's own detectors."""

import copy
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD, SSDHead

from retinanet.config.schema import Config, DataConfig, DetectConfig, ModelConfig
from retinanet.losses.criterion import Targets
from retinanet.paper.baselines import BaselineNetwork, has_proposals, make_faster_rcnn, make_ssd

CLASSES, SIDE = 3, 128
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CONFIG = Config(
    DataConfig(short_side=SIDE),
    ModelConfig(backbone="resnet18", pretrained=False, trunk_norm="frozen_bn", freeze_stages=2, fpn_channels=32),
)
BOXES = [torch.tensor([[10.0, 20, 70, 90], [40, 5, 120, 60]]), torch.zeros(0, 4), torch.tensor([[3.0, 30, 90, 110]])]
LABELS = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([1])]


class SSDFeatures(nn.Module):
    """C3 to C5 of torchvision's ResNet, and further maps."""

    def __init__(self, scales: nn.ParameterList, squeeze: nn.ModuleList, halve: nn.ModuleList):
        super().__init__()
        layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
        self.scales = scales
        self.body = IntermediateLayerGetter(resnet18(), layers)
        self.extra = nn.ModuleList(
            nn.Sequential(a, nn.ReLU(), b, nn.ReLU()) for a, b in zip(squeeze, halve, strict=True)
        )

    def forward(self, images):
        features = self.body(images)
        for index, scale in enumerate(self.scales):
            c = features[str(index)]
            features[str(index)] = scale[:, None, None] * c / (c**2).sum(dim=1, keepdim=True).sqrt()
        for index, layers in enumerate(self.extra):
            features[str(3 + index)] = layers(features[str(2 + index)])
        return OrderedDict(features)


def theirs_name(name: str) -> str:
    """The name in torchvision's detector of one of our tensors."""
    name = name.replace("backbone.trunk.body.", "backbone.body.")
    for part, place in (("squeeze", 0), ("halve", 2)):
        name = re.sub(rf"backbone\.{part}\.(\d)", rf"backbone.extra.\1.{place}", name)
    return name


def torchvisions_faster_rcnn(ours: BaselineNetwork) -> nn.Module:
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(resnet18(), layers, [64, 128, 256, 512], 32)
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    # in training without the choice of a short side, which draws random numbers
    return FasterRCNN(backbone, CLASSES + 1, SIDE, 4 * SIDE, rpn_anchor_generator=anchors, _skip_resize=True)


def torchvisions_ssd(ours: BaselineNetwork) -> nn.Module:
    ratios, scales = [[2], [2, 3], [2, 3], [2, 3], [2], [2]], [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    boxes = DefaultBoxGenerator(ratios, scales=scales)
    head = SSDHead([128, 256, 512, 512, 256, 256], boxes.num_anchors_per_location(), CLASSES + 1)
    own = copy.deepcopy(ours.detector.backbone)
    features = SSDFeatures(own.scales, own.squeeze, own.halve)
    return SSD(features, boxes, (SIDE, SIDE), CLASSES + 1, head=head, _skip_resize=True)


@pytest.fixture(scope="module", params=["faster rcnn", "ssd"])
def pair(request) -> tuple[BaselineNetwork, nn.Module]:
    """Our network and torchvision's detector of the same weights."""
    make, make_other = {
        "faster rcnn": (make_faster_rcnn, torchvisions_faster_rcnn),
        "ssd": (make_ssd, torchvisions_ssd),
    }[request.param]
    torch.manual_seed(0)
    ours = make(CONFIG, CLASSES, pretrained=False)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    theirs = make_other(ours)
    kept = ours.detector.state_dict()
    theirs.load_state_dict({theirs_name(name): tensor for name, tensor in kept.items()})
    return ours.double(), theirs.double()  # in float32, rounding would change which proposals are drawn


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([[SIDE, SIDE]] * 3)


def test_losses_and_gradients_are_those_of_torchvisions_training_step(pair):
    ours, theirs = pair
    images, sizes = pictures()
    sizes[2, 1] = 96
    for parameter in theirs.parameters():
        parameter.requires_grad_(True)
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(2)  # of the samples that Faster R-CNN draws
    targets = [{"boxes": boxes, "labels": labels + 1} for boxes, labels in zip(BOXES, LABELS, strict=True)]
    expected = theirs([*images[:2].double() / 255, images[2, :, :, :96].double() / 255], targets)
    sum(expected.values()).backward()

    ours.train()
    ours.zero_grad()
    crowd = [torch.zeros(len(boxes), dtype=torch.bool) for boxes in BOXES]
    crowd[0] = torch.tensor([False, False, True])
    boxes = [torch.cat([BOXES[0], torch.tensor([[0.0, 0, 90, 90]])]), *BOXES[1:]]  # with a crowd, which is left out
    labels = [torch.cat([LABELS[0], torch.tensor([1])]), *LABELS[1:]]
    torch.manual_seed(2)
    losses = ours(images, sizes, Targets(boxes, labels, crowd))
    (losses["cls"] + losses["box"]).backward()

    cls = ("loss_objectness", "loss_classifier") if has_proposals(ours.detector) else ("classification",)
    torch.testing.assert_close(losses["cls"], sum(expected[name] for name in cls), rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["cls"] + losses["box"], sum(expected.values()), rtol=1e-4, atol=0)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    compared = 0
    for name, parameter in ours.detector.named_parameters():
        if parameter.requires_grad:
            expected_gradient = gradients[theirs_name(name)]
            difference = (parameter.grad - expected_gradient).norm()
            assert difference <= 1e-4 * expected_gradient.norm(), (name, difference)
            compared += 1
    assert compared > 20


def test_detections_are_torchvisions(pair):
    ours, theirs = (each.eval() for each in pair)
    images, sizes = pictures()
    settings = DetectConfig(score_threshold=0.2, max_detections=30, top_k=400)
    last = theirs.roi_heads if has_proposals(theirs) else theirs
    last.score_thresh, last.nms_thresh, last.detections_per_img = 0.2, 0.5, 30
    with torch.inference_mode():
        expected = theirs(list(images.double() / 255))
        found = ours.detect(images, sizes, settings)
    assert sum(len(each["scores"]) for each in found) > 10
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own["labels"], other["labels"] - 1)
        torch.testing.assert_close(own["scores"], other["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own["boxes"], other["boxes"], rtol=1e-4, atol=1e-3)
