"""Detector + data set -> the 12 COCO numbers, per class too."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from retinanet.config import Config, DetectConfig
from retinanet.configfile import load_config, override
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset, Sample
from retinanet.data.loader import Batch, EvalView, eval_loader
from retinanet.data.transforms import Resize
from retinanet.detections import Stages, detect_stages
from retinanet.errors import DataError
from retinanet.found import NOTHING, Detections
from retinanet.funnel import Funnel, MissedObjects
from retinanet.model import Predictions, RetinaNet
from retinanet.reference import pycocotools_stats
from retinanet.scoring import METRICS, ClassResult, coco_rows, score
from retinanet.weights import open_model

# told of each batch: predictions, (height, width) of each resized image, samples, what passed each stage
Watch = Callable[[Predictions, Sequence[tuple[int, int]], Sequence[Sample], Sequence[Stages]], object]


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
    model: RetinaNet,
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

    The model stays on its device and ends in the mode it came in. An image that cannot be read counts as one in which
    nothing is found, with a note. `progress` is told how many images are done, and of how many.

    funnel: also tell why objects were missed. reference: also score with pycocotools. method: as `resize` takes it.
    """
    missed = MissedObjects(dataset, settings.score_threshold) if funnel else None
    rows, notes = [np.zeros((0, 7))], []
    found = detections(
        model, dataset, short_side, long_side, settings, batch_size, workers, missed.look if missed else None, method
    )
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
) -> Evaluation:
    """Measure the detector of a checkpoint, or of a run's folder, on a split of its own data or of config `data`'s.

    data: a data set that is open already is taken as it is, whatever `split` says.
    progress, funnel, reference: as `evaluate` takes them.

    Raises: CheckpointError, ConfigError, DataError, also if the data has categories that the checkpoint has not.
    """
    model, config, dataset = checkpoint_and_data(path, data, split, overrides, device)
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
        d.resize,
    )
    return replace(result, notes=(*dataset.notes, *result.notes))


def checkpoint_and_data(
    path: str | Path,
    data: str | Dataset | None = None,
    split: str = "val",
    overrides: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> tuple[RetinaNet, Config, Dataset]:
    """The detector of a checkpoint or a run's folder, its config, and a split of its own data or of config `data`'s.

    data: as `evaluate_checkpoint` takes it. Classes of the detector that the data has not are left out of it.

    Raises: CheckpointError, ConfigError, DataError, also if the data has categories that the checkpoint has not.
    """
    model, metadata = open_model(path)
    config = override(metadata.config, overrides)
    if isinstance(data, Dataset):
        dataset = data
    else:
        source = load_config(data, overrides).data if data is not None else config.data
        if source.classes is None and source.embedded is None and metadata.config.data.classes is not None:
            source = replace(source, classes=metadata.config.data.classes)
        dataset = open_dataset(source, split)
    known = {
        category: label for label, category in enumerate(zip(metadata.category_ids, metadata.classes, strict=True))
    }
    labels = [known.get(category) for category in zip(dataset.category_ids, dataset.classes, strict=True)]
    if None in labels:
        theirs = ", ".join(f"{name} ({i})" for i, name in zip(dataset.category_ids, dataset.classes, strict=True))
        ours = ", ".join(f"{name} ({i})" for i, name in zip(metadata.category_ids, metadata.classes, strict=True))
        raise DataError(f"the data has the categories {theirs[:200]}; {path} was trained on {ours[:200]}")
    if labels != list(known.values()):
        model.keep_classes([label for label in labels if label is not None])
    return model.to(device).to(memory_format=torch.channels_last), config, dataset


def detections(
    model: RetinaNet,
    dataset: Dataset,
    short_side: int,
    long_side: int,
    settings: DetectConfig,
    batch_size: int = 1,
    workers: int = 0,
    watch: Watch | None = None,
    method: Resize = "opencv",
) -> Iterator[tuple[Sample, Detections, str | None]]:
    """Each image of `dataset`, without pixels, what was found in it, and why it could not be read, if so.

    Images of like shape follow each other.
    """
    device = model.pixel_mean.device
    training = model.training
    model.eval()
    view = EvalView(dataset, short_side, long_side, method)
    try:
        for batch in eval_loader(view, batch_size, workers, pin_memory=device.type == "cuda"):
            found = detect_batch(model, batch, settings, watch=watch)
            faults = iter(batch.faults)
            for sample, detected in zip(batch.samples, found, strict=True):
                readable = sample.original_size != (0, 0)
                yield (sample, detected, None) if readable else (sample, NOTHING, next(faults))
    finally:
        model.train(training)


@torch.inference_mode()
def detect_batch(
    model: RetinaNet,
    batch: Batch,
    settings: DetectConfig,
    thresholds: Sequence[float] | None = None,
    watch: Watch | None = None,
) -> list[Detections]:
    """Objects in each image of a batch, in pixels of the original images.

    thresholds: (K,) score that detections of each class must exceed; None: that of `settings` for all.
    """
    device = model.pixel_mean.device
    batch = batch.to(device)
    predictions = model(batch.images, batch.sizes)
    of_class = None if thresholds is None else torch.as_tensor(thresholds, dtype=torch.float32, device=device)
    sizes = [(int(height), int(width)) for height, width in batch.sizes]
    stages = detect_stages(
        predictions,
        sizes,
        [sample.original_size for sample in batch.samples],
        settings.score_threshold if of_class is None else of_class,
        settings.top_k,
        settings.nms_iou,
        settings.max_detections,
        settings.clip_first,
    )
    if watch is not None:
        watch(predictions, sizes, batch.samples, stages)
    return [stage.detections for stage in stages]
