"""The sum of a sigmoid loss over a batch and its gradient, in one pass over the logits.

Loss and gradient share their exponentials, so both are computed in the forward pass, a chunk of rows at a time. Almost
all classes are wrong, so the formula is first evaluated as if all were, then corrected at each row's label.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retinanet.losses.matching import IGNORE, require_labels

Alpha = float | Sequence[float] | None
LossAndSlope = tuple[Tensor, Callable[[], Tensor]]  # loss, and a function that returns its derivative by z
Formula = Callable[[Tensor], LossAndSlope]  # z -> its loss and slope, elementwise
QualityFormula = Callable[[Tensor, Tensor], LossAndSlope]  # logit of the right class and its target -> as `Formula`

# logits in a chunk. On a CPU, torch computes 2^15 in one thread; it would divide more among threads that wait for one
# another at each operation, which takes many times as long where other programs use the cores, too (RESULTS.md)
CPU_CHUNK, GPU_CHUNK = 1 << 15, 1 << 24
LABEL_CHUNKS = 16  # chunks whose label columns are evaluated together; all at once need 14 MB more for 240,174 rows
MOST_THREADS = 5  # a fifth of a chunk's time (21 of 108 us) is Python's, which runs in one thread at a time


@dataclass(frozen=True)
class _Terms:
    """The loss of a wrong class is wrong * of_wrong(logit), that of the right one right * of_right(logit, target).

    right, wrong: weights, () or (K,).
    """

    right: Tensor
    wrong: Tensor
    of_wrong: Formula
    of_right: QualityFormula


def weighted_sum(logits: Tensor, labels: Tensor, alpha: Alpha, formula: Formula, check_labels: bool = True) -> Tensor:
    """The sum of alpha_t times the loss, as `retinanet.losses.focal.anchor_focal_loss`; alpha None: no weights."""

    def of_right(x: Tensor, target: Tensor) -> LossAndSlope:
        loss, slope = formula(-x)
        return loss, lambda: -slope()

    right = _weight(1.0 if alpha is None else alpha, logits)
    terms = _Terms(right, right if alpha is None else 1 - right, formula, of_right)
    return _sum_of_terms(logits, labels, labels, terms, check_labels)


def quality_sum(
    logits: Tensor,
    labels: Tensor,
    quality: Tensor,
    of_wrong: Formula,
    of_right: QualityFormula,
    wrong_weight: float = 1.0,
    check_labels: bool = True,
) -> Tensor:
    """The sum of a loss whose target is the quality (..., N) of a row at its label, as `weighted_sum`.

    wrong_weight: of the classes that are wrong.
    Raises: ValueError for another shape of `quality`.
    """
    if quality.shape != labels.shape:
        raise ValueError(
            f"the shape of quality is {tuple(quality.shape)}, expected that of labels, {tuple(labels.shape)}"
        )
    terms = _Terms(_weight(1.0, logits), _weight(wrong_weight, logits), of_wrong, of_right)
    return _sum_of_terms(logits, labels, quality.detach(), terms, check_labels)


def _weight(value: float | Sequence[float], logits: Tensor) -> Tensor:
    """Weights in the dtype of the sum, () or (K,)."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.as_tensor(value, dtype=dtype).to(logits.device, non_blocking=True)


def _sum_of_terms(logits: Tensor, labels: Tensor, target: Tensor, terms: _Terms, check_labels: bool) -> Tensor:
    """The sum (...). target: (..., N), of the right class of each row."""
    if check_labels:
        require_labels(labels, logits.shape[-1])
    if torch.is_grad_enabled() and logits.requires_grad:
        return _WeightedSum.apply(logits, labels, target, terms)
    return _sum_chunks(logits, labels, target, terms, None)


