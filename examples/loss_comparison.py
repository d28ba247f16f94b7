"""Three losses on one classification problem, for the two examples that import this file.

The same network trains with cross entropy, balanced cross entropy and the focal loss on the same batches, several times
with other seeds. The table has means over the repeats; the figure shows the scores of all repeats together.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from retinanet import sigmoid_focal_loss

LOSSES = {  # name -> alpha, gamma; alpha -1 is without weights
    "cross entropy": (-1, 0),
    "balanced cross entropy": (0.75, 0),
    "focal loss": (0.25, 2),
}
METRICS = {  # name -> whether a high value is good
    "average precision": True,
    "recall at 90 % precision": True,
    "Brier score": False,
    "calibration error": False,
}
BINS = 10  # of scores, for the calibration


@dataclass(frozen=True)
class Samples:
    """inputs: (N, ...) float32. targets: (N, K) float32, 1 for each class that a sample has, else 0."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Repeat:
    """Data for one repeat, its seed, and the network, whose last layer is linear."""

    seed: int
    train: Samples
    test: Samples
    make_network: Callable[[], nn.Sequential]


def train(repeat: Repeat, alpha: float, gamma: float, steps: int, batch: int) -> np.ndarray:
    """Train a network. The seed alone determines its initial weights and its batches. Returns: (N, K) test scores."""
    torch.manual_seed(repeat.seed)
    network, samples = repeat.make_network(), repeat.train
    prior = samples.targets.mean(dim=0).clamp(0.01, 0.99)  # first scores (paper, section 3.3), here of each class
    network[-1].bias.data = (prior / (1 - prior)).log()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(samples.inputs), (batch,))
        logits = network(samples.inputs[rows])
        loss = sigmoid_focal_loss(logits, samples.targets[rows], alpha, gamma, reduction="mean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        return network(repeat.test.inputs).sigmoid().numpy()


def precision_recall(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at each positive of one class, by falling score: (P,) each."""
    ranks = np.flatnonzero(targets[np.argsort(-scores, kind="stable")]) + 1
    true_positives = np.arange(1, len(ranks) + 1)
    return true_positives / ranks, true_positives / max(1, len(ranks))


def calibration(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, frequency of the class and share of the samples in each bin of scores that has some."""
    bins = np.minimum((BINS * scores).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    used = count > 0
    mean, frequency = (np.bincount(bins, each, minlength=BINS)[used] / count[used] for each in (scores, targets))
    return mean, frequency, count[used] / len(scores)


def metrics(scores: np.ndarray, targets: np.ndarray) -> list[float]:
    """The values of METRICS for one class. scores, targets: (N,)."""
    precision, recall = precision_recall(scores, targets)
    mean, frequency, share = calibration(scores, targets)
    return [
        float(precision.mean()),
        float(recall[precision >= 0.9].max(initial=0)),
        float(np.mean((scores - targets) ** 2)),
        float(np.sum(share * abs(mean - frequency))),
    ]


def compare(repeats: Iterator[Repeat], classes: list[str], steps: int, batch: int, output: str) -> None:
    """Train all losses on all repeats, print what they reach and who wins, and draw the figure."""
    scores: dict[str, list[np.ndarray]] = {name: [] for name in LOSSES}
    targets: list[np.ndarray] = []
    for repeat in repeats:
        targets.append(repeat.test.targets.numpy())
        for name, (alpha, gamma) in LOSSES.items():
            scores[name].append(train(repeat, alpha, gamma, steps, batch))
    for k, title in enumerate(classes):
        values = {  # (repeats, METRICS)
            name: np.array([metrics(s[:, k], t[:, k]) for s, t in zip(scores[name], targets, strict=True)])
            for name in LOSSES
        }
        positives, count = int(targets[0][:, k].sum()), len(targets[0])
        print(f"\n{title}: {positives} of {count} test samples")
        print(f"{'':28}" + "".join(f"{name:>27}" for name in METRICS))
        for name, rows in values.items():
            print(f"{name:28}" + "".join(f"{value:27.4f}" for value in rows.mean(axis=0)))
        for index, (metric, high) in enumerate(METRICS.items()):
            print(verdict(metric, {name: (1 if high else -1) * rows[:, index] for name, rows in values.items()}))
    draw({name: np.concatenate(each) for name, each in scores.items()}, np.concatenate(targets), classes, output)
    print(f"\nfigure: {output}")


def verdict(metric: str, values: dict[str, np.ndarray]) -> str:
    """Which loss is best, if it is ahead of the second by more than three standard errors of the difference.

    values: for each loss, one value a repeat, a high one is good.
    """
    first, second = sorted(values, key=lambda name: -values[name].mean())[:2]
    ahead = values[first] - values[second]
    if len(ahead) < 2:
        return f"{metric}: one repeat names no winner"
    error = ahead.std(ddof=1) / math.sqrt(len(ahead))
    won = f"{first} wins" if ahead.mean() > 3 * error else f"no winner, {first} is first"
    return f"{metric}: {won}, {ahead.mean():.4f} +- {error:.4f} ahead of {second}"


def draw(scores: dict[str, np.ndarray], targets: np.ndarray, classes: list[str], output: str) -> None:
    """Precision over recall in the upper row, calibration in the lower, one column for each class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(8, 4 * len(classes)), 8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(classes), squeeze=False)
    styles = [("black", "-"), ("#0072b2", "--"), ("#d55e00", "-.")]
    for (k, title), (name, style) in itertools.product(enumerate(classes), zip(scores, styles, strict=True)):
        line = {"color": style[0], "linestyle": style[1], "label": name}
        precision, recall = precision_recall(scores[name][:, k], targets[:, k])
        mean, frequency, _ = calibration(scores[name][:, k], targets[:, k])
        grid[0, k].plot(recall, precision, **line)
        grid[1, k].plot(mean, frequency, marker="o", markersize=3, **line)
        grid[0, k].set(title=title, xlabel="recall", ylabel="precision")
        grid[1, k].set(xlabel="mean score", ylabel="frequency of the class")
    for axes in grid.flat:
        axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    for axes in grid[1]:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    grid[0, 0].legend(frameon=False, loc="lower left")
    figure.savefig(output, dpi=110)
