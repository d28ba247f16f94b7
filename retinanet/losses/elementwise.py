"""The focal loss of targets in the shape of the logits: the same call and results as torchvision's."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retinanet.losses.focal import LINEAR_FROM, focal_and_slope
from retinanet.losses.fused import CPU_CHUNK, GPU_CHUNK, LossAndSlope, run_in_threads


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> Tensor:
    """Focal loss FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t) of each logit and its target (paper, equation 5).

    A drop-in for `torchvision.ops.sigmoid_focal_loss`, except inside `torch.func.grad` and `torch.func.vmap`, which
    refuse it. The gradient is computed in the forward pass, in closed form and in chunks. TorchScript, `torch.compile`,
    targets that require a gradient, and second derivatives use autograd and its memory.

    Args:
        inputs: logits of any shape, finite.
        targets: of the same shape, 0..1; a value between is a soft target. Unlike torchvision's, they may be integers.
        alpha: weight of target 1, 0..1; target 0 has 1 - alpha. -1: no weights.
        gamma: focusing parameter, >= 0; 0 gives cross entropy.
        reduction: "none", "mean" or "sum".
    Returns: the shape of `inputs`, or a scalar; in the dtype that `inputs` and `targets` promote to, at least float32
        in autocast. Half precision is computed in float32.
    Raises: ValueError for another alpha or reduction, or targets of another shape.
    """
    if not 0 <= alpha <= 1 and alpha != -1:
        raise ValueError(f"Invalid alpha value: {alpha}, expected 0 to 1, or -1 for no weights")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"Invalid value of reduction: '{reduction}', expected 'none', 'mean' or 'sum'")
    if inputs.shape != targets.shape:
        raise ValueError(
            f"Target size ({targets.shape}) must be the same as input size ({inputs.shape}); "
            "anchor_focal_loss and softmax_focal_loss take class labels"
        )
    if torch.jit.is_scripting():
        loss = _reduced(soft_focal(inputs, targets, alpha, gamma), reduction)
    else:
        loss = _sigmoid_focal_loss(inputs, targets, alpha, gamma, reduction)
    return loss


def soft_focal(x: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """The loss of `sigmoid_focal_loss`, elementwise, for autograd and TorchScript."""
    z, _, doubt = towards_wrong(x, target)
    wrong, entropy = _wrong_and_entropy(z, z.sigmoid(), doubt)
    return _weight(target, alpha) * wrong**gamma * entropy


def soft_focal_and_slope(x: Tensor, target: Tensor, alpha: float, gamma: float) -> LossAndSlope:
    """`soft_focal` and its derivative by x; with q = 1 - p_t and u = `doubt`, that by z is

    alpha_t q^gamma (gamma CE p (1 - p) (1 - 2 u) / q + p - u).
    """
    z, sign, doubt = towards_wrong(x, target)
    p = z.sigmoid()
    wrong, entropy = _wrong_and_entropy(z, p, doubt)
    power = wrong.pow(gamma).mul_(_weight(target, alpha))
    loss = power * entropy

    def slope() -> Tensor:
        # where q is 0, p is 0 too and the term vanishes; it is divided by 1 there
        change = (1 - p).mul_(p).mul_(1 - 2 * doubt).div_(wrong.masked_fill(wrong == 0, 1))
        return change.mul_(entropy).mul_(gamma).add_(p).sub_(doubt).mul_(power).mul_(sign)

    return loss, slope


def hard_focal_and_slope(x: Tensor, target: Tensor, alpha: float, gamma: float) -> LossAndSlope:
    """`soft_focal_and_slope` for targets that are all 0 or 1, in half the time."""
    sign, weight = 1 - 2 * target, _weight(target, alpha)
    loss, slope = focal_and_slope(sign * x, gamma)
    return loss * weight, lambda: slope().mul_(weight).mul_(sign)


def towards_wrong(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logit z of the less likely answer, the sign of x in it, and that answer's share of the target, up to 0.5.

    So no difference of two numbers near 1 is taken: 1 - p_t keeps its digits where p_t is almost 1.
    """
    right = (target > 0.5).to(x.dtype)
    sign = 1 - 2 * right
    return sign * x, sign, (target - right) * sign


def _wrong_and_entropy(z: Tensor, p: Tensor, doubt: Tensor, linear_from: float = LINEAR_FROM) -> tuple[Tensor, Tensor]:
    """1 - p_t = p (1 - u) + (1 - p) u, and CE = softplus(z) - u z. The constant is a default for TorchScript."""
    return torch.lerp(p, 1 - p, doubt), F.softplus(z, threshold=linear_from) - doubt * z


