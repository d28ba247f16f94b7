"""Steps of a training run and detections on any device, and how often the host waits for a GPU."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.support import write_coco
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_from_dict
from retinanet.config.schema import Config
from retinanet.inference.detector import Detector
from retinanet.inference.torch_model import Precision, TorchModel
from retinanet.model.retinanet import make_model
from retinanet.training.events import Progress
from retinanet.training.method import Method, RetinaNetMethod
from retinanet.training.setup import start_run
from retinanet.training.train import end_epoch, train_one_epoch

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=on_gpu)]
ROUNDING = {"fp32": 2**-24, "bf16": 2**-9, "fp16": 2**-12}  # the largest relative error of a number

NARROW = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1}
MODEL = {"backbone": "resnet18", "pretrained": False, "trunk_norm": "frozen_bn", **NARROW}
IMAGES, BATCH = 8, 2


def train_steps(
    folder: Path,
    device: str,
    name: str = "run",
    make_method: Callable[[Config], Method] = RetinaNetMethod,
    **train: object,
) -> Iterator[Progress]:
    """The steps of a short run on `device`, as they are reported. train: keys of the config."""
    if not (folder / "train").exists():
        write_coco(folder, "train", IMAGES)
    values = {
        "data": {"root": str(folder), "train": "train", "short_side": 64, "long_side": 64, "workers": 0},
        "model": MODEL,
        "train": {"epochs": 1, "batch_size": BATCH, "device": device, "log_every": 1, "optimizer": "sgd"} | train,
    }
    run = start_run(config_from_dict(values, "test"), folder / name, False, False, make_method)
    with closing(run.folder):
        for _ in range(run.config.train.epochs):
            yield from (event for event in train_one_epoch(run, stop=lambda: False) if isinstance(event, Progress))
            end_epoch(run)


def make_detector(device: str, precision: Precision = "fp32") -> Detector:
    """With random weights whose logits and deltas are as far apart as those of a trained network."""
    config = config_from_dict({"data": {"short_side": 64, "long_side": 107}, "model": MODEL}, "test")
    torch.manual_seed(0)
    network = make_model(config.model, config.anchors, 2, pretrained=False).eval()
    with torch.no_grad():
        network.cls_subnet.predict.weight *= 100
        network.box_subnet.predict.weight *= 100
    detector = Detector(TorchModel(network.to(device), "weights", precision), Metadata(config, ("a", "b"), (1, 2)))
    detector.settings = replace(detector.settings, score_threshold=0.02)
    return detector


def random_images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (96, 128), np.uint8)[:, :, None].repeat(3, axis=2) for _ in range(count)]


@contextmanager
def waits_of_gpu() -> Iterator[list[str]]:
    """A list that grows by a line whenever the host waits for the GPU within the context; torch counts them."""
    lines: list[str] = []
    show = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda text, *place: (
            lines.append(f"{place[1]}:{place[2]}") if "synchronizing CUDA" in str(text) else show(text, *place)
        )
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode("default")
