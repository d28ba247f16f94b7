"""Batch normalisation of fixed statistics folded into the convolution before it.

It scales and shifts each channel; to scale the weights instead spares a pass over the maps, forward and backward.
"""

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from retinanet.devices import highest_precision_dtype

M = TypeVar("M", bound=nn.Module)


class _Folded:
    """In place of a convolution's forward pass; an object, as a copy of the module takes a copy of it along."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d):
        self.conv, self.norm = conv, norm

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv._conv_forward(x, *self.weight_and_bias())

    def weight_and_bias(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        exact = highest_precision_dtype(norm.weight.device)  # what is off here is off in a whole channel
        scale = norm.weight.to(exact) * torch.rsqrt(norm.running_var.to(exact) + norm.eps)  # (C,)
        bias = norm.bias.to(exact) - norm.running_mean.to(exact) * scale
        weight = self.conv.weight
        return weight * scale.to(weight.dtype)[:, None, None, None], bias.to(weight.dtype)


class _Passed:
    """In place of a normalisation's forward pass."""

    def __init__(self, norm: nn.BatchNorm2d):
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        act = getattr(self.norm, "act", None)  # timm's ends with the activation
        return x if act is None else act(x)


def fold(body: nn.Module) -> None:
    """Fold each normalisation, all frozen, that stands right behind a plain convolution; tensors and names stay.

    body: one in whose modules the order of the children is that of the computation.
    """
    for module in body.modules():
        for conv, norm in pairwise(module.children()):
            if type(conv) is not nn.Conv2d or conv.bias is not None or "forward" in vars(conv):
                continue  # of another kind
            if isinstance(norm, nn.BatchNorm2d):
                vars(conv)["forward"], vars(norm)["forward"] = _Folded(conv, norm), _Passed(norm)


@torch.no_grad()
def fold_for_inference(model: M) -> M:
    """The model itself, in which the weights that `fold` scales at every pass are scaled now, once for all.

    For evaluation alone from now on: its tensors are no checkpoint's.
    """
    model.eval()
    for conv in model.modules():
        forward = vars(conv).get("forward")
        if isinstance(forward, _Folded):
            weight, bias = forward.weight_and_bias()
            conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            del conv.forward
    return model
