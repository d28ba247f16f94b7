"""The same function as torchvision's RetinaNet: detections, losses and gradients, V1 and V2."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.torchvision_models import detections_are_equal, imported, noise_pictures, random_model
from torchvision.models.detection import _utils
from torchvision.ops import box_iou

from retinanet.checkpoints.convert import from_torchvision
from retinanet.config.schema import Config
from retinanet.data.images import read_image
from retinanet.losses.criterion import Targets, make_criterion
from retinanet.model.retinanet import RetinaNet


@pytest.mark.parametrize("v2", [False, True])
def test_detections_equal_torchvisions(v2, tmp_path):
    detections_are_equal(v2, noise_pictures(), tmp_path, 128)


@pytest.mark.parametrize("v2", [False, True])
def test_raw_outputs_equal_torchvisions_to_the_last_digits_of_double_precision(v2, tmp_path):
    theirs = random_model(v2, min_size=64)
    model, _ = imported(theirs, tmp_path, 64)
    theirs.double()
    model.double()
    model.pixel_mean = 255 * torch.tensor(theirs.transform.image_mean, dtype=torch.float64).reshape(1, 3, 1, 1)
    model.pixel_std = 255 * torch.tensor(theirs.transform.image_std, dtype=torch.float64).reshape(1, 3, 1, 1)
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        normalised = theirs.transform(list(images))[0].tensors
        expected = theirs.head(list(theirs.backbone(normalised).values()))
        found = model(255 * images)
    for ours, name in ((found.logits, "cls_logits"), (found.deltas, "bbox_regression")):
        by_scale = expected[name].unflatten(1, (-1, 3, 3)).transpose(2, 3).flatten(1, 3)  # theirs are by ratio
        torch.testing.assert_close(torch.cat(ours, dim=1), by_scale, rtol=0, atol=1e-12)


def coco128_pictures(shared_data: Path) -> list[np.ndarray]:
    """Of several sizes and both aspects."""
    files = sorted((shared_data / "coco128" / "train2017").iterdir())[:40:8]
    images = [read_image(file) for file in files]
    assert len({image.shape for image in images}) > 2
    return images


@pytest.mark.slow
@pytest.mark.parametrize("v2", [False, True])
def test_detections_on_coco128_at_full_size_equal_torchvisions(v2, tmp_path, shared_data):
    # in double precision only the resized pixels and the final scores are rounded: 2e-7 of a score
    images = coco128_pictures(shared_data)[:2]
    assert images[0].shape[:2] == images[1].shape[1::-1]  # one is wide, one tall: together both are padded
    detections_are_equal(v2, images, tmp_path, 800, box_within=1e-3, score_within=5e-7, double=True)


@pytest.mark.slow
@pytest.mark.parametrize("v2", [False, True])
def test_detections_in_single_precision_at_full_size_are_near_torchvisions(v2, tmp_path, shared_data):
    detections_are_equal(v2, coco128_pictures(shared_data), tmp_path, 800)


@pytest.mark.parametrize("v2", [False, True])
def test_losses_and_gradients_equal_torchvisions(v2, tmp_path):
    theirs = random_model(v2, min_size=64)
    theirs.training = theirs.head.training = True  # the losses' switch; the normalisations stay as they are
    theirs.transform.training = True
    model, metadata = imported(theirs, tmp_path, 64)
    theirs, model = theirs.double(), model.double()  # in single precision the gradients differ by the processor
    images = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    boxes = [
        torch.tensor([[10.0, 12, 60, 60], [30, 5, 44, 21], [60, 30, 95, 63]]),
        torch.zeros(0, 4),
        torch.tensor([[0.0, 0, 9, 9]]),  # no anchor has IoU 0.5 with it: its best ones are forced
    ]
    labels = [torch.tensor([1, 17, 90]), torch.zeros(0, dtype=torch.int64), torch.tensor([3])]
    targets = [{"boxes": b.double(), "labels": label} for b, label in zip(boxes, labels, strict=True)]
    for parameter in theirs.parameters():
        parameter.requires_grad_(True)
    expected = theirs(list(images), targets)
    (expected["classification"] + expected["bbox_regression"]).backward()

    for parameter in model.parameters():
        parameter.requires_grad_(True)
    losses = our_losses(model, metadata.config, 255 * images, boxes, labels)
    (losses["cls"] + losses["box"]).backward()
    torch.testing.assert_close(losses["cls"], expected["classification"], rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["box"].double(), expected["bbox_regression"], rtol=1e-4, atol=0)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    renamed, _, _ = from_torchvision(gradients, zero_epsilon=False)
    for name, parameter in model.named_parameters():
        if not (v2 and "tower" in name and name.endswith("bias")):  # before a GN torchvision has no bias
            difference = (parameter.grad - renamed[name]).norm() / renamed[name].norm()
            assert difference < 1e-4, (name, difference)


def our_losses(model: RetinaNet, config: Config, images, boxes, labels):
    predictions = model(images)
    anchors = torch.cat(predictions.anchors)
    criterion = make_criterion(config.loss, config.anchors)
    targets = Targets(boxes, labels, [torch.zeros(len(b), dtype=torch.bool) for b in boxes])
    matched = criterion.match_anchors(predictions.anchors, targets)
    matcher = _utils.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    for own, b in zip(matched, boxes, strict=True):
        if len(b):
            assert torch.equal(own, matcher(box_iou(b, anchors)))
    return criterion.losses(predictions, matched, targets)
