"""The focal loss of classes that exclude each other, for classification problems with a softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    gamma: float = 2,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss -w_t (1 - p_t)^gamma log(p_t), where p_t is the softmax score of the right class.

    Lin et al. 2017, equation 4, with a softmax in place of the sigmoid. The other arguments are those of
    `torch.nn.functional.cross_entropy`, and so are the results for gamma 0 and the memory: one tensor like `inputs`
    from the forward to the backward pass.

    Args:
        inputs: (N, K) logits, or (N, K, ...) as for the pixels of an image.
        targets: (N) or (N, ...) int64, class 0..K-1 or `ignore_index`.
        gamma: focusing parameter, >= 0.
        weight: (K,) weight of each class, as alpha in the paper; None: 1.
        ignore_index: a target that counts nothing, also in the mean.
        reduction: "none", "sum" or "mean", the sum divided by the sum of the targets' weights.
    Returns: the shape of `targets`, or a scalar, in the dtype of `inputs`.
    Raises: ValueError for another reduction. IndexError for any other label, on a CPU.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"Invalid value of reduction: '{reduction}', expected 'none', 'mean' or 'sum'")
    entropy = F.cross_entropy(inputs, targets, ignore_index=ignore_index, reduction="none")  # -log(p_t)
    kept = targets != ignore_index
    weights = kept.to(entropy.dtype) if weight is None else weight[targets.where(kept, 0)] * kept
    # above 0, where a gamma below 1 would have an infinite derivative
    wrong = (-torch.expm1(-entropy)).clamp(min=torch.finfo(entropy.dtype).tiny)  # 1 - p_t
    loss = weights * wrong**gamma * entropy
    if reduction == "none":
        return loss
    return loss.sum() / weights.sum() if reduction == "mean" else loss.sum()
