"""Classification losses whose target is a quality: the IoU of the predicted box, at the class of a foreground anchor.

So a score tells how well its box fits, too, and the suppression keeps the better of two boxes.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from retinanet.losses.elementwise import towards_wrong
from retinanet.losses.focal import LINEAR_FROM, focal_and_slope
from retinanet.losses.fused import LossAndSlope, quality_sum


def quality_focal_and_slope(x: Tensor, quality: Tensor, gamma: float) -> LossAndSlope:
    """QFL = |p - y|^gamma CE(p, y) of logits x with p = sigmoid(x) and targets y, and its derivative by x.

    With g = p - y, that is |g|^gamma (g + gamma p (1 - p) CE / g).
    """
    z, sign, doubt = towards_wrong(x, quality.to(x.dtype))
    p = z.sigmoid()
    gap, entropy = p - doubt, F.softplus(z, threshold=LINEAR_FROM) - doubt * z
    power = gap.abs() ** gamma

    def slope() -> Tensor:
        # where the gap is 0, so is |g|^gamma / g, for a gamma above 1
        change = gamma * p * (1 - p) * entropy / gap.masked_fill(gap == 0, 1)
        return sign * power * (gap + change)

    return power * entropy, slope


def anchor_quality_focal_loss(
    logits: Tensor, labels: Tensor, quality: Tensor, gamma: float = 2.0, check_labels: bool = True
) -> Tensor:
    """Quality focal loss |p - y|^gamma CE(p, y), summed (Li et al. 2020, "Generalized Focal Loss").

    The target y is the quality at a row's label and 0 elsewhere. No gradient passes through it.

    Args:
        logits, labels, check_labels: as for `retinanet.losses.focal.anchor_focal_loss`.
        quality: (..., N), 0..1; counts only in rows with a label.
        gamma: focusing parameter, the paper's beta: 0 or >= 1. 0 gives cross entropy; between 0 and 1 the derivative
            would be infinite where p = y.
    Returns: (...), the sum over N and K in float32 (float64 for float64 logits), differentiable once.
    Raises: ValueError for any other label, and for another shape of `quality`.
    """
    formulas = partial(focal_and_slope, gamma=gamma), partial(quality_focal_and_slope, gamma=gamma)
    return quality_sum(logits, labels, quality, *formulas, check_labels=check_labels)


def varifocal_and_slope(x: Tensor, quality: Tensor, alpha: float, gamma: float) -> LossAndSlope:
    """VFL of logits x, q CE(p, q) where the target q is above 0 and alpha p^gamma CE(p, 0) where it is 0.

    The derivative by x is q (p - q) in the first case.
    """
    q = quality.to(x.dtype)
    wrong, wrong_slope = focal_and_slope(x, gamma)
    loss = torch.where(q > 0, q * (F.softplus(x, threshold=LINEAR_FROM) - q * x), alpha * wrong)
    return loss, lambda: torch.where(q > 0, q * (x.sigmoid() - q), alpha * wrong_slope())


def anchor_varifocal_loss(
    logits: Tensor,
    labels: Tensor,
    quality: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    check_labels: bool = True,
) -> Tensor:
    """Varifocal loss, summed like `anchor_quality_focal_loss` (Zhang et al. 2021, "VarifocalNet").

    It is q CE(p, q) at a row's label if the quality q is above 0, and alpha p^gamma CE(p, 0) elsewhere: only wrong
    classes are focused, and a right one weighs what its box is worth.

    Args: as there, with alpha, the weight of wrong classes, >= 0, and gamma >= 0.
    """
    formulas = partial(focal_and_slope, gamma=gamma), partial(varifocal_and_slope, alpha=alpha, gamma=gamma)
    return quality_sum(logits, labels, quality, *formulas, wrong_weight=alpha, check_labels=check_labels)
