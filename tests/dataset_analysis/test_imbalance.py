"""The imbalance equals what training matches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.scoring_cases import dataset

from retinanet.config.schema import AnchorConfig, Config, DataConfig
from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.data.loader import collate
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.dataset_analysis.imbalance import imbalance
from retinanet.losses.criterion import Targets, make_criterion
from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.model.anchors import image_anchors


@pytest.mark.parametrize("matching", ["iou", "atss"])
def test_it_is_what_the_criterion_matches(tiny: Path, matching: str):
    config = load_config(tiny / "tiny.yaml", [f"anchors.matching={matching}"])
    criterion = make_criterion(config.loss, config.anchors)
    data = open_dataset(config.data, "train")
    data.crowd[3] = True
    matched = []
    for index in range(len(data)):
        batch = collate([EvalSamples(data, Resizing.from_config(config.data))[index]])
        anchors = image_anchors(tuple(batch.images.shape[-2:]))
        matched.append(criterion.match_anchors(anchors, Targets(batch.boxes, batch.labels, batch.crowd)))
    every = torch.cat(matched, dim=1)
    found = imbalance(config, data)
    counts = (found.foreground, found.ignored, found.background, found.anchors)
    kinds = (every >= 0), every == IGNORE, every == BACKGROUND, every == every
    assert [count * 8 for count in counts] == pytest.approx([int(kind.sum()) for kind in kinds])
    assert found.images == 8 and found.ratio == pytest.approx(found.background / found.foreground) and found.ratio > 5


def test_by_hand():
    # 64 x 96 pixels at stride 8 .. 128: 96 + 24 + 6 + 2 + 1 cells, each with one anchor; the first of four images has
    # an object that equals the anchor of cell (2, 2) of P3; the four at its sides have IoU 24 / 40, those at its
    # corners 24^2 / (2 * 32^2 - 24^2) = 0.39
    data = dataset([1, 0, 0, 0], [[0, 0, 32, 32]], [0])
    data.sizes[:] = 64, 96
    config = Config(DataConfig(short_side=64), anchors=AnchorConfig(scales=(1,), ratios=(1,)))
    found = imbalance(config, data)
    assert (found.images, found.anchors, found.foreground, found.ignored) == (4, 129, 5 / 4, 0)
    assert found.ratio == (129 - 5 / 4) / (5 / 4)
    assert imbalance(config, data, most_images=2).foreground == 5 / 2  # the first and the last
    assert imbalance(config, dataset([0], [], [])).ratio is None


def test_the_short_sides_take_turns():
    data = dataset([0, 0, 0, 0], np.zeros((0, 4)), [])
    config = Config()
    augment = replace(config.train.augment, short_sides=(64, 128))
    one, other, both = (
        imbalance(replace(config, train=replace(config.train, augment=replace(augment, short_sides=sides))), data)
        for sides in ((64,), (128,), (64, 128))
    )
    assert both.anchors == (one.anchors + other.anchors) / 2
