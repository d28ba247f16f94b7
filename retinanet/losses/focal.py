"""The classification losses of the paper (sections 3 and 4.1, appendix A), each beside its derivative."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from retinanet.config.schema import best_alpha
from retinanet.losses.fused import Alpha, weighted_sum

STRAIGHT = 40.0  # above, softplus(z) is z: exp(-40) is below half an ulp in double precision too


def cross_entropy_pieces(z: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """CE = -log(p_t) (paper, equation 1); derivative p."""
    return F.softplus(z, threshold=STRAIGHT), z.sigmoid


def focal_pieces(z: Tensor, gamma: float) -> tuple[Tensor, Callable[[], Tensor]]:
    """FL = -(1 - p_t)^gamma log(p_t) (paper, equation 4); derivative p^gamma (gamma (1 - p) softplus(z) + p)."""
    p = z.sigmoid()
    power = p**gamma
    loss = F.softplus(z, threshold=STRAIGHT).mul_(power)
    return loss, lambda: torch.lerp(gamma * loss, power, p)  # (1 - p) gamma FL + p p^gamma


def focal_star_pieces(z: Tensor, gamma: float, shift: float) -> tuple[Tensor, Callable[[], Tensor]]:
    """FL* = -log(sigmoid(gamma x_t + beta)) / gamma (paper, equation 8); derivative sigmoid(gamma z - beta)."""
    moved = gamma * z - shift
    return F.softplus(moved, threshold=STRAIGHT) / gamma, moved.sigmoid


def cross_entropy(x_t: Tensor) -> Tensor:
    """CE = -log(p_t), elementwise (paper, equation 1).

    x_t: the logit, negated where the class is wrong, so that p_t = sigmoid(x_t) (paper, equation 6).
    """
    return cross_entropy_pieces(-x_t)[0]


def focal(x_t: Tensor, gamma: float) -> Tensor:
    """FL = -(1 - p_t)^gamma log(p_t), elementwise, p_t = sigmoid(x_t) (paper, equation 4). gamma: >= 0."""
    return focal_pieces(-x_t, gamma)[0]


def focal_star(x_t: Tensor, gamma: float, shift: float) -> Tensor:
    """FL* = -log(sigmoid(gamma x_t + beta)) / gamma, elementwise (paper, equation 8). gamma: > 0. shift: beta."""
    return focal_star_pieces(-x_t, gamma, shift)[0]


def sigmoid_cross_entropy(logits: Tensor, labels: Tensor, alpha: Alpha = None) -> Tensor:
    """Cross entropy of independent sigmoids, summed; balanced by `alpha` if one is given (paper, equations 1 and 3).

    Arguments and result as of `sigmoid_focal_loss`, but alpha None weighs nothing.
    """
    return weighted_sum(logits, labels, alpha, cross_entropy_pieces)


def sigmoid_focal_loss(logits: Tensor, labels: Tensor, alpha: Alpha = None, gamma: float = 2.0) -> Tensor:
    """Focal loss FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t) of independent sigmoids, summed (paper, equation 5).

    Args:
        logits: (..., N, K), any finite values. labels: (..., N) int64, the class 0..K-1 of each row, BACKGROUND (no class
            is right) or IGNORE (the row counts nothing).
        alpha: weight of the right class in 0..1, a wrong one has 1 - alpha; one number, or one for each class. None: the
            paper's best for this gamma (table 1b), 0.25 from gamma 1 on. gamma: focusing, >= 0; 0 is cross entropy.
    Returns: (...), the sum over N and K: a scalar for (N, K) logits; float32 (float64 for float64 logits). It can be
        differentiated once.
    """
    alpha = best_alpha(gamma) if alpha is None else alpha
    return weighted_sum(logits, labels, alpha, partial(focal_pieces, gamma=gamma))


def sigmoid_focal_star_loss(
    logits: Tensor, labels: Tensor, alpha: Alpha = 0.25, gamma: float = 2.0, shift: float = 1.0
) -> Tensor:
    """The focal loss' variant FL* of independent sigmoids, summed (paper, appendix A). Arguments as of `focal_star`."""
    return weighted_sum(logits, labels, alpha, partial(focal_star_pieces, gamma=gamma, shift=shift))
