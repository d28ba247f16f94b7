"""torchvision's detectors with random weights, to be timed beside ours."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torchvision.models import detection

from retinanet.benchmark.random_detector import spread

Baseline = Literal["torchvision", "faster-rcnn", "ssd"]
THRESHOLD = 0.05  # of RetinaNet's scores, torchvision's default


@dataclass(frozen=True)
class BaselineDetector:
    """name: of the function that makes it. padded: (height, width) of what its network sees. detections: how many.

    classes: without the background. candidates: scores above RetinaNet's threshold; None of the others.
    """

    name: str
    model: nn.Module
    padded: tuple[int, int]
    detections: int
    classes: int
    candidates: int | None

    def predict(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Boxes, scores and labels in one image: (H, W, 3) uint8 RGB."""
        return {name: tensor.cpu().numpy() for name, tensor in _run(self.model, image).items()}


def make_baseline(
    peer: Baseline,
    classes: int,
    image: np.ndarray,
    short_side: int,
    long_side: int,
    candidates: int,
    device: torch.device | str,
) -> BaselineDetector:
    """The same at every call, in evaluation mode.

    classes: without the background. image: (H, W, 3) uint8 RGB, in which `candidates` scores exceed RetinaNet's
    threshold; the others' scores are what random weights give. short_side, long_side: as `resize` takes them; SSD has
    300 x 300 pixels whatever they are.
    """
    outputs = classes if peer == "torchvision" else classes + 1  # the others have one for the background
    settings: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": outputs}
    sides = {"min_size": short_side, "max_size": long_side}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if peer == "torchvision":
            make, settings = detection.retinanet_resnet50_fpn, settings | sides | {"score_thresh": THRESHOLD}
        elif peer == "faster-rcnn":
            make, settings = detection.fasterrcnn_resnet50_fpn, settings | sides
        else:
            make = detection.ssd300_vgg16
        model = make(**settings).eval().to(device)
    if peer == "torchvision":
        logits, deltas = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
        spread(logits, deltas, lambda: _run(model, image), THRESHOLD, candidates)
    passing = candidates if peer == "torchvision" else None
    images, _ = model.transform(_tensors(image, device))
    height, width = images.tensors.shape[-2:]
    return BaselineDetector(make.__name__, model, (height, width), len(_run(model, image)["boxes"]), classes, passing)


@torch.inference_mode()
def _run(model: nn.Module, image: np.ndarray) -> dict[str, torch.Tensor]:
    [found] = model(_tensors(image, next(model.parameters()).device))
    return found


def _tensors(image: np.ndarray, device: torch.device | str) -> list[torch.Tensor]:
    """As torchvision's detectors take an image: [(3, H, W) float32 in 0..1]."""
    return [torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255]
