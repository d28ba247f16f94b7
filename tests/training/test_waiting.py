"""How often a training step waits for the device: each wait makes the host idle until a GPU has done all its work."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
from helpers.support import write_coco
from helpers.waits import Waits

from retinanet.config.parsing import config_from_dict
from retinanet.losses import matching
from retinanet.training.events import Progress
from retinanet.training.setup import start_run
from retinanet.training.train import train_one_epoch


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("loss", {"normalizer": "image"}),
        ("loss", {"normalizer": "exponential"}),
        ("loss", {"classification": "varifocal"}),
        ("anchors", {"matching": "atss"}),
    ],
)
def test_a_step_waits_once(tmp_path: Path, monkeypatch, section, settings):
    # as on a GPU, where matching looks neither for near objects nor for crowds
    monkeypatch.setattr(matching, "_objects_near", lambda anchors, gt_boxes: torch.arange(len(gt_boxes)))
    monkeypatch.setattr(matching, "_may_have_crowd", lambda crowd: True)
    write_coco(tmp_path, "train", 8)
    narrow = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1}
    values = {
        "data": {"root": str(tmp_path), "train": "train", "short_side": 64, "long_side": 64, "workers": 0},
        "model": {"backbone": "resnet18", "pretrained": False, "trunk_norm": "frozen_bn", **narrow},
        section: settings,
        "train": {"epochs": 1, "batch_size": 2, "clip_norm": 1.0, "ema": 0.9, "device": "cpu", "log_every": 1},
    }
    run = start_run(config_from_dict(values, "test"), tmp_path / "run", resume=False, force=False)
    counts, steps = [], 0
    with closing(run.folder), Waits() as waits:
        for event in train_one_epoch(run, stop=lambda: False):
            counts.append((type(event), list(waits.names)))
            waits.names.clear()
            steps += isinstance(event, Progress)
    assert steps == 4
    # events are reported a step late: there is one whole step between the second and the third
    between = [names for kind, names in counts if kind is Progress][1:]
    assert between[:2] == [["nonzero"], ["nonzero"]]
