"""Losses of independent sigmoids, summed over a batch, with their derivatives in closed form.

Each loss is written for z = -x_t, the logit of a wrong class or the negated logit of the right one (paper, equation 6):
almost all of a detector's logits are of wrong classes. p = sigmoid(z) = 1 - p_t, and -log(p_t) = softplus(z).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from retinanet.losses.matching import IGNORE

Alpha = float | Sequence[float] | None
Pieces = Callable[[Tensor], tuple[Tensor, Callable[[], Tensor]]]  # z -> loss and, when called, its derivative by z

# logits evaluated at once: on a CPU each temporary is 512 KiB, a few of which stay in the second-level cache (2^15 to 2^18
# are equally fast within the noise of the timing); on a GPU 64 MiB
CPU_CHUNK, GPU_CHUNK = 1 << 17, 1 << 24
AT_LABELS = 16  # chunks' rows at once where one class of each is evaluated; all at once: 14 MB more for 240,174 rows


def weighted_sum(logits: Tensor, labels: Tensor, alpha: Alpha, pieces: Pieces) -> Tensor:
    """The loss of every x_t in rows that are not ignored, times alpha_t, summed over N and K: (...), fp32 or fp64.

    Arguments as of `retinanet.losses.focal.sigmoid_focal_loss`, but alpha None weighs nothing.
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    right = torch.as_tensor(1.0 if alpha is None else alpha, dtype=dtype)  # () or (K,)
    right = right.to(logits.device, non_blocking=True)
    wrong = right if alpha is None else 1 - right
    if torch.is_grad_enabled() and logits.requires_grad:
        return _WeightedSum.apply(logits, labels, right, wrong, pieces)
    return _evaluate(logits, labels, right, wrong, pieces, None)


class _WeightedSum(torch.autograd.Function):
    """The gradient is made beside the sum: both need the same exponentials, and nothing else is kept for it.

    It is kept in fp32 for logits of half precision too, in which it would vanish before it is scaled.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, right: Tensor, wrong: Tensor, pieces: Pieces) -> Tensor:
        ctx.save_for_backward(logits, labels, right, wrong)
        ctx.pieces = pieces
        ctx.gradient = torch.empty(logits.shape, dtype=right.dtype, device=logits.device)
        return _evaluate(logits, labels, right, wrong, pieces, ctx.gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # `once_differentiable` would let the gradient pass as a constant
            raise RuntimeError(
                "the loss can be differentiated once: create_graph=True has no second derivative to give"
            )
        logits, labels, right, wrong = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None  # scaled in place, so it serves once
        if gradient is None:  # a second backward of a graph that was retained
            gradient = torch.empty(logits.shape, dtype=upstream.dtype, device=upstream.device)
            _evaluate(logits, labels, right, wrong, ctx.pieces, gradient)
        return gradient.mul_(upstream[..., None, None]).to(logits.dtype), None, None, None, None


def _evaluate(
    logits: Tensor, labels: Tensor, right: Tensor, wrong: Tensor, pieces: Pieces, gradient: Tensor | None
) -> Tensor:
    """The sum (...), and into `gradient`, (..., N, K) if one is given, its derivative; nothing waits for a GPU.

    right, wrong: weights of the right class and of the wrong ones, () or (K,).
    """
    rows, label = logits.flatten(0, -2), labels.reshape(-1, 1)  # (N, K) and (N, 1) from here on
    sums = torch.empty(len(rows), dtype=right.dtype, device=rows.device)
    step = max(1, (CPU_CHUNK if rows.device.type == "cpu" else GPU_CHUNK) // max(1, rows.shape[1]))
    for part in _slices(len(rows), AT_LABELS * step):
        into = None if gradient is None else gradient.flatten(0, -2)[part]
        sums[part] = _of_rows(rows[part], label[part], right, wrong, pieces, step, into)
    return sums.view(labels.shape).sum(dim=-1)


def _of_rows(
    rows: Tensor, label: Tensor, right: Tensor, wrong: Tensor, pieces: Pieces, step: int, gradient: Tensor | None
) -> Tensor:
    """As `_evaluate`, of (N, K) logits and (N, 1) labels the sum of each row (N,); `step` rows at a time."""
    kept, index = label != IGNORE, label.clamp(min=0)
    right_loss, wrong_loss, slopes = _at_labels(rows, label, right, wrong, pieces, gradient is not None)
    sums = torch.empty(len(rows), dtype=right.dtype, device=rows.device)
    for part in _slices(len(rows), step):
        loss, slope = pieces(rows[part].to(right.dtype))  # (n, K), as if no class were right
        if gradient is not None and slopes is not None:
            torch.mul(slope(), kept[part] * wrong, out=gradient[part]).scatter_(1, index[part], slopes[part])
        # taken out of the sum of its row, not subtracted: the rest may be small beside it
        loss.scatter_(1, index[part], wrong_loss[part])
        torch.sum(loss * wrong if wrong.ndim else loss, dim=1, out=sums[part])
    total = (sums if wrong.ndim else sums * wrong) + right_loss.squeeze(1)
    return torch.where(kept.squeeze(1), total, 0)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))


def _at_labels(
    rows: Tensor, label: Tensor, right: Tensor, wrong: Tensor, pieces: Pieces, derivative: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What is different in the column of each row's label; in rows without a right class, of column 0, nothing is.

    Returns: (N, 1) each: the weighted loss of the right class, the loss of a wrong one, 0 where the class is right, and
        the weighted derivative of either by its logit, 0 in ignored rows.
    """
    foreground, index = label >= 0, label.clamp(min=0)
    x = rows.gather(1, index).to(right.dtype)
    (right_loss, right_slope), (wrong_loss, wrong_slope) = pieces(-x), pieces(x)
    right, wrong = (weight[index] if weight.ndim else weight for weight in (right, wrong))
    slopes = None
    if derivative:
        slopes = torch.where(foreground, -right * right_slope(), wrong * wrong_slope()) * (label != IGNORE)
    return torch.where(foreground, right * right_loss, 0), torch.where(foreground, 0, wrong_loss), slopes
