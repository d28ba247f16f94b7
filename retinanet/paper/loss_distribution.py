"""How a trained detector's loss is spread over its samples (paper, figure 4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from retinanet.data.loader import eval_loader
from retinanet.data.views import EvalSamples
from retinanet.errors import DataError
from retinanet.evaluation.detector_and_data import OWN_VAL_SPLIT, DataSource, checkpoint_and_data
from retinanet.losses.criterion import Criterion, Targets, make_criterion
from retinanet.losses.focal import focal
from retinanet.losses.matching import BACKGROUND
from retinanet.model.retinanet import RetinaNet

FOREGROUND_SAMPLES, BACKGROUND_SAMPLES = 10**5, 10**7  # paper, 5.1
FRACTIONS = np.arange(1001) / 1000  # where the distributions are told
HARDEST = (0.01, 0.1, 0.2)  # parts of the samples whose share of the loss is told

CHUNK = 1 << 20  # keys drawn at once: 8 MiB


class UniformSample:
    """`size` of all values that it is given, each choice as likely as any other; all of them while there are fewer.

    Every value gets a random key, and the `size` lowest keys are kept. At most 2 `size` + CHUNK values are held.
    """

    def __init__(self, size: int, rng: np.random.Generator):
        self.size, self.rng = size, rng
        self.seen = self.held = 0
        self.threshold = np.inf  # as many as `size` keys lie at or below it
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []  # keys, values

    def add(self, values: np.ndarray) -> None:
        """values: (n,)."""
        self.seen += len(values)
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            keys = self.rng.random(len(chunk))
            low = (keys < self.threshold).nonzero()[0]
            if len(low):
                self.parts.append((keys[low], chunk[low]))
                self.held += len(low)
            if self.held > 2 * self.size:
                self._drop()

    def values(self) -> np.ndarray:
        """The sample so far, in no order."""
        self._drop()
        return self.parts[0][1] if self.parts else np.zeros(0, np.float32)

    def _drop(self) -> None:
        if not self.parts:
            return
        keys, values = (np.concatenate(columns) for columns in zip(*self.parts, strict=True))
        if len(keys) > self.size:
            lowest = np.argpartition(keys, self.size - 1)[: self.size]
            keys, values = keys[lowest], values[lowest]
            self.threshold = keys.max()
        self.parts, self.held = [(keys, values)], len(keys)


@dataclass(frozen=True)
class Distribution:
    """One kind of samples: how many were drawn of how many, and how their loss adds up for each gamma.

    curves: gamma -> share of the loss that the easiest part of the samples holds, at each of FRACTIONS.
    shares: gamma -> share of the loss that the hardest part of the samples holds, at each of HARDEST.
    """

    drawn: int
    seen: int
    curves: dict[float, list[float]]
    shares: dict[float, list[float]]


@dataclass(frozen=True)
class LossDistribution:
    """notes: what the reader should know, one line each, such as images that could not be read."""

    foreground: Distribution
    background: Distribution
    notes: tuple[str, ...] = ()


def loss_distribution(
    path: str | Path,
    gammas: Sequence[float],
    source: DataSource = OWN_VAL_SPLIT,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> LossDistribution:
    """Figure 4 of the paper for the detector of a checkpoint, or of a run's folder: one model, the loss of several gammas.

    The data is found as by `evaluate_checkpoint`, anchors are matched as in training.
    Raises: CheckpointError, ConfigError, DataError, also if the split has no foreground or no background anchors.
    """
    model, config, dataset = checkpoint_and_data(path, source, device)
    d, criterion = config.data, make_criterion(config.loss, config.anchors)
    samples = (
        UniformSample(FOREGROUND_SAMPLES, np.random.default_rng([seed, 0])),
        UniformSample(BACKGROUND_SAMPLES, np.random.default_rng([seed, 1])),
    )
    view = EvalSamples(dataset, d.short_side, d.long_side, d.resize)
    notes = draw(model, view, criterion, *samples, d.workers, progress)
    for kind, sample in zip(("foreground", "background"), samples, strict=True):
        if not sample.seen:
            raise DataError(
                f"{source.split}: none of its {len(dataset)} images has {kind} anchors, expected some of each kind"
            )
    foreground, background = (distribution(sample.values(), sample.seen, gammas) for sample in samples)
    return LossDistribution(foreground, background, (*dataset.notes, *notes))


@torch.inference_mode()
def draw(
    model: RetinaNet,
    view: EvalSamples,
    criterion: Criterion,
    foreground: UniformSample,
    background: UniformSample,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[str]:
    """Give x_t of every image's anchors to `foreground` and `background`; why images were left out.

    A foreground anchor gives the logit of its object's class, a background anchor those of all classes, negated; an
    ignored one gives none. Anchors on padding count, as in training.
    """
    device = model.pixel_mean.device
    notes = []
    for done, batch in enumerate(eval_loader(view, 1, workers, pin_memory=device.type == "cuda"), 1):
        notes += [f"{fault}; it was left out" for fault in batch.faults]
        if not batch.faults:
            batch = batch.to(device)
            predictions = model(batch.images, batch.sizes)
            logits = torch.cat(predictions.logits, dim=1)[0]  # (R, K)
            targets = Targets(batch.boxes, batch.labels, batch.crowd)
            matched = criterion.match_anchors(predictions.anchors, targets)[0]  # (R,)
            right, wrong = right_and_wrong(logits, matched, batch.labels[0])
            foreground.add(right.float().cpu().numpy())
            background.add(-wrong.float().cpu().numpy())
        progress(done, len(view))
    return notes


def right_and_wrong(logits: Tensor, matched: Tensor, gt_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the right class of foreground anchors, (F,), and of all classes of background anchors, (N * K,).

    Args:
        logits: (R, K). matched: (R,) from `match`. gt_labels: (M,) int64.
    """
    rows = (matched >= 0).nonzero().squeeze(1)  # (F,)
    return logits[rows, gt_labels[matched[rows]]], logits[matched == BACKGROUND].flatten()


def distribution(x_t: np.ndarray, seen: int, gammas: Sequence[float]) -> Distribution:
    """x_t: (n,), n > 0, drawn of `seen`."""
    falling = torch.from_numpy(np.sort(x_t)[::-1].copy())  # the loss falls with x_t: its order is that of every gamma
    curves, shares = {}, {}
    for gamma in gammas:
        losses = focal(falling.double(), gamma).numpy()
        curves[gamma] = cumulative(losses, FRACTIONS).tolist()
        shares[gamma] = (1 - cumulative(losses, 1 - np.asarray(HARDEST))).tolist()
    return Distribution(len(x_t), seen, curves, shares)


def cumulative(losses: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Share of the sum that the lowest part of `losses` holds, at each of `fractions`; straight between two samples.

    losses: (n,) float64, rising, n > 0. fractions: (f,), 0..1.
    """
    sums = np.concatenate([[0], np.cumsum(losses)])
    where = np.asarray(fractions) * len(losses)
    below = np.minimum(where.astype(np.int64), len(losses) - 1)
    part = sums[below] + (where - below) * losses[below]
    return part / sums[-1] if sums[-1] > 0 else np.asarray(fractions, np.float64)
