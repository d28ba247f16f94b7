"""How the baselines of table 2 are trained by our loop and evaluated like RetinaNet."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from retinanet.config.schema import Config, DetectConfig
from retinanet.data.loader import Batch
from retinanet.detections import Detections
from retinanet.inference.torch_model import NetworkOnDevice, StageObserver
from retinanet.losses.criterion import Targets
from retinanet.model.batchnorm_folding import fold_for_inference
from retinanet.model.boxes import clip
from retinanet.model.postprocess import to_original
from retinanet.paper.baselines import BaselineNetwork, make_faster_rcnn, make_ssd
from retinanet.precision import Precision
from retinanet.training.method import BatchLosses, Forward

Baseline = Literal["faster-rcnn", "ssd"]


class BaselineModel(NetworkOnDevice):
    """A baseline in evaluation mode on its device, with the methods that `evaluate_model` calls."""

    network: BaselineNetwork
    precision: Precision = "fp32"

    def __init__(self, network: BaselineNetwork):
        self.network = network

    def copy_for_evaluation(self) -> "BaselineModel":
        """A copy with batch normalisation folded; the model itself can be trained further."""
        return BaselineModel(fold_for_inference(copy.deepcopy(self.network)))

    @torch.inference_mode()
    def detect(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        *,
        observer: StageObserver | None = None,
    ) -> list[Detections]:
        """Detect objects in each image of a batch, as `TorchModel.detect`. Raises: ValueError for an observer."""
        if observer is not None:
            raise ValueError("a baseline has no stages to observe; expected no observer")
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device, non_blocking=True)  # (B, 3, H, W)
        found = self.network.detect(pixels, torch.from_numpy(sizes).to(self.device, non_blocking=True), settings)
        detections = []
        for each, size, original in zip(found, sizes.tolist(), original_sizes, strict=True):
            boxes = clip(to_original(each["boxes"], size, original), original)  # (D, 4)
            detections.append(Detections(*(part.cpu().numpy() for part in (boxes, each["scores"], each["labels"]))))
        return detections


class BaselineMethod:
    """Faster R-CNN or SSD with torchvision's losses, of which `LossConfig` sets nothing but the weight of the boxes."""

    def __init__(self, baseline: Baseline, config: Config):
        self.config = config
        self.make, name = {"faster-rcnn": (make_faster_rcnn, "Faster R-CNN"), "ssd": (make_ssd, "SSD")}[baseline]
        self.loss: str = f"of torchvision's {name}"
        self.loss_settings: dict[str, Any] = {}

    def make_model(self, classes: int, pretrained: bool) -> BaselineNetwork:
        return self.make(self.config, classes, pretrained)

    def losses(self, forward: Forward, batch: Batch, first: bool) -> BatchLosses:
        losses = forward(batch.images, batch.sizes, Targets(batch.boxes, batch.labels, batch.crowd))
        return BatchLosses(losses, torch.full((), math.nan, device=batch.images.device), [])

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, progress: dict[str, Any]) -> None:
        """Nothing: the losses depend on their batch alone."""

    def for_evaluation(self, model: nn.Module) -> BaselineModel:
        assert isinstance(model, BaselineNetwork)
        return BaselineModel(model)