class _WeightedSum(torch.autograd.Function):
    """`_sum_chunks` with its gradient, kept in float32: float16 would underflow before the loss scale is applied."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, target: Tensor, terms: _Terms) -> Tensor:
        ctx.save_for_backward(logits, labels, target)
        ctx.terms = terms
        ctx.gradient = torch.empty(logits.shape, dtype=terms.right.dtype, device=logits.device)
        return _sum_chunks(logits, labels, target, terms, ctx.gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # `once_differentiable` would return the gradient as a constant
            raise RuntimeError("the loss can be differentiated once: it has no second derivative for create_graph=True")
        logits, labels, target = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None  # scaled in place below, so usable only once
        if gradient is None:  # second backward pass with retain_graph
            gradient = torch.empty(logits.shape, dtype=upstream.dtype, device=upstream.device)
            _sum_chunks(logits, labels, target, ctx.terms, gradient)
        return gradient.mul_(upstream[..., None, None]).to(logits.dtype), None, None, None


def _sum_chunks(logits: Tensor, labels: Tensor, target: Tensor, terms: _Terms, gradient: Tensor | None) -> Tensor:
    """Returns the sum (...) and writes its derivative into `gradient` (..., N, K). Never waits for a GPU."""
    # (N, K), (N, 1) and (N, 1) from here on
    rows, label, goal = logits.flatten(0, -2), labels.reshape(-1, 1), target.reshape(-1, 1)
    sums = torch.empty(len(rows), dtype=terms.right.dtype, device=rows.device)
    step = max(1, (CPU_CHUNK if rows.device.type == "cpu" else GPU_CHUNK) // max(1, rows.shape[1]))
    size = LABEL_CHUNKS * step

    def write_sums(i: int) -> None:
        part = slice(i * size, (i + 1) * size)
        into = None if gradient is None else gradient.flatten(0, -2)[part]
        sums[part] = _sum_rows(rows[part], label[part], goal[part], terms, step, into)

    run_in_threads(write_sums, -(-len(rows) // size), rows.device)
    return sums.view(labels.shape).sum(dim=-1)


def run_in_threads(work: Callable[[int], None], count: int, device: torch.device) -> None:
    """Call `work` with 0..`count` - 1, on a CPU in as many threads as torch may use. No thread records a graph."""
    inference = torch.is_inference_mode_enabled()  # each thread has its own mode

    def one(i: int) -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            work(i)

    threads = min(torch.get_num_threads(), MOST_THREADS, count) if device.type == "cpu" else 1
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            deque(pool.map(one, range(count)), maxlen=0)  # raises what a thread raised
    else:
        deque(map(one, range(count)), maxlen=0)


def _sum_rows(rows: Tensor, label: Tensor, target: Tensor, terms: _Terms, step: int, gradient: Tensor | None) -> Tensor:
    """Like `_sum_chunks` for (N, K) logits and (N, 1) labels, `step` rows at a time. Returns: row sums, (N,)."""
    kept, index, wrong = label != IGNORE, label.clamp(min=0), terms.wrong
    right_loss, wrong_loss, slopes = _at_labels(rows, label, target, terms, gradient is not None)
    sums = torch.empty(len(rows), dtype=wrong.dtype, device=rows.device)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        loss, slope = terms.of_wrong(rows[part].to(wrong.dtype))  # (n, K), as if no class were right
        if gradient is not None and slopes is not None:
            torch.mul(slope(), kept[part] * wrong, out=gradient[part]).scatter_(1, index[part], slopes[part])
        # replaced before the sum: subtracting afterwards would lose the small losses of the row to rounding
        loss.scatter_(1, index[part], wrong_loss[part])
        torch.sum(loss * wrong if wrong.ndim else loss, dim=1, out=sums[part])
    total = (sums if wrong.ndim else sums * wrong) + right_loss.squeeze(1)
    return torch.where(kept.squeeze(1), total, 0)


def _at_labels(
    rows: Tensor, label: Tensor, target: Tensor, terms: _Terms, derivative: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Loss and derivative in the label's column of each row; in column 0 of a row without a right class.

    Returns: (N, 1) each: weighted loss of the right class, 0 if there is none; unweighted loss of column 0 as a wrong
        class, 0 if there is a right class; with `derivative`, the weighted derivative by the logit, 0 in ignored rows.
    """
    foreground, index = label >= 0, label.clamp(min=0)
    x = rows.gather(1, index).to(terms.right.dtype)
    (right_loss, right_slope), (wrong_loss, wrong_slope) = terms.of_right(x, target), terms.of_wrong(x)
    right, wrong = (weight[index] if weight.ndim else weight for weight in (terms.right, terms.wrong))
    slopes = None
    if derivative:
        slopes = torch.where(foreground, right * right_slope(), wrong * wrong_slope()) * (label != IGNORE)
    return torch.where(foreground, right * right_loss, 0), torch.where(foreground, 0, wrong_loss), slopes
