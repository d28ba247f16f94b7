"""The classification losses of the paper (sections 3 and 4.1, appendix A): each formula, its derivative and its sum.

All formulas use z = -x_t: the logit of a wrong class, or the negated logit of the right class (paper, equation 6). With
p = sigmoid(z) = 1 - p_t, the cross entropy is -log(p_t) = softplus(z).
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from retinanet.config.schema import best_alpha
from retinanet.losses.fused import Alpha, LossAndSlope, weighted_sum

LINEAR_FROM = 40.0  # a logit above which softplus(z) is z: exp(-40) is less than half an ulp, also in double precision


def cross_entropy_and_slope(z: Tensor) -> LossAndSlope:
    """CE = softplus(z); its derivative by z is p."""
    return F.softplus(z, threshold=LINEAR_FROM), z.sigmoid


def cross_entropy(x_t: Tensor) -> Tensor:
    """CE = -log(p_t), elementwise, with p_t = sigmoid(x_t) (paper, equations 1 and 6)."""
    return cross_entropy_and_slope(-x_t)[0]


def anchor_cross_entropy(logits: Tensor, labels: Tensor, alpha: Alpha = None, check_labels: bool = True) -> Tensor:
    """Cross entropy of independent sigmoids, summed and weighted by `alpha` (paper, equations 1 and 3).

    Arguments and result are those of `anchor_focal_loss`, but alpha None means no weights.
    """
    return weighted_sum(logits, labels, alpha, cross_entropy_and_slope, check_labels)


def focal_and_slope(z: Tensor, gamma: float) -> LossAndSlope:
    """FL = p^gamma softplus(z); its derivative by z is p^gamma (gamma (1 - p) softplus(z) + p)."""
    p = z.sigmoid()
    power = p**gamma
    loss = F.softplus(z, threshold=LINEAR_FROM).mul_(power)
    return loss, lambda: torch.lerp(gamma * loss, power, p)  # (1 - p) gamma FL + p p^gamma


def focal(x_t: Tensor, gamma: float) -> Tensor:
    """FL = -(1 - p_t)^gamma log(p_t), elementwise, with p_t = sigmoid(x_t) (paper, equation 4). gamma: >= 0."""
    return focal_and_slope(-x_t, gamma)[0]


def anchor_focal_loss(
    logits: Tensor, labels: Tensor, alpha: Alpha = None, gamma: float = 2.0, check_labels: bool = True
) -> Tensor:
    """Focal loss FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t) of independent sigmoids, summed (paper, equation 5).

    Args:
        logits: (..., N, K), any finite values.
        labels: (..., N) int64: class 0..K-1, BACKGROUND (all classes are wrong) or IGNORE (the row does not count).
        alpha: weight of the right class, 0..1, one for all classes or one for each; a wrong class has 1 - alpha. None:
            the paper's best for this gamma (table 1b), 0.25 for gamma >= 1.
        gamma: focusing parameter, >= 0; 0 gives cross entropy.
        check_labels: whether to check the labels, which waits for a GPU.
    Returns: (...), the sum over N and K in float32 (float64 for float64 logits), differentiable once.
    Raises: ValueError for any other label.
    """
    alpha = best_alpha(gamma) if alpha is None else alpha
    return weighted_sum(logits, labels, alpha, partial(focal_and_slope, gamma=gamma), check_labels)


def focal_star_and_slope(z: Tensor, gamma: float, shift: float) -> LossAndSlope:
    """FL* = softplus(gamma z - beta) / gamma; its derivative by z is sigmoid(gamma z - beta)."""
    moved = gamma * z - shift
    return F.softplus(moved, threshold=LINEAR_FROM) / gamma, moved.sigmoid


def focal_star(x_t: Tensor, gamma: float, shift: float) -> Tensor:
    """FL* = -log(sigmoid(gamma x_t + beta)) / gamma, elementwise (paper, equation 8). gamma: > 0. shift: beta."""
    return focal_star_and_slope(-x_t, gamma, shift)[0]


def anchor_focal_star_loss(
    logits: Tensor,
    labels: Tensor,
    alpha: Alpha = 0.25,
    gamma: float = 2.0,
    shift: float = 1.0,
    check_labels: bool = True,
) -> Tensor:
    """FL*, a variant of the focal loss, summed like `anchor_focal_loss` (paper, appendix A)."""
    return weighted_sum(logits, labels, alpha, partial(focal_star_and_slope, gamma=gamma, shift=shift), check_labels)
