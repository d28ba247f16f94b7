"""Frozen batch normalisation folded into the preceding convolution, which saves a pass over the feature maps."""

from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from retinanet.devices import highest_precision_dtype

M = TypeVar("M", bound=nn.Module)


class _FoldedForward:
    """Replaces a convolution's `forward`; an object, so that it is copied and pickled with the module."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d):
        self.conv, self.norm = conv, norm

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv._conv_forward(x, *self.weight_and_bias())

    def weight_and_bias(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        exact = highest_precision_dtype(norm.weight.device)  # a rounding error would affect the whole channel
        scale = norm.weight.to(exact) * torch.rsqrt(norm.running_var.to(exact) + norm.eps)  # (C,)
        bias = norm.bias.to(exact) - norm.running_mean.to(exact) * scale
        weight = self.conv.weight
        return weight * scale.to(weight.dtype)[:, None, None, None], bias.to(weight.dtype)


def _activation_only(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """`forward` of a folded normalisation."""
    act = getattr(norm, "act", None)  # timm's normalisations contain the activation
    return x if act is None else act(x)


def fold_at_each_pass(body: nn.Module) -> None:
    """Fold each normalisation that directly follows a convolution, again in every forward pass.

    Parameters, buffers and their names do not change, so the convolutions can still be trained and saved.
    body: all of its normalisations are frozen, and its modules list their children in the order in which they run.
    """
    for module in body.modules():
        for conv, norm in pairwise(module.children()):
            if type(conv) is not nn.Conv2d or conv.bias is not None or "forward" in vars(conv):
                continue
            if isinstance(norm, nn.BatchNorm2d):
                vars(conv)["forward"] = _FoldedForward(conv, norm)
                vars(norm)["forward"] = partial(_activation_only, norm)


@torch.no_grad()
def fold_for_inference(model: M) -> M:
    """Permanently fold what `fold_at_each_pass` folds in every pass; returns the same model.

    Afterwards the model is only for evaluation: its tensors no longer fit a checkpoint.
    """
    model.eval()
    for conv in model.modules():
        forward = vars(conv).get("forward")
        if isinstance(forward, _FoldedForward):
            weight, bias = forward.weight_and_bias()
            conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            del conv.forward
    return model
