"""The events that a training run reports."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retinanet.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. seconds: its estimated length without evaluations, from one timed step."""

    output: Path
    device: str
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


@dataclass(frozen=True)
class Progress:
    """One optimizer step.

    cls, box: losses. memory: peak, in bytes. foreground: number of foreground anchors on each level P3..P7.
    logged: whether the step is written to metrics.jsonl. last_ap, best_ap: of the evaluations so far, None before one.
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
    """An evaluation during training. best: the best AP so far, at `best_epoch`."""

    epoch: int
    step: int
    evaluation: Evaluation
    best: float
    best_epoch: int


@dataclass(frozen=True)
class Note:
    """A line that the reader should know of."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of a run. replaced: how often an image could not be read and was replaced by the next one."""

    output: Path
    steps: int
    seconds: float
    best: float | None
    best_epoch: int | None
    replaced: int


@dataclass(frozen=True)
class Stopped:
    """The end of a run that was asked to stop and was saved after `step`."""

    output: Path
    step: int


Event = Plan | Progress | Validation | Note | Done | Stopped


def step_record(progress: Progress) -> dict[str, Any]:
    """The values of a step that metrics.jsonl keeps."""
    values = asdict(progress)
    for name in ("epochs", "steps", "logged", "last_ap", "best_ap", "seconds_left"):
        del values[name]
    return values
