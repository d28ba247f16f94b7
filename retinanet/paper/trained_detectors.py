"""The detectors that `ablate` has trained, and what they detect in the validation data, which their folders keep."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
import torchvision

from retinanet import __version__
from retinanet.benchmark.subject import with_short_side
from retinanet.checkpoints.checkpoint import BEST, MODEL, read_metadata, read_tensors, strip_prefix
from retinanet.config.schema import DetectConfig
from retinanet.data.dataset import Dataset
from retinanet.data.transforms import Resizing
from retinanet.devices import describe_device, pick_device
from retinanet.evaluation.evaluate import EvaluatedModel, evaluate_model
from retinanet.inference.results import coco_results
from retinanet.io.atomic import write_text
from retinanet.paper.ablation import method_of, run_config, run_folder, seeds_of
from retinanet.paper.tables import Row
from retinanet.training.resume import dataset_fingerprint

Progress = Callable[[int, int], object]  # called with the number of finished images or resamples and that of all


def detections_of_trained(
    rows: Sequence[Row],
    output: Path,
    seeds: int,
    dataset: Dataset,
    progress: Progress,
    short_side: int | None = None,
) -> Iterator[tuple[Row, int, np.ndarray]]:
    """What each run of `ablate` in `output`, except diverged ones, detects: row, seed, and (D, 7) as `Evaluation` has.

    The folder of the run keeps them as a COCO results file, which is read in place of detecting again while nothing has
    changed that they depend on.

    short_side: of the resized images, in pixels; None: the config's. Raises: CheckpointError, DataError.
    """
    for row in rows:
        for seed in seeds_of(row, seeds):
            config, folder = run_config(row, seed), run_folder(row, output, seed)
            if not (folder / BEST).is_file():
                continue
            resizing = Resizing.from_config(with_short_side(config.data, short_side))
            key = _key(folder / BEST, dataset, resizing, config.detect, pick_device(config.train.device))
            file = folder / f"detections-{resizing.short_side}-{key}.json"
            results = _kept(file, dataset)
            if results is None:
                model, workers = open_trained(row, output, seed), config.data.workers
                found = evaluate_model(model, dataset, resizing, config.detect, workers=workers, progress=progress)
                results = found.results
                for stale in folder.glob(f"detections-{resizing.short_side}-*.json"):
                    stale.unlink(missing_ok=True)
                if not found.notes:  # an image that could not be read may be readable at the next call
                    entries = coco_results(results, dataset.image_ids.tolist(), dataset.category_ids)
                    write_text(file, json.dumps(entries))
            yield row, seed, results


def open_trained(row: Row, output: Path, seed: int) -> EvaluatedModel:
    """The best detector of a run that has not diverged, on the device of its training. Raises: CheckpointError."""
    config, file = run_config(row, seed), run_folder(row, output, seed) / BEST
    tensors = read_tensors(file)
    method = method_of(row)(config)
    network = method.make_model(len(read_metadata(file).classes), pretrained=False)
    network.load_state_dict(strip_prefix(tensors, MODEL))
    network = network.to(pick_device(config.train.device)).to(memory_format=torch.channels_last)
    return method.for_evaluation(network)


def _key(weights: Path, dataset: Dataset, resizing: Resizing, settings: DetectConfig, device: torch.device) -> str:
    """Hash of what detections depend on: weights, images, settings, device and versions."""
    with weights.open("rb") as opened:
        content = hashlib.file_digest(opened, "sha256").hexdigest()
    images = [_last_change(dataset.folder / dataset.files[index]) for index in range(len(dataset))]
    data = dataset_fingerprint(dataset), dataset.category_ids, dataset.sizes.tolist(), dataset.max_pixels, images
    versions = (
        __version__,
        torch.__version__,
        torchvision.__version__,
        cv2.__version__,
        PIL.__version__,
        _timm_version(),
    )
    parts = content, data, resizing, settings, describe_device(device), versions
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _timm_version() -> str | None:
    """None if timm, which has some of the backbones, is not installed."""
    try:
        return version("timm")
    except PackageNotFoundError:
        return None


def _last_change(file: Path) -> tuple[int, int] | None:
    """Size of a file and time of its last change; None if there is none, as for images that the program paints."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _kept(file: Path, dataset: Dataset) -> np.ndarray | None:
    """The detections that an earlier call has written to `file`; None if there are none, or the file is damaged."""
    index_of_id, label_of_id = dataset.index_of_id, {number: i for i, number in enumerate(dataset.category_ids)}
    try:
        rows = [
            [index_of_id[each["image_id"]], *each["bbox"], each["score"], label_of_id[each["category_id"]]]
            for each in json.loads(file.read_bytes())
        ]
        return np.array(rows, np.float64).reshape(-1, 7)
    except (OSError, ValueError, LookupError, TypeError):
        return None
