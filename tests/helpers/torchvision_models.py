"""torchvision's RetinaNets with random weights under which they find much, and our detections compared with theirs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2

from retinanet.checkpoints.checkpoint import Metadata
from retinanet.checkpoints.convert import import_weights
from retinanet.detections import Detections
from retinanet.inference.detector import Detector
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import RetinaNet


def random_model(v2: bool, seed: int = 0, **settings) -> TorchvisionRetinaNet:
    """With the 91 classes of the published weights, in evaluation mode; a few scores in a hundred exceed 0.05."""
    torch.manual_seed(seed)
    make = retinanet_resnet50_fpn_v2 if v2 else retinanet_resnet50_fpn
    model = make(weights=None, weights_backbone=None, **settings)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.75, 1.25)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    for block in (block for stage in (1, 2, 3, 4) for block in model.backbone.body[f"layer{stage}"]):
        torch.nn.init.uniform_(block.bn3.weight, 0.1, 0.2)
    for head in (model.head.classification_head, model.head.regression_head):
        for conv in (m for m in head.conv.modules() if isinstance(m, torch.nn.Conv2d)):
            torch.nn.init.kaiming_normal_(conv.weight)
    model.eval()
    predict = (model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg)
    with torch.no_grad():
        features = list(model.backbone(torch.randn(1, 3, 128, 128)).values())
        outputs = model.head(features).values()
        for conv, output, deviation in zip(predict, outputs, (1.5, 0.3), strict=True):
            conv.weight *= deviation / output.std()
    torch.nn.init.constant_(predict[0].bias, -6)
    return model


def imported(theirs, folder: Path, short_side: int) -> tuple[RetinaNet, Metadata]:
    """Our model of a file that torchvision's was saved to."""
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    model, metadata = import_weights(folder / "theirs.pth")
    config = metadata.config
    return model, replace(metadata, config=replace(config, data=replace(config.data, short_side=short_side)))


def tensors(images, device: str = "cpu"):
    return [torch.from_numpy(image).permute(2, 0, 1).to(device) / 255 for image in images]


def assert_equal(
    ours: Detections, theirs: dict[str, torch.Tensor], box_within: float, score_within: float
) -> tuple[float, float]:
    """Pairs each detection with the nearest of its label: a box clipped to nothing has no overlap to be paired by.

    Returns: the largest differences of a box in pixels and of a score.
    """
    assert len(ours) == len(theirs["scores"]) > 100
    boxes, scores, labels = (torch.from_numpy(part) for part in (ours.boxes, ours.scores, ours.labels))
    apart = (boxes[:, None] - theirs["boxes"]).abs().amax(dim=2) + (scores[:, None] - theirs["scores"]).abs()
    pair = apart.masked_fill(labels[:, None] != theirs["labels"], torch.inf).argmin(dim=1)
    assert len(pair.unique()) == len(pair)
    moved = (boxes - theirs["boxes"][pair]).abs().max()
    changed = (scores - theirs["scores"][pair]).abs().max()
    assert moved < box_within and changed < score_within
    # both are sorted by score: if scores differ by up to d, two whose scores are within 2 d may swap places
    assert ((theirs["scores"][pair] - theirs["scores"]).abs() <= 2 * changed).all()
    return float(moved), float(changed)


def detections_are_equal(
    v2: bool,
    images: list[np.ndarray],
    folder: Path,
    short_side: int,
    box_within: float = 1e-2,
    score_within: float = 1e-4,
    double: bool = False,
    device: str = "cpu",
) -> None:
    """Compares one batch and each image alone.

    The tolerances are for single precision, whose rounding of 6e-8 some 60 layers in a row make 4e-6 of a V1 score and
    6e-5 of a V2 score (torch's GroupNorm sums naively over channels-last memory on a CPU). A logit that is off by
    4e-4 moves a score by 1e-4; a delta that is off by 2e-5 moves a side of 500 px by 1e-2.

    double: both networks compute in double precision, from pixels resized in single precision as ever.
    """
    theirs = random_model(v2, min_size=short_side)
    model, metadata = imported(theirs, folder, short_side)
    if double:
        theirs.double().backbone.register_forward_pre_hook(lambda _, args: (args[0].double(),))
        model.double()
    detector = Detector(TorchModel(model.to(device)), metadata)
    theirs.to(device)
    with torch.inference_mode():
        together, *alone = [
            [{name: part.cpu() for name, part in found.items()} for found in theirs(tensors(group, device))]
            for group in (images, *([image] for image in images))
        ]
    pairs = [*zip(detector.predict_batch(images), together, strict=True)]
    pairs += [(detector.predict(image), found) for image, [found] in zip(images, alone, strict=True)]
    largest = [assert_equal(*pair, box_within, score_within) for pair in pairs]
    print(f"largest differences: box {max(box for box, _ in largest):.2g} px, score {max(s for _, s in largest):.2g}")


def noise_pictures() -> list[np.ndarray]:
    """Of several sizes, one turned."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((12, 16), (16, 11), (9, 15))]
    return [np.kron(image, np.ones((9, 9, 1), np.uint8)) for image in coarse]
