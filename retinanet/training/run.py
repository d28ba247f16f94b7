"""The parts of a training run, and the decisions about its next action."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from retinanet.checkpoints.metadata import Metadata
from retinanet.config.schema import Config
from retinanet.data.dataset import Dataset
from retinanet.data.loader import batch_loader
from retinanet.data.sampler import AspectRatioBatchSampler
from retinanet.data.transforms import training_resizings
from retinanet.data.views import TrainSamples
from retinanet.distributed import Processes
from retinanet.training.method import Method
from retinanet.training.optimizer import WeightAverage, learning_rate
from retinanet.training.run_folder import OtherProcessFolder, RunFolder
from retinanet.training.step_metrics import Throughput


@dataclass
class RunState:
    """Progress of a run, saved in the checkpoint under the same names.

    epoch, batch: finished epochs, and finished batches of the next epoch. step: finished optimizer steps.
    last, best, best_epoch: AP of the last and of the best evaluation, and the epoch of the best, counted from 1.
    stale: evaluations since the best. log_bytes: length of metrics.jsonl.
    replaced: how often an image could not be read. data, val: `dataset_fingerprint` of data.train and of data.val.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    last: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    stale: int = 0
    log_bytes: int = 0
    replaced: int = 0
    data: str = ""
    val: str = ""


@dataclass
class Run:
    """The parts of a run, built by `start_run`.

    val: None if data.val is not set. network: runs `model`, and averages its gradients over all processes.
    average: None unless train.ema is set. notes: messages before the first step.
    reported_faults: the unreadable images reported so far.
    """

    config: Config
    device: torch.device
    dataset: Dataset
    val: Dataset | None
    processes: Processes
    method: Method
    model: nn.Module
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    scaler: torch.amp.GradScaler
    sampler: AspectRatioBatchSampler
    folder: RunFolder | OtherProcessFolder
    state: RunState
    notes: list[str]
    throughput: Throughput = field(default_factory=Throughput)
    reported_faults: set[str] = field(default_factory=set)

    @property
    def steps(self) -> int:
        """Total number of optimizer steps."""
        return self.config.train.steps or self.config.train.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Total number of epochs; train.steps may cut the last one short."""
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def images_per_step(self) -> int:
        """Number of images of an optimizer step; a small data set has fewer than train.batch_size asks for."""
        return self.sampler.batch_size * min(self.config.train.accumulate, len(self.sampler))

    @property
    def learning_rate(self) -> float:
        """The learning rate after warm-up."""
        return learning_rate(self.config.train, self.images_per_step)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.sampler) / self.config.train.accumulate)

    def finished(self) -> bool:
        """Whether the last epoch has ended, including its evaluation and its checkpoint."""
        return self.state.batch == 0 and (self.state.epoch >= self.epochs or self.exhausted())

    def exhausted(self) -> bool:
        """Whether all steps are done, or AP has not improved for train.patience evaluations."""
        patience = self.config.train.patience
        return self.state.step >= self.steps or (patience is not None and self.state.stale >= patience)

    def trained_epoch(self) -> bool:
        """Whether all steps of the current epoch are done, but not its evaluation."""
        return self.state.batch > 0 and (self.state.batch >= len(self.sampler) or self.state.step >= self.steps)

    def evaluates_now(self) -> bool:
        """Whether an evaluation follows the current epoch."""
        last = self.exhausted() or self.state.epoch + 1 == self.epochs
        return self.val is not None and (last or (self.state.epoch + 1) % self.config.train.eval_every == 0)

    def train_samples(self) -> TrainSamples:
        train = self.config.train
        resizings = training_resizings(self.config.data, train.augment)
        return TrainSamples(self.dataset, resizings, train.augment, train.seed)

    @cached_property
    def loader(self) -> DataLoader:
        """Yields the batches that `sampler` draws, in each epoch anew."""
        on_gpu = self.device.type == "cuda"
        return batch_loader(self.train_samples(), self.sampler, self.config.data.workers, pin_memory=on_gpu)

    def metadata(self, progress: dict[str, Any]) -> Metadata:
        """The metadata of a checkpoint of this run."""
        return Metadata(self.config, self.dataset.classes, self.dataset.category_ids, progress)
