"""How the loss of a trained detector is distributed over its anchors (paper, figure 4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from retinanet.data.loader import eval_loader, workers_note
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.errors import DataError
from retinanet.evaluation.detector_and_data import OWN_VAL_SPLIT, DataSource, checkpoint_and_data
from retinanet.losses.criterion import Criterion, Targets, make_criterion
from retinanet.losses.focal import focal
from retinanet.losses.matching import BACKGROUND
from retinanet.model.retinanet import RetinaNet

FOREGROUND_SAMPLES, BACKGROUND_SAMPLES = 10**5, 10**7  # paper, 5.1
FRACTIONS = np.arange(1001) / 1000  # of the samples, at which the cumulative loss is given
HARDEST = (0.01, 0.1, 0.2)  # fractions of the samples, the hardest ones, whose share of the loss is given

CHUNK = 1 << 20  # random keys drawn at once: 8 MiB of float64


class UniformSample:
    """A uniform random sample of `size` from a stream of values; all of them if there are fewer.

    Every value gets a random key, and the values with the `size` lowest keys stay. At most 2 `size` + CHUNK values are
    in memory.
    """

    def __init__(self, size: int, rng: np.random.Generator):
        self.size, self.rng = size, rng
        self.total = 0  # values so far
        self.held = 0  # values in memory
        self.threshold = np.inf  # `size` keys are at most this
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []  # keys, values

    def add(self, values: np.ndarray) -> None:
        """Add values (n,) of the stream."""
        self.total += len(values)
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
        """The sample so far, in no particular order."""
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
    """The cumulative loss of the foreground samples, or of the background samples.

    drawn: number of samples, drawn at random from all `total`.
    curves: gamma -> share of the loss in the easiest samples, for each of FRACTIONS.
    shares: gamma -> share of the loss in the hardest samples, for each of HARDEST.
    """

    drawn: int
    total: int
    curves: dict[float, list[float]]
    shares: dict[float, list[float]]


@dataclass(frozen=True)
class LossDistribution:
    """notes: messages for the user, one line each, such as an image that could not be read."""

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
    """The paper's figure 4 for the detector of a checkpoint or of a run's folder, with the focal loss of each gamma.

    Anchors are matched as in training. progress: called after each image with (images done, all images).

    Raises: CheckpointError, ConfigError; DataError, also if there are no foreground or no background anchors.
    """
    model, config, dataset = checkpoint_and_data(path, source, device)
    d, criterion = config.data, make_criterion(config.loss, config.anchors)
    sizes = (FOREGROUND_SAMPLES, BACKGROUND_SAMPLES)
    samples = [UniformSample(size, np.random.default_rng([seed, i])) for i, size in enumerate(sizes)]
    view = EvalSamples(dataset, Resizing.from_config(d))
    notes = draw(model, view, criterion, samples[0], samples[1], d.workers, progress)
    for kind, sample in zip(("foreground", "background"), samples, strict=True):
        if not sample.total:
            raise DataError(
                f"{source.split}: none of its {len(dataset)} images has {kind} anchors; expected at least one"
            )
    foreground, background = (distribution(sample.values(), sample.total, gammas) for sample in samples)
    return LossDistribution(foreground, background, (*workers_note(d.workers), *dataset.notes, *notes))


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
    """Add x_t of the anchors of all images to the samples `foreground` and `background`.

    A foreground anchor has one x_t, the logit of its object's class; a background anchor has K, the negated logits of
    all classes; an ignored anchor has none. Anchors on padding count, as in training.

    Returns: a message for each image that could not be read.
    """
    device = model.pixel_mean.device
    notes = []
    for done, batch in enumerate(eval_loader(view, 1, workers, pin_memory=device.type == "cuda"), 1):
        notes += [f"{fault}; it was skipped" for fault in batch.faults]
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
    """Logits of the object's class at foreground anchors, (F,), and of all classes at background anchors, (N * K,).

    logits: (R, K). matched: (R,) from `match`. gt_labels: (M,) int64.
    """
    rows = (matched >= 0).nonzero().squeeze(1)  # (F,)
    return logits[rows, gt_labels[matched[rows]]], logits[matched == BACKGROUND].flatten()


def distribution(x_t: np.ndarray, total: int, gammas: Sequence[float]) -> Distribution:
    """The distribution of the loss over the samples `x_t` (n,), n > 0, drawn from all `total`."""
    falling = torch.from_numpy(np.sort(x_t)[::-1].copy())  # easiest first: for every gamma the loss falls with x_t
    curves, shares = {}, {}
    for gamma in gammas:
        losses = focal(falling.double(), gamma).numpy()
        curves[gamma] = cumulative(losses, FRACTIONS).tolist()
        shares[gamma] = (1 - cumulative(losses, 1 - np.asarray(HARDEST))).tolist()
    return Distribution(len(x_t), total, curves, shares)


def cumulative(losses: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Share of the sum of `losses` in their lowest part, for each of `fractions`; linear between two samples.

    losses: (n,) float64, ascending, n > 0. fractions: (f,), 0..1.
    """
    sums = np.concatenate([[0], np.cumsum(losses)])
    where = np.asarray(fractions) * len(losses)
    below = np.minimum(where.astype(np.int64), len(losses) - 1)
    part = sums[below] + (where - below) * losses[below]
    return part / sums[-1] if sums[-1] > 0 else np.asarray(fractions, np.float64)
