"""The effect of each cause on AP: the mean change over pairs of runs of table causes that differ in it alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import METRICS, score
from retinanet.evaluation.comparison import RESAMPLES, Difference, difference, resampled
from retinanet.paper.tables import Row
from retinanet.paper.trained_detectors import Progress, detections_of_trained

CAUSES = {"loss": ("ce", "focal"), "pyramid": ("lateral", "fpn"), "anchors per cell": ("1", "9")}  # parts of a value
AP = list(METRICS).index("AP")

Run = tuple[str, int]  # value of the row in table causes, seed


@dataclass(frozen=True)
class Effect:
    """What one cause changes.

    cause: of CAUSES. others: what the other two are, such as ("fpn", "9"); empty for the mean over all of them.
    pairs: number of pairs of runs, of the same seed and other causes.
    ap: the mean AP of their first and of their second runs, and its change with an interval over the images.
    """

    cause: str
    others: tuple[str, ...]
    pairs: int
    ap: Difference


def effects(
    dataset: Dataset,
    results: Mapping[Run, np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Effect]:
    """For each cause its mean effect, and then its effect at each choice of the others, by bootstrap over the images.

    All runs use the same resamples. The intervals do not hold what another seed of the training would change.

    results: the detections of each run that has any, (D, 7) as in `compare`; a pair needs both of its runs.
    progress: called with (done, all).
    """
    runs = list(results)
    contrasts = list(_contrasts(runs))
    if not contrasts:
        return []
    values = np.array([score(dataset, results[run]).metrics["AP"] for run in runs])
    values[values < 0] = np.nan  # no objects
    drawn = np.empty((resamples, len(runs)))
    for done, metrics in enumerate(resampled(dataset, list(results.values()), resamples, seed)):
        drawn[done] = [each[AP] for each in metrics]
        progress(done + 1, resamples)
    made = []
    for cause, others, pairs in contrasts:
        first, second = ([runs.index(pair[side]) for pair in pairs] for side in (0, 1))
        changes = (drawn[:, second] - drawn[:, first]).mean(axis=1)
        ap = difference("AP", float(values[first].mean()), float(values[second].mean()), changes)
        made.append(Effect(cause, others, len(pairs), ap))
    return made


def effects_of_causes(rows: Sequence[Row], output: Path, seeds: int, progress: Progress) -> list[Effect]:
    """`effects` of the detectors that `ablate` has trained in `output`.

    rows: of table causes, on the same data. A run that diverged has no detections. Raises: CheckpointError, DataError.
    """
    dataset = open_dataset(rows[0].config.data, "val")
    trained = detections_of_trained(rows, output, seeds, dataset, progress)
    results = {(row.value, seed): found for row, seed, found in trained}
    return effects(dataset, results, progress=progress)


def _contrasts(runs: list[Run]) -> Iterator[tuple[str, tuple[str, ...], list[tuple[Run, Run]]]]:
    """For each cause all pairs of runs without and with it, then those with each choice of the others."""
    for place, (cause, (without, with_)) in enumerate(CAUSES.items()):
        of_others: dict[tuple[str, ...], list[tuple[Run, Run]]] = {}
        for value, seed in runs:
            parts = value.split("-")
            partner = "-".join([*parts[:place], with_, *parts[place + 1 :]]), seed
            if parts[place] == without and partner in runs:
                others = (*parts[:place], *parts[place + 1 :])
                of_others.setdefault(others, []).append(((value, seed), partner))
        every = [pair for pairs in of_others.values() for pair in pairs]
        if every:
            yield cause, (), every
        for others, pairs in of_others.items():
            yield cause, others, pairs
