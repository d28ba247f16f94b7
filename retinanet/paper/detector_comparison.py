"""Table 2 of the paper on other data: accuracy by size of object, speed and cost of trained detectors, and the best."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import mean

import torch

from retinanet.benchmark.timing import time_in_turns
from retinanet.checkpoints.checkpoint import BEST, MODEL, read_metadata, read_tensors, strip_prefix
from retinanet.config.schema import Config
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.data.loader import Batch, eval_loader
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.devices import pick_device
from retinanet.evaluation.coco_metrics import METRICS, measured
from retinanet.evaluation.comparison import RESAMPLES, Difference, compare
from retinanet.evaluation.evaluate import EvaluatedModel, Evaluation, evaluate_model
from retinanet.paper.ablation import method_of, run_config, run_folder, seeds_of, training_seconds
from retinanet.paper.candidates import CandidateCounts, count_candidates
from retinanet.paper.tables import PAPER_BY_SIZE, SIZES, Row

PICTURES = 20  # on which the detectors are timed, the first of the validation data

Progress = Callable[[int, int], object]  # called with the number of finished images or resamples and that of all


@dataclass(frozen=True)
class ComparedDetector:
    """A row of table 2; its numbers are means over the seeds, None where no seed has one.

    metrics: the 12 COCO metrics, in 0..1. paper: APs, APm and APl of the paper in percent, None where it gives none.
    ms_per_image: median time from a resized image to its detections, of the first seed. weights: their number.
    training_seconds: without evaluations.
    """

    value: str
    metrics: dict[str, float | None]
    weights: int | None
    ms_per_image: float | None
    training_seconds: float | None
    paper: dict[str, float | None]


@dataclass(frozen=True)
class Change:
    """The change of AP from the row with the highest mean AP to the row `value`, of the runs with the same seed."""

    value: str
    seed: int
    difference: Difference


@dataclass(frozen=True)
class DetectorComparison:
    """leader: the row with the highest mean AP; None if no row has an AP. changes: from it to each other row.

    candidates: None where no detector is trained.
    best: the leader, if the interval of each change says that its AP is higher; else None.
    """

    detectors: list[ComparedDetector]
    leader: str | None
    changes: list[Change]
    candidates: CandidateCounts | None = None

    @property
    def best(self) -> str | None:
        better = [each.difference.certain and each.difference.change < 0 for each in self.changes]
        return self.leader if better and all(better) else None


def compare_detectors(
    rows: Sequence[Row], output: Path, seeds: int, progress: Progress, resamples: int = RESAMPLES
) -> DetectorComparison:
    """Evaluate and time the detectors that `ablate` has trained in `output`, all with the same images and limits.

    rows: of table 2, on the same data. A run that diverged has no numbers. Raises: CheckpointError, DataError.
    """
    data = rows[0].config.data
    dataset, resizing = open_dataset(data, "val"), Resizing.from_config(data)
    evaluations: dict[str, dict[int, Evaluation]] = {row.value: {} for row in rows}
    timed: dict[str, EvaluatedModel] = {}  # the first of each row, as trained
    for row, seed, model, found in evaluate_trained(rows, output, seeds, dataset, progress):
        timed.setdefault(row.value, model)
        evaluations[row.value][seed] = found
    batches = list(islice(eval_loader(EvalSamples(dataset, resizing), 1, workers=0), PICTURES))
    detect = [_detect_with(model.copy_for_evaluation(), rows[0].config) for model in timed.values()]
    times = dict(zip(timed, time_in_turns(detect, batches), strict=True))
    detectors = []
    for row in rows:
        trained = timed.get(row.value)
        seconds = [training_seconds(run_folder(row, output, seed)) for seed in seeds_of(row, seeds)]
        detectors.append(
            ComparedDetector(
                value=row.value,
                metrics=_mean_metrics(list(evaluations[row.value].values())),
                weights=None if trained is None else trained.weights,
                ms_per_image=times.get(row.value),
                training_seconds=_mean(seconds),
                paper=dict(zip(SIZES, PAPER_BY_SIZE.get(row.value, (None,) * 3), strict=True)),
            )
        )
    candidates = count_candidates(rows, timed, dataset, progress) if timed else None
    return replace(_with_changes(detectors, dataset, evaluations, progress, resamples), candidates=candidates)


def evaluate_trained(
    rows: Sequence[Row], output: Path, seeds: int, dataset: Dataset, progress: Progress
) -> Iterator[tuple[Row, int, EvaluatedModel, Evaluation]]:
    """Each run that `ablate` has trained in `output`, except diverged ones: row, seed, best detector, evaluation."""
    for row in rows:
        for seed in seeds_of(row, seeds):
            config = run_config(row, seed)
            model = _open_trained(row, config, run_folder(row, output, seed))
            if model is not None:
                resizing, workers = Resizing.from_config(config.data), config.data.workers
                found = evaluate_model(model, dataset, resizing, config.detect, workers=workers, progress=progress)
                yield row, seed, model, found


def _open_trained(row: Row, config: Config, folder: Path) -> EvaluatedModel | None:
    """The best detector of a run of `row`, on the device of its training; None if the run has none."""
    file = folder / BEST
    if not file.is_file():
        return None
    tensors = read_tensors(file)
    method = method_of(row)(config)
    network = method.make_model(len(read_metadata(file).classes), pretrained=False)
    network.load_state_dict(strip_prefix(tensors, MODEL))
    network = network.to(pick_device(config.train.device)).to(memory_format=torch.channels_last)
    return method.for_evaluation(network)


def _with_changes(
    detectors: list[ComparedDetector],
    dataset: Dataset,
    evaluations: dict[str, dict[int, Evaluation]],
    progress: Progress,
    resamples: int,
) -> DetectorComparison:
    """Compare the detector with the highest AP with each other one."""
    known = {each.value: ap for each in detectors if (ap := each.metrics["AP"]) is not None}
    if not known:
        return DetectorComparison(detectors, None, [])
    leader = max(known, key=known.__getitem__)
    changes = []
    for value in known:
        for seed in sorted(evaluations[leader].keys() & evaluations[value].keys()) if value != leader else ():
            first, second = evaluations[leader][seed].results, evaluations[value][seed].results
            found = compare(dataset, first, second, resamples, progress=progress)
            changes.append(Change(value, seed, next(each for each in found.metrics if each.name == "AP")))
    return DetectorComparison(detectors, leader, changes)


def _detect_with(model: EvaluatedModel, config: Config) -> Callable[[Batch], object]:
    def detect(batch: Batch) -> object:
        images = batch.images.permute(0, 2, 3, 1).numpy()
        originals = [sample.original_size for sample in batch.samples]
        return model.detect(images, batch.sizes.numpy(), originals, config.detect)

    return detect


def _mean_metrics(evaluations: Sequence[Evaluation]) -> dict[str, float | None]:
    return {name: _mean([measured(each.metrics[name]) for each in evaluations]) for name in METRICS}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
