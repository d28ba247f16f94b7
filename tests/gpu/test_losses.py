"""The focal losses without a detector on a GPU."""

import pytest
import torch
from helpers.gpu import DEVICES, on_gpu, waits_of_gpu
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from retinanet import sigmoid_focal_loss, softmax_focal_loss


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
