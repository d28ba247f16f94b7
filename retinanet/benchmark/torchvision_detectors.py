"""torchvision's detectors with random weights, to compare their speed with ours."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torchvision.models import detection

from retinanet.benchmark.random_detector import spread_scores
from retinanet.evaluation.detector_facts import DetectorFacts

Baseline = Literal["torchvision", "faster-rcnn", "ssd"]
THRESHOLD = 0.05  # of RetinaNet's scores, torchvision's default


@dataclass(frozen=True)
class BaselineDetector:
    """A detector of torchvision, and its results on one image.

    name: the function of torchvision that makes it. padded: (height, width) of the network's input.
    detections: their number. classes: their number, without the background.
    candidates: the number of scores above THRESHOLD; None for detectors other than RetinaNet. facts: without a time.
    """

    name: str
    model: nn.Module
    padded: tuple[int, int]
    detections: int
    classes: int
    candidates: int | None
    facts: DetectorFacts

    def predict(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Boxes, scores and labels of the detections in one image, (H, W, 3) uint8 RGB."""
        return {name: tensor.cpu().numpy() for name, tensor in _run(self.model, image).items()}


def make_baseline(
    baseline: Baseline,
    classes: int,
    image: np.ndarray,
    short_side: int,
    long_side: int,
    candidates: int,
    device: torch.device | str,
) -> BaselineDetector:
    """A detector in evaluation mode; the same at every call.

    Args:
        classes: their number, without the background.
        image: (H, W, 3) uint8 RGB, in which `candidates` scores exceed RetinaNet's threshold. The scores of the other
            detectors are those of random weights.
        short_side, long_side: as `resize` takes them; SSD resizes to 300 x 300 pixels whatever they are.
    """
    sides: dict[str, Any] = {"min_size": short_side, "max_size": long_side}
    make, settings = {
        "torchvision": (detection.retinanet_resnet50_fpn, sides | {"score_thresh": THRESHOLD}),
        "faster-rcnn": (detection.fasterrcnn_resnet50_fpn, sides),
        "ssd": (detection.ssd300_vgg16, {}),
    }[baseline]
    is_retinanet = baseline == "torchvision"
    outputs = classes if is_retinanet else classes + 1  # the others have one for the background
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(weights=None, weights_backbone=None, num_classes=outputs, **settings).eval().to(device)
    if is_retinanet:
        logits, deltas = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
        spread_scores(logits, deltas, lambda: _run(model, image), THRESHOLD, candidates)
    images, _ = model.transform(_tensors(image, device))
    height, width = images.tensors.shape[-2:]
    detections = len(_run(model, image)["boxes"])
    above_threshold = candidates if is_retinanet else None
    facts = DetectorFacts(
        detections_per_image=detections,
        resolution=(max(model.transform.min_size), model.transform.max_size),
        max_detections=getattr(model, "roi_heads", model).detections_per_img,
        weights=sum(each.numel() for each in model.parameters()),
    )
    return BaselineDetector(make.__name__, model, (height, width), detections, classes, above_threshold, facts)


@torch.inference_mode()
def _run(model: nn.Module, image: np.ndarray) -> dict[str, torch.Tensor]:
    [outputs] = model(_tensors(image, next(model.parameters()).device))
    return outputs


def _tensors(image: np.ndarray, device: torch.device | str) -> list[torch.Tensor]:
    """The input of torchvision's detectors for one image: [(3, H, W) float32 in 0..1]."""
    return [torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255]
