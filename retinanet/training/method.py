"""What the training loop asks of a kind of detector, and what RetinaNet answers."""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from retinanet.config.schema import Config, loss_settings
from retinanet.data.loader import Batch
from retinanet.evaluation.evaluate import EvaluatedModel
from retinanet.inference.torch_model import TorchModel
from retinanet.losses.criterion import Criterion, Targets, make_criterion
from retinanet.model.retinanet import Predictions, RetinaNet, make_model

Forward = Callable[..., Any]  # the network's forward pass in the configured precision


class BatchLosses(NamedTuple):
    """The losses of a batch, with the numbers that are reported beside them.

    losses: {"cls", "box"}, scalars. expected: scalar, the classification loss of untrained subnets; nan if not asked
    for or not known. foreground: scalars, the number of foreground anchors on each level P3..P7; [] if not known.
    """

    losses: dict[str, Tensor]
    expected: Tensor
    foreground: list[Tensor]


class Method(Protocol):
    """A kind of detector: how it is built, trained and evaluated.

    loss, loss_settings: the name of its loss and the values of its settings, for the plan of a run.
    """

    loss: str
    loss_settings: dict[str, Any]

    def make_model(self, classes: int, pretrained: bool) -> nn.Module:
        """A network to train. pretrained: whether to load ImageNet weights. Raises: ConfigError."""

    def losses(self, forward: Forward, batch: Batch, first: bool) -> BatchLosses:
        """The losses of a batch. first: whether it belongs to the first step of the run, so that `expected` is due."""

    def state(self) -> dict[str, float]:
        """What `losses` keeps from one batch to the next, for a checkpoint."""

    def load_state(self, progress: dict[str, Any]) -> None:
        """Take what `state` gave out of the progress in a checkpoint."""

    def for_evaluation(self, model: nn.Module) -> EvaluatedModel:
        """The detector of a network that `make_model` made."""


class RetinaNetMethod:
    """RetinaNet with the losses of a config."""

    def __init__(self, config: Config):
        self.config = config
        self.criterion = make_criterion(config.loss, config.anchors)
        self.loss: str = config.loss.classification
        self.loss_settings = loss_settings(config.loss)

    def make_model(self, classes: int, pretrained: bool) -> RetinaNet:
        return make_model(self.config.model, self.config.anchors, classes, pretrained)

    def losses(self, forward: Forward, batch: Batch, first: bool) -> BatchLosses:
        predictions = forward(batch.images, batch.sizes)
        targets = Targets(batch.boxes, batch.labels, batch.crowd, [sample.key for sample in batch.samples])
        matched = self.criterion.match_anchors(predictions.anchors, targets)  # (B, R)
        expected = torch.full((), math.nan, device=matched.device)
        if first:
            expected = expected_first_loss(self.criterion, predictions, matched, targets, self.config.model.prior)
        losses = self.criterion.losses(predictions, matched, targets, check_labels=False)
        levels = matched.split([len(level) for level in predictions.anchors], dim=1)
        return BatchLosses(losses, expected, [(level >= 0).sum() for level in levels])

    def state(self) -> dict[str, float]:
        return {"normalizer": float(self.criterion.running_normalizer)}

    def load_state(self, progress: dict[str, Any]) -> None:
        self.criterion.running_normalizer = progress.pop("normalizer", self.criterion.running_normalizer)

    def for_evaluation(self, model: nn.Module) -> TorchModel:
        assert isinstance(model, RetinaNet)
        return TorchModel(model)


def expected_first_loss(
    criterion: Criterion, predictions: Predictions, matched: Tensor, targets: Targets, prior: float | None
) -> Tensor:
    """Scalar classification loss of untrained subnets, which score every anchor with the prior (paper, section 4.1).

    predictions: only their shapes matter. matched: (B, R). prior: None means 0.5.
    """
    prior = prior or 0.5
    logit = math.log(prior / (1 - prior))
    logits = [torch.full_like(level, logit, requires_grad=False) for level in predictions.logits]
    deltas = [torch.zeros_like(level) for level in predictions.deltas]
    fresh = Predictions(logits, deltas, predictions.anchors)
    # a copy, so that the state of the criterion stays
    return copy.copy(criterion).losses(fresh, matched, targets, check_labels=False)["cls"]
