"""A training step of ResNet-50-FPN, 80 classes, batch 2 at 512 pixels, compared with torchvision's of the same weights.

The stem, the first stage and all normalisation layers are frozen, as in torchvision with pretrained weights. With
`curve`: 50 steps of both at 256 pixels, to compare their losses.

Usage: python benchmarks/training.py [curve]
"""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from paired import compare
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from retinanet.checkpoints.convert import import_weights
from retinanet.losses.criterion import Targets, make_criterion

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.torchvision_models import random_model

CLASSES, BATCH, OBJECTS = 80, 2, 12
SIZE, CURVE_SIZE = 512, 256
STEPS, BATCHES = 50, 8
RATE = 0.01 * BATCH / 16  # learning rate (paper, section 4.1)

Step = Callable[[Tensor, list[Tensor], list[Tensor]], float]  # images (B, 3, H, W) uint8, boxes, labels -> loss


def torchvision_model(size: int) -> TorchvisionRetinaNet:
    """The model that retinanet_resnet50_fpn makes from pretrained weights, with random weights."""
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    backbone = _resnet_fpn_extractor(trunk, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    model = TorchvisionRetinaNet(backbone, CLASSES, min_size=size, max_size=size)
    model.load_state_dict(random_model(v2=False, num_classes=CLASSES).state_dict(), strict=False)
    head = model.head.classification_head.cls_logits
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, -4.6)  # for a prior of 0.01
    nn.init.normal_(model.head.regression_head.bbox_reg.weight, std=0.01)
    return model.train()


def theirs(model: TorchvisionRetinaNet) -> Step:
    optimizer = sgd(model)

    def step(images: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> float:
        targets = [{"boxes": b, "labels": label} for b, label in zip(boxes, labels, strict=True)]
        loss = sum(model(list(images / 255), targets).values(), torch.zeros(()))
        return take(loss, optimizer)

    return step


def ours(model: TorchvisionRetinaNet, precision: str) -> Step:
    """Our network with the weights of `model`, trained like `retina train` with the preset `torchvision`."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder) / "theirs.pth")
        own, metadata = import_weights(Path(folder) / "theirs.pth")
    own = own.train().to(memory_format=torch.channels_last)
    optimizer, criterion = sgd(own), make_criterion(metadata.config.loss, metadata.config.anchors)
    learning = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (own, model)]
    assert learning[0] == learning[1]

    def step(images: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> float:
        mixed = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with mixed:
            predictions = own(images)
        losses = criterion(predictions, Targets(boxes, labels, [torch.zeros(len(b), dtype=torch.bool) for b in boxes]))
        return take(losses["cls"] + losses["box"], optimizer)

    return step


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(learning, lr=RATE, momentum=0.9, weight_decay=1e-4)


def take(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 10.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def batch(seed: int, size: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (BATCH, size, size, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    corners = 0.7 * size * torch.rand(BATCH, OBJECTS, 2, generator=generator)
    boxes = torch.cat([corners, corners + size * (0.05 + 0.25 * torch.rand(corners.shape, generator=generator))], dim=2)
    return images, list(boxes), list(torch.randint(CLASSES, (BATCH, OBJECTS), generator=generator))


def speed() -> None:
    model = torchvision_model(SIZE)
    steps = {"fp32": ours(model, "fp32"), "bf16": ours(model, "bf16")}
    reference, arguments = theirs(model), batch(0, SIZE)
    for name, step in steps.items():
        compare(f"training step, {name}", partial(step, *arguments), partial(reference, *arguments))


def curve() -> None:
    model = torchvision_model(CURVE_SIZE)
    curves = {"ours fp32": ours(model, "fp32"), "ours bf16": ours(model, "bf16"), "theirs": theirs(model)}
    losses: dict[str, list[float]] = {name: [] for name in curves}
    for i in range(STEPS):
        for name, step in curves.items():
            losses[name].append(step(*batch(i % BATCHES, CURVE_SIZE)))
    for name, values in losses.items():
        means = (f"{statistics.mean(values[i : i + 10]):.4f}" for i in range(0, STEPS, 10))
        apart = max(abs(a - b) / b for a, b in zip(values, losses["theirs"], strict=True))
        print(f"{name}: mean losses of ten steps each {', '.join(means)}; difference from theirs at most {apart:.2%}")


if __name__ == "__main__":
    curve() if sys.argv[1:] == ["curve"] else speed()
