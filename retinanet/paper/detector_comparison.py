"""Table 2 of the paper on other data: accuracy by size of object, speed and cost of trained detectors, and the best."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean

import numpy as np

from retinanet.benchmark.subject import with_short_side
from retinanet.benchmark.timing import time_in_turns
from retinanet.config.schema import DataConfig, DetectConfig
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.loader import Batch, eval_loader
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.devices import describe_device, pick_device
from retinanet.evaluation.coco_metrics import METRICS, measured, score
from retinanet.evaluation.comparison import RESAMPLES, Difference, compare
from retinanet.evaluation.evaluate import EvaluatedModel
from retinanet.paper.ablation import data_name, run_folder, seeds_of, training_seconds
from retinanet.paper.candidates import CandidateCounts, count_candidates
from retinanet.paper.tables import PAPER_BY_SIZE, SIZES, Row
from retinanet.paper.trained_detectors import Progress, detections_of_trained, open_trained

PICTURES = 20  # on which the detectors are timed, the first of the validation data

Runs = dict[int | None, np.ndarray]  # the detections of each run, (D, 7), by seed; a results file has the seed None


@dataclass(frozen=True)
class Point:
    """A detector at one scale of the images.

    scale: their short side in pixels, None if it is not known. ms: as `ms_per_image`.
    AP, AP50: in 0..1, means over the seeds; None where no seed has one.
    """

    scale: int | None
    AP: float | None
    AP50: float | None
    ms: float | None


@dataclass(frozen=True)
class ComparedDetector:
    """A row of table 2; its numbers are means over the seeds, None where no seed has one.

    metrics: the 12 COCO metrics, in 0..1. paper: APs, APm and APl of the paper in percent, None where it gives none.
    ms_per_image: median time from a resized image to its detections, of the first seed. weights: their number.
    training_seconds: without evaluations. points: by rising scale; all but `points` is at the scale of the config.
    results_file: of the detections of another program. Its resolution is not known, nor its time unless it is stated.
    """

    value: str
    metrics: dict[str, float | None]
    weights: int | None
    ms_per_image: float | None
    training_seconds: float | None
    paper: dict[str, float | None]
    points: list[Point]
    results_file: str | None = None


@dataclass(frozen=True)
class OtherDetector:
    """A detector of another program.

    file: the COCO results file of what it detects in data.val. results: what it holds, (D, 7) as `Evaluation` has.
    ms_per_image: as the user states it; None: not known.
    """

    name: str
    file: str
    results: np.ndarray
    ms_per_image: float | None


@dataclass(frozen=True)
class Change:
    """The change of AP from the row with the highest mean AP to the row `value`, of the runs with the same seed.

    seed: None if both rows are of results files; one such row is compared with each run of another.
    """

    value: str
    seed: int | None
    difference: Difference


@dataclass(frozen=True)
class DetectorComparison:
    """leader: the row with the highest mean AP; None if no row has an AP. changes: from it to each other row.

    best: the leader, if the interval of each change says that its AP is higher; else None.
    data, backbone, machine: of all rows but those of other programs; `machine` as `describe_device` names it.
    candidates: None where no detector is trained.
    """

    detectors: list[ComparedDetector]
    leader: str | None
    changes: list[Change]
    data: str
    backbone: str
    machine: str
    candidates: CandidateCounts | None = None

    @property
    def best(self) -> str | None:
        better = [each.difference.certain and each.difference.change < 0 for each in self.changes]
        return self.leader if better and all(better) else None


def compare_detectors(
    rows: Sequence[Row],
    output: Path,
    seeds: int,
    progress: Progress,
    scales: Sequence[int] = (),
    others: Sequence[OtherDetector] = (),
    resamples: int = RESAMPLES,
) -> DetectorComparison:
    """Evaluate and time the detectors that `ablate` has trained in `output`, all with the same images and limits.

    rows: of table 2, on the same data. A run that diverged has no numbers.
    scales: short sides in pixels at which to evaluate and time, too; the long side is limited in proportion.
    others: further rows, of the same data and other names.
    Raises: CheckpointError, DataError.
    """
    data = rows[0].config.data
    dataset = open_dataset(data, "val")
    results: dict[str, Runs] = {row.value: {} for row in rows}
    metrics: dict[tuple[str, int], list[dict[str, float]]] = {}  # of each run, by row and scale
    models: dict[str, EvaluatedModel] = {}  # the first of each row, as trained
    sides = sorted({data.short_side, *scales})
    for side in sides:
        for row, seed, found in detections_of_trained(rows, output, seeds, dataset, progress, side):
            metrics.setdefault((row.value, side), []).append(score(dataset, found).metrics)
            if side == data.short_side:
                results[row.value][seed] = found
            if row.value not in models:
                models[row.value] = open_trained(row, output, seed)
    times = {side: _times(models, dataset, with_short_side(data, side), rows[0].config.detect) for side in sides}
    detectors = []
    for row in rows:
        at = {side: _mean_metrics(metrics.get((row.value, side), [])) for side in sides}
        points = [Point(side, at[side]["AP"], at[side]["AP50"], times[side].get(row.value)) for side in sides]
        seconds = [training_seconds(run_folder(row, output, seed)) for seed in seeds_of(row, seeds)]
        detectors.append(
            ComparedDetector(
                value=row.value,
                metrics=at[data.short_side],
                weights=models[row.value].weights if row.value in models else None,
                ms_per_image=times[data.short_side].get(row.value),
                training_seconds=_mean(seconds),
                paper=dict(zip(SIZES, PAPER_BY_SIZE.get(row.value, (None,) * 3), strict=True)),
                points=points,
            )
        )
    candidates = count_candidates(rows, models, dataset, progress) if models else None
    for each in others:
        detectors.append(_other(each, dataset))
        results[each.name] = {None: each.results}
    leader, changes = _changes(detectors, dataset, results, progress, resamples)
    config = rows[0].config
    about = data_name(config), config.model.backbone, describe_device(pick_device(config.train.device))
    return DetectorComparison(detectors, leader, changes, *about, candidates)


def _other(other: OtherDetector, dataset: Dataset) -> ComparedDetector:
    metrics, ms = _mean_metrics([score(dataset, other.results).metrics]), other.ms_per_image
    point, paper = Point(None, metrics["AP"], metrics["AP50"], ms), dict.fromkeys(SIZES)
    return ComparedDetector(other.name, metrics, None, ms, None, paper, [point], other.file)


def _times(
    models: Mapping[str, EvaluatedModel], dataset: Dataset, data: DataConfig, settings: DetectConfig
) -> dict[str, float]:
    """The milliseconds per image of each of `models`, which detect the first images of `dataset` in turns."""
    samples = EvalSamples(dataset, Resizing.from_config(data))
    batches = list(islice(eval_loader(samples, 1, workers=0), PICTURES))
    detect = [_detect_with(model.copy_for_evaluation(), settings) for model in models.values()]
    return dict(zip(models, time_in_turns(detect, batches), strict=True))


def _changes(
    detectors: Sequence[ComparedDetector],
    dataset: Dataset,
    results: dict[str, Runs],
    progress: Progress,
    resamples: int,
) -> tuple[str | None, list[Change]]:
    """The detector with the highest AP, and the changes from it to each other one."""
    known = {each.value: ap for each in detectors if (ap := each.metrics["AP"]) is not None}
    if not known:
        return None, []
    leader = max(known, key=known.__getitem__)
    changes = []
    for value in known:
        for seed, first, second in _pairs(results[leader], results[value]) if value != leader else ():
            found = compare(dataset, first, second, resamples, progress=progress)
            changes.append(Change(value, seed, next(each for each in found.metrics if each.name == "AP")))
    return leader, changes


def _pairs(first: Runs, second: Runs) -> Iterator[tuple[int | None, np.ndarray, np.ndarray]]:
    """The runs of equal seed, and the seed; a results file makes a pair with each run."""
    for seed in dict.fromkeys([*first, *second]):
        one, other = first.get(seed, first.get(None)), second.get(seed, second.get(None))
        if one is not None and other is not None:
            yield seed, one, other


def _detect_with(model: EvaluatedModel, settings: DetectConfig) -> Callable[[Batch], object]:
    def detect(batch: Batch) -> object:
        images = batch.images.permute(0, 2, 3, 1).numpy()
        originals = [sample.original_size for sample in batch.samples]
        return model.detect(images, batch.sizes.numpy(), originals, settings)

    return detect


def _mean_metrics(runs: Sequence[dict[str, float]]) -> dict[str, float | None]:
    return {name: _mean([measured(metrics[name]) for metrics in runs]) for name in METRICS}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
