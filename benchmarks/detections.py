"""Decoding and non-maximum suppression of one image, compared with torchvision.

163,206 anchors, 80 classes, 2.6 million scores above 0.05.

Usage: python benchmarks/detections.py
"""

from types import SimpleNamespace

import numpy as np
import torch
from paired import compare
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.retinanet import RetinaNet as TorchvisionRetinaNet

from retinanet.detections import Detections
from retinanet.model.anchors import make_anchors
from retinanet.model.postprocess import detect
from retinanet.model.retinanet import Predictions

SIZE, CLASSES = (800, 1088), 80
LEVELS = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]


def inputs() -> Predictions:
    generator = torch.Generator().manual_seed(0)
    anchors = make_anchors(LEVELS)
    logits = [2.2 * torch.randn(1, len(a), CLASSES, generator=generator) - 4.82 for a in anchors]
    deltas = [0.2 * torch.randn(1, len(a), 4, generator=generator) for a in anchors]
    return Predictions(logits, deltas, anchors)


def main() -> None:
    predictions = inputs()
    above = sum(int((torch.sigmoid(level) > 0.05).sum()) for level in predictions.logits)
    print(f"{sum(map(len, predictions.anchors)):,} anchors, {above:,} scores above 0.05")
    settings = SimpleNamespace(
        score_thresh=0.05,
        topk_candidates=1000,
        nms_thresh=0.5,
        detections_per_img=100,
        box_coder=BoxCoder((1.0, 1.0, 1.0, 1.0)),
    )
    outputs = {"cls_logits": predictions.logits, "bbox_regression": predictions.deltas}

    def ours() -> list[Detections]:
        return detect(predictions, [SIZE], [SIZE])

    @torch.no_grad()
    def theirs() -> list[dict[str, torch.Tensor]]:
        return TorchvisionRetinaNet.postprocess_detections(settings, outputs, [predictions.anchors], [SIZE])

    np.testing.assert_array_equal(ours()[0].scores, theirs()[0]["scores"])
    compare("decode and NMS", ours, theirs)


if __name__ == "__main__":
    main()
