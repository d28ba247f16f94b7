"""`softmax_focal_loss` compared with its formula and with torch's cross entropy."""

import math

import pytest
import torch
import torch.nn.functional as F

from retinanet import softmax_focal_loss

WEIGHT = torch.tensor([0.1, 0.25, 0.5, 2.0, 0.9], dtype=torch.float64)


def problem(count=30, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = 3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (count,), generator=generator)
    targets[::7] = -100
    return inputs, targets


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_the_loss_equals_its_formula(gamma, weight):
    inputs, targets = problem()
    expected, total = [], 0.0
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        p_t = math.exp(row[target]) / sum(map(math.exp, row)) if target >= 0 else 1.0
        w_t = (1.0 if weight is None else float(weight[target])) if target >= 0 else 0.0
        expected.append(-w_t * (1 - p_t) ** gamma * math.log(p_t))
        total += w_t
    loss = softmax_focal_loss(inputs, targets, gamma, weight, reduction="none")
    assert loss.tolist() == pytest.approx(expected, rel=1e-9)
    assert float(softmax_focal_loss(inputs, targets, gamma, weight, reduction="sum")) == pytest.approx(sum(expected))
    assert float(softmax_focal_loss(inputs, targets, gamma, weight)) == pytest.approx(sum(expected) / total)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("ignore_index", [-100, 2, 255])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gamma_0_is_torchs_cross_entropy(reduction, ignore_index, weight):
    inputs, targets = problem()
    targets[targets == -100] = ignore_index
    settings = {"weight": weight, "ignore_index": ignore_index, "reduction": reduction}
    torch.testing.assert_close(
        softmax_focal_loss(inputs, targets, 0, **settings), F.cross_entropy(inputs, targets, **settings)
    )


def test_pixels_are_rows():
    inputs, targets = problem(count=24)
    images = inputs.view(2, 3, 4, 5).permute(0, 3, 1, 2)  # (B, K, H, W)
    loss = softmax_focal_loss(images, targets.view(2, 3, 4), reduction="none")
    torch.testing.assert_close(loss.flatten(), softmax_focal_loss(inputs, targets, reduction="none"))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_first_and_second_derivatives_pass_gradcheck(gamma, reduction):
    inputs, targets = problem(count=8)
    inputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: softmax_focal_loss(x, targets, gamma, WEIGHT, -100, reduction), inputs)
    assert torch.autograd.gradgradcheck(lambda x: softmax_focal_loss(x, targets, gamma, None, -100, reduction), inputs)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_sure_answers_have_a_finite_loss_and_gradient(gamma):
    inputs = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = softmax_focal_loss(inputs, torch.tensor([0, 0]), gamma, reduction="sum")
    loss.backward()
    assert float(loss.detach()) == pytest.approx(200)
    torch.testing.assert_close(inputs.grad, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_inputs(dtype):
    inputs, targets = problem()
    loss = softmax_focal_loss(inputs.to(dtype), targets)
    assert loss.dtype == dtype
    exact = softmax_focal_loss(inputs.to(dtype).double(), targets)
    torch.testing.assert_close(loss.double(), exact, rtol=8 * torch.finfo(dtype).eps, atol=0)


def test_ignored_targets_get_no_gradient_and_none_at_all_give_no_number():
    inputs, targets = problem()
    inputs.requires_grad_()
    softmax_focal_loss(inputs, targets).backward()
    assert torch.equal((inputs.grad != 0).any(dim=1), targets != -100)
    assert softmax_focal_loss(inputs, torch.full_like(targets, -100), reduction="sum") == 0
    assert softmax_focal_loss(inputs, torch.full_like(targets, -100)).isnan()  # as torch's cross entropy


def test_one_tensor_like_the_inputs_waits_for_the_backward_pass():
    inputs, targets = problem()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        softmax_focal_loss(inputs.requires_grad_(), targets, weight=WEIGHT)
    assert len({each.data_ptr() for each in kept if each.numel() == inputs.numel()}) == 1


def test_wrong_arguments_are_refused():
    inputs, targets = problem()
    with pytest.raises(ValueError, match="reduction"):
        softmax_focal_loss(inputs, targets, reduction="summ")
    with pytest.raises(IndexError, match="5"):
        softmax_focal_loss(inputs, targets.clamp(min=5))
