"""The baselines of table 2 in our training loop: resumed to the last bit, evaluated like RetinaNet."""

from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.gpu import DEVICES
from helpers.support import same_run

from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.data.transforms import Resizing
from retinanet.evaluation.evaluate import evaluate_model
from retinanet.paper.baseline_method import Baseline, BaselineMethod
from retinanet.training.events import Done, Note, Plan, Progress, Stopped
from retinanet.training.train import training_events


def make(baseline: Baseline):
    return partial(BaselineMethod, baseline)


@pytest.mark.parametrize("baseline", [pytest.param("faster-rcnn", marks=pytest.mark.slow), "ssd"])
def test_a_baseline_that_was_interrupted_continues_as_if_it_had_not_been(baseline, tiny: Path, tmp_path: Path):
    overrides = ("train.batch_size=2", "train.epochs=1", "train.checkpoint_every=1 step", "train.precision=bf16")
    config = load_config(tiny / "tiny.yaml", overrides)
    events = list(training_events(config, tmp_path / "whole", make_method=make(baseline)))
    assert isinstance(events[-1], Done) and events[-1].steps == 4
    (plan,) = (event for event in events if isinstance(event, Plan))
    assert plan.loss.startswith("of torchvision's ") and plan.loss_settings == {}
    (first,) = (event.text for event in events if isinstance(event, Note))
    assert first.startswith("step 1: classification loss ") and "expected" not in first
    steps = [event for event in events if isinstance(event, Progress)]
    assert all(step.cls > 0 and step.box >= 0 and step.foreground == () for step in steps)
    assert len({step.cls for step in steps}) == 4

    cut = training_events(config, tmp_path / "cut", make_method=make(baseline))
    list(islice((event for event in cut if isinstance(event, Progress)), 2))
    cut.close()  # memory is lost, and the folder is as a kill would leave it
    asks = count(1)
    *_, stopped = training_events(
        config, tmp_path / "cut", resume=True, stop=lambda: next(asks) == 1, make_method=make(baseline)
    )
    assert isinstance(stopped, Stopped) and stopped.step < 4
    *_, done = training_events(config, tmp_path / "cut", resume=True, make_method=make(baseline))
    assert isinstance(done, Done) and done.steps == 4
    same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("baseline", ["faster-rcnn", "ssd"])
def test_an_evaluation_takes_the_limits_of_the_config_and_boxes_of_the_original_images(baseline, device, tiny: Path):
    config = load_config(tiny / "tiny.yaml", ["detect.score_threshold=0.05", "detect.max_detections=3"])
    dataset = open_dataset(config.data, "val")
    torch.manual_seed(0)
    method = BaselineMethod(baseline, config)
    network = method.make_model(len(dataset.classes), pretrained=False).to(device)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    evaluation = evaluate_model(
        method.for_evaluation(network), dataset, Resizing.from_config(config.data), config.detect, batch_size=2
    )
    images = evaluation.results[:, 0]
    assert 0 < max(np.bincount(images.astype(int))) <= 3
    assert evaluation.results[:, 5].min() > 0.05
    assert set(evaluation.results[:, 6]) <= set(range(len(dataset.classes)))
    x, y, w, h = evaluation.results[:, 1:5].T
    assert min(x.min(), y.min()) >= 0 and 64 < max((x + w).max(), (y + h).max()) <= 128  # not of the resized image
    assert evaluation.facts.weights is not None and network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