def _weight(target: Tensor, alpha: float) -> Tensor:
    """alpha_t of each target; 1 for alpha -1."""
    return torch.ones_like(target) if alpha < 0 else (2 * alpha - 1) * target + (1 - alpha)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def _sigmoid_focal_loss(inputs: Tensor, targets: Tensor, alpha: float, gamma: float, reduction: str) -> Tensor:
    """`sigmoid_focal_loss` of checked arguments, outside TorchScript."""
    dtype = torch.promote_types(inputs.dtype, targets.dtype)
    device = inputs.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.promote_types(dtype, torch.float32)
    settings = alpha, gamma, reduction
    if targets.requires_grad or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return _at_once(inputs, targets, *settings).to(dtype)
    if torch.is_grad_enabled() and inputs.requires_grad:
        return _InChunks.apply(inputs, targets, settings, dtype)
    return _in_chunks(inputs, targets, settings, dtype, None)


def _at_once(inputs: Tensor, targets: Tensor, alpha: float, gamma: float, reduction: str) -> Tensor:
    dtype = _arithmetic(inputs, targets)
    return _reduced(soft_focal(inputs.to(dtype), targets.to(dtype), alpha, gamma), reduction)


def _arithmetic(inputs: Tensor, targets: Tensor) -> torch.dtype:
    """float32, or float64 where one of both is."""
    return torch.promote_types(torch.promote_types(inputs.dtype, targets.dtype), torch.float32)


class _InChunks(torch.autograd.Function):
    """The loss with its gradient, kept in float32: float16 would underflow before the loss scale is applied."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, targets: Tensor, settings: tuple, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(inputs, targets)
        ctx.settings, ctx.dtype = settings, dtype
        ctx.gradient = _empty_gradient(inputs, targets)
        return _in_chunks(inputs, targets, settings, dtype, ctx.gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        inputs, targets = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            loss = _at_once(inputs, targets, *ctx.settings).to(ctx.dtype)
            return *torch.autograd.grad(loss, inputs, upstream, create_graph=True), None, None, None
        gradient, ctx.gradient = ctx.gradient, None  # scaled in place below, so usable only once
        if gradient is None:  # second backward pass with retain_graph
            gradient = _empty_gradient(inputs, targets)
            _in_chunks(inputs, targets, ctx.settings, ctx.dtype, gradient)
        scale = upstream.to(gradient.dtype)
        if ctx.settings[2] == "mean":
            scale = scale / inputs.numel()
        return gradient.mul_(scale).to(inputs.dtype), None, None, None


def _empty_gradient(inputs: Tensor, targets: Tensor) -> Tensor:
    return torch.empty(inputs.shape, dtype=_arithmetic(inputs, targets), device=inputs.device)


def _in_chunks(inputs: Tensor, targets: Tensor, settings: tuple, dtype: torch.dtype, gradient: Tensor | None) -> Tensor:
    """Returns the loss and writes the derivative of its sum into `gradient`. Never waits for a GPU."""
    alpha, gamma, reduction = settings
    on_cpu, exact = inputs.device.type == "cpu", _arithmetic(inputs, targets)
    x, target, size = inputs.reshape(-1), targets.reshape(-1), CPU_CHUNK if on_cpu else GPU_CHUNK
    count = -(-len(x) // size)
    losses = torch.empty(len(x) if reduction == "none" else 0, dtype=dtype, device=x.device)
    sums = torch.empty(count, dtype=exact, device=x.device)

    def write_chunk(i: int) -> None:
        part = slice(i * size, (i + 1) * size)
        logits, answers = x[part].to(exact), target[part].to(exact)
        hard = on_cpu and torch.equal(answers * answers, answers)  # on a GPU the answer would be waited for
        loss, slope = (hard_focal_and_slope if hard else soft_focal_and_slope)(logits, answers, alpha, gamma)
        if gradient is not None:
            gradient.view(-1)[part] = slope()
        if reduction == "none":
            losses[part] = loss
        else:
            sums[i] = loss.sum()

    run_in_threads(write_chunk, count, x.device)
    if reduction == "none":
        return losses.view(inputs.shape)
    return (sums.sum() / (inputs.numel() if reduction == "mean" else 1)).to(dtype)
