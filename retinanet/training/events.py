"""The events that a training run reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinanet.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Plan:
    """What a run is about to do.

    precision: of the network's arithmetic. seconds: estimated duration without evaluations, from one timed step.
    advice: how to make it shorter, or "".
    """

    output: Path
    device: str
    precision: str
    processes: int
    train_images: int
    val_images: int
    classes: tuple[str, ...]
    parameters: int
    epochs: int
    steps: int
    batch_size: int
    loss: str
    loss_settings: dict[str, Any]
    lr: float
    seconds: float
    advice: str


@dataclass(frozen=True)
class Progress:
    """One optimizer step.

    cls, box: losses. memory: peak, in bytes. foreground: number of foreground anchors on each level P3..P7.
    logged: whether the step is written to metrics.jsonl. last_ap, best_ap: None before the first evaluation.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    cls: float
    box: float
    lr: float
    images_per_second: float
    memory: int
    seconds_left: float
    foreground: tuple[int, ...]
    logged: bool
    last_ap: float | None
    best_ap: float | None


@dataclass(frozen=True)
class Validation:
    """An evaluation during training. best: the best AP so far, at `best_epoch`; None if data.val has no objects."""

    epoch: int
    step: int
    evaluation: Evaluation
    best: float | None
    best_epoch: int | None


@dataclass(frozen=True)
class Note:
    """A message for the user, one line."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of a run. replaced: how often an unreadable image was replaced by the next one."""

    output: Path
    steps: int
    seconds: float
    best: float | None
    best_epoch: int | None
    replaced: int


@dataclass(frozen=True)
class Stopped:
    """The early end of a run, saved after `step`."""

    output: Path
    step: int


Event = Plan | Progress | Validation | Note | Done | Stopped
