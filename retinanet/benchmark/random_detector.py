"""A detector with random weights and many detections, to measure speed without a trained one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from retinanet.checkpoints.checkpoint import MODEL, save
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config, DataConfig, ModelConfig
from retinanet.inference.detector import Detector
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import make_model

CLASSES = 80  # COCO's
CANDIDATES = 3000  # scores above the threshold in one image
LOGIT_DEVIATION, DELTA_DEVIATION = 1.0, 0.2  # standard deviations of the outputs


def save_random_detector(file: Path, depth: int, image: np.ndarray, data: DataConfig) -> None:
    """Write a checkpoint of the paper's RetinaNet with a ResNet of `depth` layers; the same at every call.

    Args:
        image: (H, W, 3) uint8 RGB, in which CANDIDATES scores exceed the threshold. With the initial weights of
            training, no score would.
        data: how images are resized.
    """
    config = Config(data, ModelConfig(backbone=f"resnet{depth}"))
    numbers = tuple(range(1, CLASSES + 1))
    metadata = Metadata(config, tuple(f"class {i}" for i in numbers), numbers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(config.model, config.anchors, CLASSES, pretrained=False).eval()
    detector = Detector(TorchModel(model), metadata)
    threshold = config.detect.score_threshold
    spread_scores(model.cls_subnet.predict, model.box_subnet.predict, lambda: detector.predict(image), threshold)
    save(file, {MODEL + name: tensor for name, tensor in model.state_dict().items()}, metadata)


@torch.inference_mode()
def spread_scores(
    logits: nn.Conv2d, deltas: nn.Conv2d, run: Callable[[], object], threshold: float, candidates: int = CANDIDATES
) -> None:
    """Change the last convolutions of a new detector, so that `candidates` scores exceed `threshold` in `run`.

    Their weights are scaled to LOGIT_DEVIATION and DELTA_DEVIATION, and the logits are shifted.

    logits, deltas: the convolutions with these outputs. run: one prediction.
    """
    outputs: dict[nn.Module, list[Tensor]] = {logits: [], deltas: []}

    def keep(convolution: nn.Module, _: object, output: Tensor) -> None:
        outputs[convolution].append(output.flatten())

    assert logits.bias is not None
    logits.bias.zero_()  # beside it, small values would lose digits
    with logits.register_forward_hook(keep), deltas.register_forward_hook(keep):
        run()
    values = torch.cat(outputs[logits])
    scale = LOGIT_DEVIATION / values.std()
    # half way to the next value, since other memory layouts round differently
    border = scale * values.topk(candidates + 1).values[-2:].mean()
    logits.weight.mul_(scale)
    logits.bias.fill_(torch.logit(torch.tensor(threshold)).item() - border)
    deltas.weight.mul_(DELTA_DEVIATION / torch.cat(outputs[deltas]).std())
