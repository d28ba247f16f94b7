"""The random sample of anchors, and the distribution of the loss over them (paper, figure 4)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from retinanet.config.schema import AnchorConfig, ModelConfig
from retinanet.data.shapes import open_shapes
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.evaluation.detector_and_data import DataSource, checkpoint_and_data
from retinanet.losses.criterion import Criterion
from retinanet.losses.matching import BACKGROUND, IGNORE, match
from retinanet.model.retinanet import make_model
from retinanet.paper import loss_distribution as lossdistribution
from retinanet.paper.loss_distribution import (
    UniformSample,
    cumulative,
    distribution,
    draw,
    loss_distribution,
    right_and_wrong,
)


def sample(values, size, seed, parts=1):
    drawn = UniformSample(size, np.random.default_rng(seed))
    for part in np.array_split(values, parts):
        drawn.add(part)
    return drawn


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_every_value_is_drawn_as_often_as_any_other(monkeypatch, chunk):
    monkeypatch.setattr(lossdistribution, "CHUNK", chunk)
    counts = np.zeros(300, int)
    for seed in range(400):
        drawn = sample(np.arange(300), 60, seed, parts=5).values()
        assert len(set(drawn.tolist())) == 60  # none twice
        counts[drawn] += 1
    # each is binomial(400, 1 / 5): mean 80, variance 64; the sum of squares is chi-square with 299 degrees of freedom
    # times 0.8
    assert abs(((counts - 80) ** 2 / 64).sum() - 299) < 4 * math.sqrt(2 * 299)
    thirds = counts.reshape(3, 100).sum(axis=1)  # the first are not favoured over the last
    assert abs(thirds - 8000).max() < 4 * math.sqrt(6400)


def test_the_chunks_of_the_stream_change_nothing():
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    whole, parts = sample(values, 100, 1), sample(values, 100, 1, parts=37)
    np.testing.assert_array_equal(np.sort(whole.values()), np.sort(parts.values()))
    assert whole.total == parts.total == 5000
    assert set(sample(values, 100, 2).values()) != set(whole.values())


def test_few_values_are_all_kept():
    assert sorted(sample(np.arange(30), 100, 0, parts=4).values()) == list(range(30))
    assert len(sample(np.zeros(0), 100, 0).values()) == 0
    assert len(sample(np.arange(100), 100, 0).values()) == 100


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(lossdistribution, "CHUNK", 50)
    drawn = UniformSample(200, np.random.default_rng(0))
    most = 0
    for start in range(0, 100_000, 1000):
        drawn.add(np.arange(start, start + 1000))
        most = max(most, drawn.held, sum(len(keys) for keys, _ in drawn.parts))
    assert most <= 2 * 200 + 50
    assert drawn.total == 100_000


def test_shares_by_hand():
    losses = np.array([1.0, 1, 1, 97])
    np.testing.assert_allclose(cumulative(losses, np.array([0, 0.25, 0.5, 0.75, 1])), [0, 0.01, 0.02, 0.03, 1])
    assert cumulative(losses, np.array([0.875])) == pytest.approx(0.03 + 0.97 / 2)  # half of the hardest sample
    np.testing.assert_allclose(cumulative(np.ones(1), np.array([0, 0.3, 1])), [0, 0.3, 1])
    np.testing.assert_allclose(cumulative(np.zeros(3), np.array([0, 0.3, 1])), [0, 0.3, 1])


def test_gamma_0_is_cross_entropy_and_the_hardest_come_last():
    p_t = np.repeat([0.5, 0.9], [1, 9])  # CE: 0.693 and nine times 0.105
    x_t = np.log(p_t / (1 - p_t)).astype(np.float32)
    found = distribution(np.random.default_rng(0).permutation(x_t), 50, [0, 2])
    assert (found.drawn, found.total) == (10, 50)
    hard = math.log(2) / (math.log(2) - 9 * math.log(0.9))
    assert found.shares[0][1] == pytest.approx(hard, rel=1e-5)  # of the hardest tenth
    hard = 0.25 * math.log(2) / (0.25 * math.log(2) - 9 * 0.01 * math.log(0.9))
    assert found.shares[2][1] == pytest.approx(hard, rel=1e-5)
    assert found.curves[0][900] == pytest.approx(1 - found.shares[0][1])
    assert found.curves[2][0] == 0 and found.curves[2][-1] == pytest.approx(1)
    assert found.shares[0][0] == pytest.approx(found.shares[0][1] / 10)  # 1 % is a tenth of the hardest sample


def test_which_logits_are_samples():
    logits = torch.arange(12.0).reshape(4, 3)
    matched = torch.tensor([1, BACKGROUND, IGNORE, 0])
    right, wrong = right_and_wrong(logits, matched, torch.tensor([2, 0]))
    assert right.tolist() == [0, 11]  # object 1 is of class 0, object 0 of class 2
    assert wrong.tolist() == [3, 4, 5]


def test_a_fresh_detector_gives_every_anchor_the_prior():
    trunk = ModelConfig(backbone="resnet18", pretrained=False, fpn_channels=16, head_channels=16, head_depth=1)
    torch.manual_seed(0)
    model = make_model(trunk, AnchorConfig(), 6).eval()
    torch.nn.init.zeros_(model.cls_subnet.predict.weight)
    dataset = open_shapes("val")
    dataset.image_ids = dataset.image_ids[:3]
    dataset.sizes = dataset.sizes[:3]
    foreground, background = (UniformSample(size, np.random.default_rng(0)) for size in (10, 1000))
    calls = []
    notes = draw(
        model,
        EvalSamples(dataset, Resizing(128, 128)),
        Criterion(),
        foreground,
        background,
        progress=lambda *n: calls.append(n),
    )
    assert notes == [] and calls == [(1, 3), (2, 3), (3, 3)]
    anchors = 9 * (16**2 + 8**2 + 4**2 + 2**2 + 1)
    assert 0 < foreground.total < 3 * anchors / 10
    assert 3 * anchors * 6 * 0.8 < background.total < 3 * anchors * 6 and background.total % 6 == 0
    np.testing.assert_allclose(foreground.values(), math.log(0.01 / 0.99), rtol=1e-5)
    np.testing.assert_allclose(background.values(), math.log(0.99 / 0.01), rtol=1e-5)
    # all losses are alike: each part of the samples holds as much of the loss
    assert distribution(background.values(), background.total, [2]).shares[2] == pytest.approx([0.01, 0.1, 0.2])


def test_anchors_are_matched_as_the_detector_was_trained(tiny: Path, tiny_run: Path):
    # no anchor reaches this IoU, so only forced anchors are foreground
    settings = ("anchors.foreground_iou=1", "anchors.background_iou=0.4", "anchors.force_best=true")
    losses = loss_distribution(tiny_run, [2], DataSource(overrides=settings))
    model, config, dataset = checkpoint_and_data(tiny_run)
    expected = 0
    for sample, _ in EvalSamples(dataset, Resizing.from_config(config.data)):
        anchors = torch.cat(model.anchors((64, 64)))
        boxes, crowd = torch.from_numpy(sample.boxes), torch.from_numpy(sample.crowd)
        expected += int((match(anchors, boxes, crowd, 1, 0.4, force_best=True) >= 0).sum())
    assert losses.foreground.total == expected >= len(dataset.boxes)
