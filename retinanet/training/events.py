"""What a training run tells while it goes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retinanet.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. seconds: its estimated length, from one timed step, evaluations left out."""

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

    cls, box: losses. memory: peak in bytes. foreground: anchors per level P3..P7 in the step. logged: whether the step
    went into metrics.jsonl. last_ap, best_ap: of the evaluations so far.
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
    """Something that the user should read."""

    text: str


@dataclass(frozen=True)
class Done:
    output: Path
    steps: int
    seconds: float
    best: float | None
    best_epoch: int | None
    replaced: int  # images that could not be read, each time


@dataclass(frozen=True)
class Stopped:
    """A run that was asked to end, and saved after `step`."""

    output: Path
    step: int


Event = Plan | Progress | Validation | Note | Done | Stopped


def step_record(progress: Progress) -> dict[str, Any]:
    """What metrics.jsonl keeps of a step."""
    values = asdict(progress)
    for name in ("epochs", "steps", "logged", "last_ap", "best_ap", "seconds_left"):
        del values[name]
    return values
