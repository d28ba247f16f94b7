"""torchvision's detectors with random weights, to compare their speed with ours."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet, ssd300_vgg16
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from retinanet.benchmark.random_detector import spread_scores
from retinanet.evaluation.detector_facts import DetectorFacts
from retinanet.inference.torch_model import number_of_weights
from retinanet.model.backbone import TORCHVISION

Architecture = Literal["torchvision", "faster-rcnn", "ssd"]  # the first is torchvision's RetinaNet
THRESHOLD = 0.05  # of RetinaNet's scores, torchvision's default


@dataclass(frozen=True)
class TorchvisionDetector:
    """A detector of torchvision, and its results on one image.

    name: as torchvision's functions that make detectors are called. backbone: its name, as in a config.
    padded: (height, width) of the network's input. detections: their number.
    classes: their number, without the background.
    candidates: the number of scores above THRESHOLD; None for detectors other than RetinaNet. facts: without a time.
    """

    name: str
    backbone: str
    model: nn.Module
    padded: tuple[int, int]
    detections: int
    classes: int
    candidates: int | None
    facts: DetectorFacts

    def predict(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Boxes, scores and labels of the detections in one image, (H, W, 3) uint8 RGB."""
        return {name: tensor.cpu().numpy() for name, tensor in _run(self.model, image).items()}


def make_torchvision_detector(
    architecture: Architecture,
    backbone: str,
    classes: int,
    image: np.ndarray,
    short_side: int,
    long_side: int,
    candidates: int,
    device: torch.device | str,
) -> TorchvisionDetector:
    """A detector in evaluation mode; the same at every call.

    Args:
        backbone: as in a config; in place of one that is no ResNet of torchvision, the detector has a ResNet-50, and
            SSD has VGG-16 whatever it is.
        classes: their number, without the background.
        image: (H, W, 3) uint8 RGB, in which `candidates` scores exceed RetinaNet's threshold. The scores of the other
            detectors are those of random weights.
        short_side, long_side: as `resize` takes them; SSD resizes to 300 x 300 pixels whatever they are.
    """
    backbone = "vgg16" if architecture == "ssd" else backbone if backbone in TORCHVISION else "resnet50"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        name, model = _make(architecture, backbone, classes, {"min_size": short_side, "max_size": long_side})
    model = model.eval().to(device)
    if isinstance(model, RetinaNet):
        logits, deltas = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
        spread_scores(logits, deltas, lambda: _run(model, image), THRESHOLD, candidates)
    images, _ = model.transform(_tensors(image, device))
    height, width = images.tensors.shape[-2:]
    detections = len(_run(model, image)["boxes"])
    above_threshold = candidates if isinstance(model, RetinaNet) else None
    facts = DetectorFacts(
        detections_per_image=detections,
        resolution=(max(model.transform.min_size), model.transform.max_size),
        max_detections=getattr(model, "roi_heads", model).detections_per_img,
        weights=number_of_weights(model),
    )
    return TorchvisionDetector(name, backbone, model, (height, width), detections, classes, above_threshold, facts)


def _make(architecture: Architecture, backbone: str, classes: int, sides: dict[str, Any]) -> tuple[str, Any]:
    """The name and the detector, which with resnet50 has the layers of torchvision's function of this name."""
    if architecture == "ssd":
        return "ssd300_vgg16", ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)
    random: dict[str, Any] = {"weights": None, "norm_layer": nn.BatchNorm2d, "trainable_layers": 5}
    if architecture == "faster-rcnn":
        pyramid = resnet_fpn_backbone(backbone_name=backbone, **random)
        return f"fasterrcnn_{backbone}_fpn", FasterRCNN(pyramid, classes + 1, **sides)
    pyramid = resnet_fpn_backbone(
        backbone_name=backbone, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256), **random
    )
    return f"retinanet_{backbone}_fpn", RetinaNet(pyramid, classes, score_thresh=THRESHOLD, **sides)


@torch.inference_mode()
def _run(model: nn.Module, image: np.ndarray) -> dict[str, torch.Tensor]:
    [outputs] = model(_tensors(image, next(model.parameters()).device))
    return outputs


def _tensors(image: np.ndarray, device: torch.device | str) -> list[torch.Tensor]:
    """The input of torchvision's detectors for one image: [(3, H, W) float32 in 0..1]."""
    return [torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255]
