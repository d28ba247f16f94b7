"""The same function as torchvision's RetinaNet: detections, losses and gradients, V1 and V2."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.torchvision_models import random_model
from torchvision.models.detection import _utils
from torchvision.ops import box_iou

from retinanet.checkpoints.checkpoint import Metadata
from retinanet.checkpoints.convert import from_torchvision, import_weights
from retinanet.config.schema import Config
from retinanet.data.images import read_image
from retinanet.detections import Detections
from retinanet.inference.detector import Detector
from retinanet.inference.torch_model import TorchModel
from retinanet.losses.criterion import Targets, make_criterion
from retinanet.model.retinanet import RetinaNet


def imported(theirs, folder: Path, short_side: int) -> tuple[RetinaNet, Metadata]:
    """Our model of a file that torchvision's was saved to."""
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    model, metadata = import_weights(folder / "theirs.pth")
    config = metadata.config
    return model, replace(metadata, config=replace(config, data=replace(config.data, short_side=short_side)))


def tensors(images):
    return [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images]


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
    detector = Detector(TorchModel(model), metadata)
    with torch.inference_mode():
        together = theirs(tensors(images))
        alone = [theirs(tensors([image]))[0] for image in images]
    pairs = [*zip(detector.predict_batch(images), together, strict=True)]
    pairs += [(detector.predict(image), found) for image, found in zip(images, alone, strict=True)]
    largest = [assert_equal(*pair, box_within, score_within) for pair in pairs]
    print(f"largest differences: box {max(box for box, _ in largest):.2g} px, score {max(s for _, s in largest):.2g}")


def noise_pictures() -> list[np.ndarray]:
    """Of several sizes, one turned."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((12, 16), (16, 11), (9, 15))]
    return [np.kron(image, np.ones((9, 9, 1), np.uint8)) for image in coarse]


@pytest.mark.parametrize("v2", [False, True])
def test_detections_equal_torchvisions(v2, tmp_path):
    detections_are_equal(v2, noise_pictures(), tmp_path, 128)


@pytest.mark.parametrize("v2", [False, True])
def test_raw_outputs_equal_torchvisions_to_the_last_digits_of_double_precision(v2, tmp_path):
    theirs = random_model(v2, min_size=128)
    model, _ = imported(theirs, tmp_path, 128)
    theirs.double()
    model.double()
    model.pixel_mean = 255 * torch.tensor(theirs.transform.image_mean, dtype=torch.float64).reshape(1, 3, 1, 1)
    model.pixel_std = 255 * torch.tensor(theirs.transform.image_std, dtype=torch.float64).reshape(1, 3, 1, 1)
    images = torch.rand(2, 3, 128, 160, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
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
    theirs = random_model(v2, min_size=128)
    theirs.training = theirs.head.training = True  # the losses' switch; the normalisations stay as they are
    theirs.transform.training = True
    model, metadata = imported(theirs, tmp_path, 128)
    theirs, model = theirs.double(), model.double()  # in single precision the gradients differ by the processor
    images = torch.rand(3, 3, 128, 160, generator=torch.Generator().manual_seed(1)).double()
    boxes = [
        torch.tensor([[10.0, 12, 60, 90], [30, 5, 44, 21], [100, 60, 159, 127]]),
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
