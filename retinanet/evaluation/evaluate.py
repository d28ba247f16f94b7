"""Detector + data set -> the 12 COCO numbers, per class too."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from retinanet.config.schema import DetectConfig
from retinanet.data.dataset import Dataset, Sample
from retinanet.data.loader import eval_loader
from retinanet.data.transforms import Resize
from retinanet.data.views import EvalSamples
from retinanet.detections import NO_DETECTIONS, Detections
from retinanet.evaluation.coco_metrics import METRICS, ClassResult, score
from retinanet.evaluation.detector_and_data import checkpoint_and_data, exported_and_data
from retinanet.evaluation.missed_objects import Funnel, MissedObjects
from retinanet.evaluation.pycocotools_metrics import pycocotools_stats
from retinanet.inference.exported_model import ExportedModel, Precision, check_engine, is_exported
from retinanet.inference.results import coco_rows
from retinanet.inference.torch_model import TorchModel


@dataclass(frozen=True)
class Evaluation:
    """What a detector found in `dataset` under `settings`, and how good that is.

    metrics, per_class: as `Scores` has them.
    results: (D, 7) float64, columns image_id, x, y, w, h, score, category_id.
    notes: what the reader should know, one line each, such as images that could not be read, whose objects are missed.
    funnel: why objects were missed. reference: pycocotools' `metrics`. Both only where asked for.
    """

    dataset: Dataset
    settings: DetectConfig
    results: np.ndarray
    metrics: dict[str, float]
    per_class: list[ClassResult]
    notes: tuple[str, ...] = ()
    funnel: Funnel | None = None
    reference: dict[str, float] | None = None


def evaluate(
    model: TorchModel | ExportedModel,
    dataset: Dataset,
    short_side: int,
    long_side: int,
    settings: DetectConfig,
    batch_size: int = 1,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
    funnel: bool = False,
    reference: bool = False,
    method: Resize = "opencv",
) -> Evaluation:
    """Detect on every image of `dataset` and score the results as COCO does.

    The model is left as it is; a copy works on its device. An image that cannot be read counts as one in which
    nothing is found, with a note. `progress` is told how many images are done, and of how many.

    funnel: also tell why objects were missed, which an exported model cannot. reference: also score with pycocotools.
    method: as `resize` takes it.
    """
    missed = MissedObjects(dataset, settings.score_threshold) if funnel else None
    rows, notes = [np.zeros((0, 7))], []
    found = detections(model, dataset, short_side, long_side, settings, batch_size, workers, missed, method)
    for done, (sample, detected, fault) in enumerate(found, 1):
        rows.append(coco_rows(detected, sample.image_id, dataset.category_ids))
        if fault is not None:
            notes.append(f"{fault}; its objects count as missed")
        progress(done, len(dataset))
    results = np.concatenate(rows)
    scores = score(dataset, results)
    return Evaluation(
        dataset,
        settings,
        results,
        scores.metrics,
        scores.per_class,
        tuple(notes),
        funnel=missed.funnel(results, lambda given: score(dataset, given).metrics["AP50"]) if missed else None,
        reference=dict(zip(METRICS, pycocotools_stats(dataset, results), strict=True)) if reference else None,
    )


def evaluate_checkpoint(
    path: str | Path,
    data: str | Dataset | None = None,
    split: str = "val",
    overrides: Sequence[str] = (),
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] = lambda done, total: None,
    funnel: bool = False,
    reference: bool = False,
    precision: Precision = "fp32",
) -> Evaluation:
    """Measure the detector of a checkpoint, or of a run's folder, on a split of its own data or of config `data`'s.

    Also that of a file that `retina export` wrote, which runs on the CPU.

    data: a data set that is open already is taken as it is, whatever `split` says.
    progress, funnel, reference: as `evaluate` takes them. precision: of an exported model.

    Raises: CheckpointError, ConfigError, DataError, also if the data has categories that the checkpoint has not.
    """
    model: TorchModel | ExportedModel
    check_engine(path, device, precision)
    if is_exported(path):
        model, config, dataset = exported_and_data(path, data, split, overrides, precision)
    else:
        network, config, dataset = checkpoint_and_data(path, data, split, overrides, device)
        model = TorchModel(network)
    d = config.data
    result = evaluate(
        model,
        dataset,
        d.short_side,
        d.long_side,
        config.detect,
        batch_size,
        d.workers,
        progress,
        funnel,
        reference,
        model.resize_method(d.resize),
    )
    return replace(result, notes=(*dataset.notes, *result.notes))


def detections(
    model: TorchModel | ExportedModel,
    dataset: Dataset,
    short_side: int,
    long_side: int,
    settings: DetectConfig,
    batch_size: int = 1,
    workers: int = 0,
    missed: MissedObjects | None = None,
    method: Resize = "opencv",
) -> Iterator[tuple[Sample, Detections, str | None]]:
    """Each image of `dataset`, without pixels, what was found in it, and why it could not be read, if so.

    Images of like shape follow each other.
    """
    view = EvalSamples(dataset, short_side, long_side, method)
    model = model.copy_for_evaluation()
    for batch in eval_loader(view, batch_size, workers, pin_memory=model.on_gpu):
        found = model.detect(
            batch.images.permute(0, 2, 3, 1).numpy(),
            batch.sizes.numpy(),
            [sample.original_size for sample in batch.samples],
            settings,
            observer=partial(missed.look, batch.samples) if missed else None,
        )
        faults = iter(batch.faults)
        for sample, detected in zip(batch.samples, found, strict=True):
            readable = sample.original_size != (0, 0)
            yield (sample, detected, None) if readable else (sample, NO_DETECTIONS, next(faults))
