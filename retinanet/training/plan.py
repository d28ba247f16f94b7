"""The plan of a run and an estimate of its duration."""

import copy
import time

from retinanet.config.schema import loss_settings
from retinanet.data.loader import batch_loader
from retinanet.devices import describe_device
from retinanet.losses.criterion import Targets
from retinanet.training.events import Plan
from retinanet.training.optimizer import learning_rate
from retinanet.training.run import Run
from retinanet.training.step import forward


def make_plan(run: Run) -> Plan:
    """The plan of a run, with an estimate of its duration."""
    left = run.steps - run.state.step
    return Plan(
        output=run.folder.path,
        device=describe_device(run.device),
        train_images=len(run.dataset),
        val_images=len(run.val) if run.val is not None else 0,
        classes=run.dataset.classes,
        parameters=sum(p.numel() for p in run.model.parameters()),
        epochs=run.epochs,
        steps=run.steps,
        batch_size=run.sampler.batch_size,
        loss=run.config.loss.classification,
        loss_settings=loss_settings(run.config.loss),
        lr=learning_rate(run.config.train),
        seconds=seconds_per_step(run) * left if left > 0 else 0.0,
    )


def seconds_per_step(run: Run) -> float:
    """Time of one step after a warm-up step, measured on copies so that the run does not change."""
    run.sampler.epoch, run.sampler.start = run.state.epoch, 0
    batch = next(iter(batch_loader(run.train_samples(), run.sampler, 0))).to(run.device)
    model, criterion = copy.deepcopy(run.model).train(), copy.copy(run.criterion)
    targets = Targets(batch.boxes, batch.labels, batch.crowd)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        losses = criterion(forward(model, batch, run.config.train), targets)
        (losses["cls"] + losses["box"]).backward()
        seconds = time.perf_counter() - start
    return seconds * run.config.train.accumulate
