"""The optimizer, its learning-rate schedule, and the moving average of the weights."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from retinanet.config.schema import TrainConfig

REFERENCE_BATCH = 16  # images; paper, 4.1
BASE_LR = {"sgd": 0.01, "adamw": 0.001}  # at REFERENCE_BATCH; SGD: paper, 4.1
WEIGHT_DECAY = {"sgd": 1e-4, "adamw": 0.05}  # SGD: paper, 4.1; AdamW: Loshchilov and Hutter 2019's range
WARMUP = (500, 0.1)  # steps (Detectron), but at most this fraction of the run
WARMUP_START = 1e-3  # factor at step 0; Detectron starts at a third
DROP = 0.1  # at each milestone; paper, 4.1


def learning_rate(train: TrainConfig, images: int) -> float:
    """The learning rate after warm-up: train.lr, or a base rate scaled with the number of images per step.

    The scaling is linear for SGD (Goyal et al. 2017) and by the square root for AdamW.
    """
    if train.lr is not None:
        return train.lr
    ratio = images / REFERENCE_BATCH
    return BASE_LR[train.optimizer] * (ratio if train.optimizer == "sgd" else math.sqrt(ratio))


def make_optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW for the trainable parameters; `optimizer_step` sets its learning rate.

    Without weight decay on biases and normalisation (Detectron) and on the scales of the levels.
    """
    decay = train.weight_decay if train.weight_decay is not None else WEIGHT_DECAY[train.optimizer]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]
    fused = all(parameter.is_cuda for parameter in learning)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    return torch.optim.SGD(groups, momentum=train.momentum, fused=fused)


def lr_factor(step: int, steps: int, schedule: str, milestones: Sequence[float], warmup: int | None = None) -> float:
    """Factor on the learning rate: linear warm-up, then drops (schedule "step") or half a cosine ("cosine").

    step: 0..steps-1. milestones: fractions of the run, 0..1, at which the rate drops. warmup: steps; None: WARMUP.
    """
    if warmup is None:
        warmup = min(WARMUP[0], int(WARMUP[1] * steps))
    ramp = min(1.0, WARMUP_START + (1 - WARMUP_START) * step / warmup) if warmup else 1.0
    if schedule == "cosine":
        return ramp * 0.5 * (1 + math.cos(math.pi * step / steps))
    return ramp * DROP ** sum(step >= round(part * steps) for part in milestones)


class WeightAverage:
    """Exponential moving average of a model's weights and buffers.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the initial weights are forgotten quickly.

    model: a copy with the averages. tensors: the averages, which `model` shares.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.tensors = self.model.state_dict()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        current = model.state_dict()
        floating = [name for name, tensor in current.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.tensors[name] for name in floating], [current[name] for name in floating], 1 - decay)
        for name in current.keys() - floating:
            self.tensors[name].copy_(current[name])
