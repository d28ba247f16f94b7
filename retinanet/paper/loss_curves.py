"""The classification losses as functions of p_t and x_t (paper, figures 1 and 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from retinanet.losses.focal import cross_entropy, focal, focal_star

Kind = Literal["focal", "focal_star"]

POINTS = (0.5, 0.9, 0.968)  # values of p_t at which the paper compares with cross entropy, sections 3 and 3.2


@dataclass(frozen=True)
class Curve:
    """A loss over p_t, or its derivative by x_t over x_t. gamma: 0 is cross entropy."""

    gamma: float
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Point:
    """A loss, or its derivative by x_t, at `p_t`.

    factor: how many times smaller `value` is than that of cross entropy with the same alpha.
    """

    gamma: float
    p_t: float
    value: float
    factor: float


def loss_curves(
    gammas: Sequence[float], kind: Kind, alpha: float | None, shift: float, derivative: bool
) -> list[Curve]:
    """The loss, or its derivative by x_t, for cross entropy, then for each gamma in ascending order.

    alpha: weight of the loss; None: 1. shift: beta of focal_star, for which each gamma must be above 0.
    derivative: False: the loss over p_t = 0.001 .. 1 (figure 1). True: the derivative over x_t = -5 .. 5 (figure 6).
    """
    if derivative:
        x = x_t = torch.arange(-500, 501, dtype=torch.float64) / 100
    else:
        x = torch.arange(1, 1001, dtype=torch.float64) / 1000  # at 0 the loss is infinite
        x_t = torch.logit(x)
    weight = 1 if alpha is None else alpha
    return [
        Curve(gamma, x.tolist(), (weight * _values(x_t, gamma, kind, shift, derivative)).tolist())
        for gamma in _with_cross_entropy(gammas)
    ]


def points(gammas: Sequence[float], kind: Kind, alpha: float | None, shift: float, derivative: bool) -> list[Point]:
    """The value of each curve at each of POINTS. Arguments: see `loss_curves`."""
    x_t = torch.logit(torch.tensor(POINTS, dtype=torch.float64))
    cross_entropies = _values(x_t, 0, kind, shift, derivative)
    weight = 1 if alpha is None else alpha
    return [
        Point(gamma, p_t, float(weight * value), float(entropy / value))
        for gamma in _with_cross_entropy(gammas)
        for p_t, value, entropy in zip(
            POINTS, _values(x_t, gamma, kind, shift, derivative), cross_entropies, strict=True
        )
    ]


def _with_cross_entropy(gammas: Sequence[float]) -> list[float]:
    """The gammas in ascending order, each once, with 0 for cross entropy."""
    return sorted({0.0, *map(float, gammas)})


def _values(x_t: Tensor, gamma: float, kind: Kind, shift: float, derivative: bool) -> Tensor:
    """The loss at each x_t, or its derivative by x_t."""
    if gamma == 0:
        loss = cross_entropy
    else:
        loss = partial(focal, gamma=gamma) if kind == "focal" else partial(focal_star, gamma=gamma, shift=shift)
    if not derivative:
        return loss(x_t)
    x_t = x_t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(x_t).sum(), x_t)
    return slope
