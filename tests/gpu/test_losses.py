"""The losses and ATSS without a detector on a GPU."""

import pytest
import torch
from helpers.gpu import DEVICES, on_gpu, waits_of_gpu
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from retinanet import sigmoid_focal_loss, softmax_focal_loss
from retinanet.losses.atss import match_atss
from retinanet.losses.quality import anchor_quality_focal_loss, anchor_varifocal_loss
from retinanet.model.anchors import image_anchors


def problem(device: str, hard: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = 3 * torch.randn(500, 80, generator=generator), torch.rand(500, 80, generator=generator)
    return inputs.to(device).requires_grad_(), (targets.round() if hard else targets).to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("hard", [False, True])
def test_value_and_gradient_are_torchvisions(device, reduction, hard):
    inputs, targets = problem(device, hard)
    results = []
    for loss in (sigmoid_focal_loss, torchvision_focal_loss):
        value = loss(inputs, targets, reduction=reduction)
        results.append((value.detach(), *torch.autograd.grad(value.sum(), inputs)))
    torch.testing.assert_close(*results, rtol=2e-6, atol=2e-6)


@on_gpu
def test_the_host_never_waits():
    inputs, targets = problem("cuda")
    labels = targets.argmax(dim=1)
    torch.cuda.synchronize()
    with waits_of_gpu() as waits:
        sigmoid_focal_loss(inputs, targets, reduction="sum").backward()
        softmax_focal_loss(inputs, labels).backward()
    assert waits == []


@on_gpu
def test_atss_matches_as_on_a_cpu_and_the_host_never_waits():
    generator = torch.Generator().manual_seed(0)
    corner = 200 * torch.rand(40, 2, generator=generator)
    boxes = torch.cat([corner, corner + 5 + 100 * torch.rand(40, 2, generator=generator)], dim=1)
    crowd, levels = torch.arange(40) % 9 == 0, image_anchors((256, 320))
    given = [level.cuda() for level in levels], boxes.cuda(), crowd.cuda()
    torch.cuda.synchronize()
    with waits_of_gpu() as waits:
        found = match_atss(*given, per_cell=9)
    assert waits == []
    assert torch.equal(found.cpu(), match_atss(levels, boxes, crowd, per_cell=9))


@on_gpu
@pytest.mark.parametrize("loss", [anchor_quality_focal_loss, anchor_varifocal_loss])
def test_the_losses_of_qualities_are_those_of_the_cpu_and_the_host_never_waits(loss):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 80, generator=generator)
    labels, quality = torch.randint(-2, 80, (500,), generator=generator), torch.rand(500, generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        x, *target = (each.to(device) for each in (logits, labels, quality))
        x.requires_grad_()
        with waits_of_gpu() as waits:
            value = loss(x, *target, check_labels=False)
            value.backward()
        results.append((value.detach().cpu(), x.grad.cpu()))
    assert waits == []
    torch.testing.assert_close(*results, rtol=2e-6, atol=2e-6)
