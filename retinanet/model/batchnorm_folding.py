"""Batch normalisation with fixed statistics, folded into the convolution before it.

Such a normalisation scales and shifts each channel. Scaling the convolution's weights instead saves a pass over the
feature maps, forward and backward.
"""

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from retinanet.devices import highest_precision_dtype

M = TypeVar("M", bound=nn.Module)


class _FoldedForward:
    """Takes the place of a convolution's `forward`. An object, so that a deep copy of the module copies it too."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d):
        self.conv, self.norm = conv, norm

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv._conv_forward(x, *self.weight_and_bias())

    def weight_and_bias(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        exact = highest_precision_dtype(norm.weight.device)  # an error here is an error of the whole channel
        scale = norm.weight.to(exact) * torch.rsqrt(norm.running_var.to(exact) + norm.eps)  # (C,)
        bias = norm.bias.to(exact) - norm.running_mean.to(exact) * scale
        weight = self.conv.weight
        return weight * scale.to(weight.dtype)[:, None, None, None], bias.to(weight.dtype)


class _ActivationOnly:
    """Takes the place of a folded normalisation's `forward`."""

    def __init__(self, norm: nn.BatchNorm2d):
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        act = getattr(self.norm, "act", None)  # timm's normalisations contain the activation
        return x if act is None else act(x)


def fold_at_each_pass(body: nn.Module) -> None:
    """Fold each normalisation that directly follows a plain convolution, anew in every forward pass.

    Parameters, buffers and their names stay as they are, so the convolutions can be trained and saved.

    body: its normalisations are all frozen, and its modules list their children in the order of the computation.
    """
    for module in body.modules():
        for conv, norm in pairwise(module.children()):
            if type(conv) is not nn.Conv2d or conv.bias is not None or "forward" in vars(conv):
                continue
            if isinstance(norm, nn.BatchNorm2d):
                vars(conv)["forward"], vars(norm)["forward"] = _FoldedForward(conv, norm), _ActivationOnly(norm)


@torch.no_grad()
def fold_for_inference(model: M) -> M:
    """Fold once, for good, what `fold_at_each_pass` folds in every pass; returns the model itself.

    From then on the model is only for evaluation: its tensors no longer fit a checkpoint.
    """
    model.eval()
    for conv in model.modules():
        forward = vars(conv).get("forward")
        if isinstance(forward, _FoldedForward):
            weight, bias = forward.weight_and_bias()
            conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            del conv.forward
    return model
