"""Computes the 12 COCO metrics and AP per class of a detector, or of the detections in a results file."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import DataLoader

from retinanet.config.schema import AnchorConfig, Config, DetectConfig
from retinanet.data.dataset import Dataset
from retinanet.data.loader import eval_loader, workers_note
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.detections import Detections
from retinanet.distributed import current_processes, joined
from retinanet.evaluation.coco_metrics import ClassResult, score
from retinanet.evaluation.detector_and_data import DataSource, data_of_results, model_and_data
from retinanet.evaluation.detector_facts import DetectorFacts
from retinanet.evaluation.eval_input import EvalInput, open_input
from retinanet.evaluation.missed_objects import MissedObjects, MissedObjectsObserver
from retinanet.evaluation.pycocotools_metrics import reference_metrics
from retinanet.evaluation.results_file import ResultsFile, read_results
from retinanet.inference.detector import Detector
from retinanet.inference.results import coco_rows
from retinanet.inference.torch_model import StageObserver


@dataclass(frozen=True)
class Evaluation:
    """The detections in `dataset` with `settings`, and their COCO metrics.

    settings: None for those of a results file, which do not tell.
    results: (D, 7) float64, columns image index, x, y, w, h, score, label. metrics, per_class: see `Scores`.
    notes: messages, one line each, such as an unreadable image.
    missed_objects: None unless requested. reference: the metrics by pycocotools; None unless requested.
    category_ids: the detector's id of each class, which differs from the data's where names alone decide.
    precision: of the network's arithmetic; None for a results file, which does not tell. facts: for comparisons.
    """

    dataset: Dataset
    settings: DetectConfig | None
    results: np.ndarray
    metrics: dict[str, float]
    per_class: list[ClassResult]
    notes: tuple[str, ...] = ()
    missed_objects: MissedObjects | None = None
    reference: dict[str, float] | None = None
    category_ids: tuple[int, ...] = ()
    precision: str | None = "fp32"
    facts: DetectorFacts = DetectorFacts()

    @property
    def score_threshold(self) -> float:
        """The score that the detections exceed; 0 for those of a results file."""
        return 0.0 if self.settings is None else self.settings.score_threshold

    @property
    def ap(self) -> float:
        """The mean AP over the IoUs 0.50 to 0.95 and the classes, in 0..1."""
        return self.metrics["AP"]

    @property
    def ap50(self) -> float:
        """AP at IoU 0.50."""
        return self.metrics["AP50"]

    @property
    def ap75(self) -> float:
        """AP at IoU 0.75."""
        return self.metrics["AP75"]


class EvaluatedModel(Protocol):
    """What `evaluate_model` asks of a detector; such as `TorchModel`, which describes the members."""

    @property
    def precision(self) -> str | None: ...

    @property
    def on_gpu(self) -> bool: ...

    @property
    def weights(self) -> int | None: ...

    def copy_for_evaluation(self) -> "EvaluatedModel": ...

    def detect(
        self,
        images: np.ndarray,
        sizes: np.ndarray,
        original_sizes: Sequence[tuple[int, int]],
        settings: DetectConfig,
        *,
        observer: StageObserver | None = None,
    ) -> list[Detections]: ...


def evaluate_model(
    model: EvaluatedModel,
    dataset: Dataset,
    resizing: Resizing,
    settings: DetectConfig,
    batch_size: int = 1,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
    missed_objects: AnchorConfig | None = None,
) -> Evaluation:
    """Detect objects in every image of `dataset` and compute the 12 COCO metrics.

    A copy of the model runs, on the same device. An unreadable image has no detections, and a note. Several processes
    share the images; each returns the whole result, equal to that of a single one.

    batch_size: above 1, padding changes the last digits of scores. workers: processes that load images.
    progress: called after each image with (images done, all images).
    missed_objects: the detector's anchors, to analyse why objects were missed; not for exported models. None: no.
    """
    processes = current_processes()
    threshold = settings.score_threshold
    observer = MissedObjectsObserver(dataset, threshold, missed_objects) if missed_objects is not None else None
    loader = eval_loader(EvalSamples(dataset, resizing), batch_size, workers, pin_memory=model.on_gpu)
    part = processes.together(lambda: detect_part(model, dataset, loader, settings, progress, observer))
    batches = in_turn(processes.gather(part))
    results = np.concatenate([np.zeros((0, 7)), *(batch.rows for batch in batches)])
    if observer is not None:
        observer.merge(processes.gather((observer.stages, observer.scores)))
    scores = processes.first(lambda: score(dataset, results))
    missed = processes.first(lambda: observer.summary(results) if observer else None)
    return Evaluation(
        dataset=dataset,
        settings=settings,
        results=results,
        metrics=scores.metrics,
        per_class=scores.per_class,
        notes=tuple(note for batch in batches for note in batch.notes),
        missed_objects=missed,
        category_ids=dataset.category_ids,
        precision=model.precision,
        facts=DetectorFacts(
            detections_per_image=len(results) / max(1, len(dataset)),
            resolution=(resizing.short_side, resizing.long_side),
            max_detections=settings.max_detections,
            weights=model.weights,
            ms_per_image=1000 * median(batch.seconds for batch in batches) if batches else None,
        ),
    )


class DetectedBatch(NamedTuple):
    """rows: of `Evaluation.results`. seconds: per image."""

    rows: np.ndarray
    notes: list[str]
    seconds: float


Part = list[DetectedBatch]


def detect_part(
    model: EvaluatedModel,
    dataset: Dataset,
    loader: DataLoader,
    settings: DetectConfig,
    progress: Callable[[int, int], object],
    observer: MissedObjectsObserver | None,
) -> Part:
    """Detect objects in the images that this process loads."""
    model, world = model.copy_for_evaluation(), current_processes().world
    index_of_id, done = dataset.index_of_id, 0
    found: Part = []
    for batch in loader:
        start = time.perf_counter()
        detections = model.detect(
            batch.images.permute(0, 2, 3, 1).numpy(),
            batch.sizes.numpy(),
            [sample.original_size for sample in batch.samples],
            settings,
            observer=partial(observer.observe, batch.samples) if observer else None,
        )
        seconds = (time.perf_counter() - start) / len(batch.samples)
        rows = [np.zeros((0, 7))]
        for sample, detected in zip(batch.samples, detections, strict=True):
            if sample.original_size != (0, 0):  # readable
                rows.append(coco_rows(detected, index_of_id[sample.image_id]))
            done += 1
            progress(min(done * world, len(dataset)), len(dataset))
        notes = [f"{fault}; its objects count as missed" for fault in batch.faults]
        found.append(DetectedBatch(np.concatenate(rows), notes, seconds))
    return found


def in_turn(parts: Sequence[Part]) -> Part:
    """The batches of all processes in the order of a single process: one of each process in turn."""
    turns = zip_longest(*parts)
    return [batch for turn in turns for batch in turn if batch is not None]


@joined()
def evaluate(
    detector: EvalInput | str | Path,
    data: Config | Dataset | str | Path | None = None,
    split: str = "val",
    overrides: Sequence[str] = (),
    batch_size: int = 1,
    progress: Callable[[int, int], object] = lambda done, total: None,
    missed_objects: bool = False,
    reference: bool = False,
) -> Evaluation:
    """Evaluate a detector with the settings of its config, which has a low score threshold; or a results file.

    Args:
        detector: what `retinanet.load` returns; or a path as `open_input` takes it, loaded on the best device.
        data, split, overrides: see `DataSource`. A results file needs `data`.
        reference: whether pycocotools computes the metrics, too.
        batch_size, progress, missed_objects: see `evaluate_model`; not for a results file.
    Raises: CheckpointError, ConfigError; DataError, also if the detector lacks a category of the data, or no detection
        of a results file fits the data; ValueError if `missed_objects` is asked of a results file.
    """
    processes = current_processes()
    if isinstance(detector, (str, Path)):
        path = detector
        detector = processes.together(lambda: open_input(path, "auto"))
    source = DataSource(data, split, overrides)
    if isinstance(detector, ResultsFile):
        if missed_objects:
            raise ValueError(f"{detector.path} holds no scores of missed objects; expected a detector")
        result = evaluate_results(detector, source)
    else:
        result = evaluate_detector(detector, source, batch_size, progress, missed_objects)
    pycocotools = processes.first(lambda: reference_metrics(result.dataset, result.results) if reference else None)
    notes = [*result.notes]
    if not any(each.objects for each in result.per_class):
        notes.append(f"warning: the data has no objects in {len(result.dataset)} images, so that no metric has a value")
    return replace(result, notes=tuple(notes), reference=pycocotools)


def evaluate_detector(
    detector: Detector,
    source: DataSource,
    batch_size: int,
    progress: Callable[[int, int], object],
    missed_objects: bool,
) -> Evaluation:
    """`evaluate` for a detector, which runs."""
    opened = current_processes().together(lambda: model_and_data(detector, source))
    model, config, dataset, category_ids = opened
    resizing = model.resizing(Resizing.from_config(config.data))
    settings = config.detect, batch_size, config.data.workers
    anchors = config.anchors if missed_objects else None
    result = evaluate_model(model, dataset, resizing, *settings, progress, anchors)
    notes = (*workers_note(config.data.workers), *dataset.notes, *result.notes)
    return replace(result, notes=notes, category_ids=category_ids)


def evaluate_results(file: ResultsFile, source: DataSource) -> Evaluation:
    """`evaluate` for a results file, whose detections only need to be read."""
    processes = current_processes()
    dataset = processes.together(lambda: data_of_results(file, source))
    results, notes = processes.together(lambda: read_results(file, dataset))
    scores = processes.first(lambda: score(dataset, results))
    return Evaluation(
        dataset=dataset,
        settings=None,
        results=results,
        metrics=scores.metrics,
        per_class=scores.per_class,
        notes=(*dataset.notes, *notes),
        category_ids=dataset.category_ids,
        precision=None,
        facts=DetectorFacts(detections_per_image=len(results) / max(1, len(dataset))),
    )
