"""Which values each key of a config takes."""

import reprlib
from dataclasses import fields
from typing import Any

from retinanet.config.schema import (
    LOSS_DEFAULTS,
    LOSS_SETTINGS,
    AnchorConfig,
    AugmentConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    checkpoint_interval,
)
from retinanet.errors import ConfigError

RANGES: dict[str, tuple[float, float]] = {  # inclusive
    "data.max_pixels": (1024, 2**31),
    "data.short_side": (32, 8192),
    "data.long_side": (32, 8192),
    "data.workers": (0, 256),
    "model.freeze_stages": (0, 5),
    "model.fpn_channels": (8, 4096),
    "model.head_channels": (8, 4096),
    "model.head_depth": (0, 16),
    "model.prior": (1e-6, 0.5),
    "anchors.foreground_iou": (0, 1),
    "anchors.background_iou": (1e-6, 1),
    "loss.gamma": (0, 100),
    "loss.alpha": (0, 1),
    "loss.shift": (-100, 100),
    "loss.count": (1, 1_000_000),
    "loss.nms_iou": (0, 1),
    "loss.beta": (0, 100),
    "loss.box_weight": (0, 1000),
    "train.epochs": (1, 100_000),
    "train.steps": (1, 1_000_000_000),
    "train.batch_size": (1, 65_536),
    "train.accumulate": (1, 65_536),
    "train.lr": (0, 100),
    "train.momentum": (0, 1),
    "train.weight_decay": (0, 10),
    "train.warmup_steps": (0, 1_000_000),
    "train.clip_norm": (1e-9, 1e9),
    "train.ema": (0, 0.999999),
    "train.augment.flip": (0, 1),
    "train.augment.vertical_flip": (0, 1),
    "train.augment.jitter": (0, 1),
    "train.augment.crop": (0, 1),
    "train.eval_every": (1, 100_000),
    "train.patience": (1, 100_000),
    "train.log_every": (1, 1_000_000),
    "train.seed": (0, 2**63 - 1),
    "detect.score_threshold": (0, 1),
    "detect.top_k": (1, 1_000_000),
    "detect.nms_iou": (0, 1),
    "detect.max_detections": (1, 100_000),
}


MAX_PER_CELL = 1000  # anchors; the paper has 9


def _check(config: Any, source: str, path: str) -> None:
    """Each number within RANGES, and what the section at `path` asks besides. Raises: ConfigError."""
    for item in fields(config):
        where = f"{path}.{item.name}"
        value = getattr(config, item.name)
        low, high = RANGES.get(where, (None, None))
        for number in value if isinstance(value, tuple) else (value,):
            if low is not None and number is not None and not low <= number <= high:
                raise ConfigError(f"{source}: {where} is {_short(_plain(value))}, expected {low} to {high}")
    match config:
        case DataConfig():
            if config.classes == ():
                raise ConfigError(f"{source}: {path}.classes is empty, expected names")
        case ModelConfig():
            _check_model(config, source, path)
        case AnchorConfig():
            _check_anchors(config, source, path)
        case LossConfig():
            _check_loss(config, source, path)
        case AugmentConfig():
            _check_augment(config, source, path)
        case TrainConfig():
            _check_train(config, source, path)


def _check_model(config: ModelConfig, source: str, path: str) -> None:
    for name in ("pixel_mean", "pixel_std"):
        values = getattr(config, name)
        if values is not None and len(values) != 3:
            raise ConfigError(f"{source}: {path}.{name} has {len(values)} values, expected 3, for R, G and B")
    if config.pixel_std is not None and min(config.pixel_std) <= 0:
        raise ConfigError(f"{source}: {path}.pixel_std is {_short(list(config.pixel_std))}, expected numbers above 0")


def _check_anchors(config: AnchorConfig, source: str, path: str) -> None:
    for name in ("sizes", "scales", "ratios"):
        values = getattr(config, name)
        if not values or min(values) <= 0:
            raise ConfigError(f"{source}: {path}.{name} is {_short(list(values))}, expected numbers above 0")
        if max(values) > 1e6:
            raise ConfigError(f"{source}: {path}.{name} is {_short(list(values))}, expected numbers up to a million")
    if len(config.scales) * len(config.ratios) > MAX_PER_CELL:
        raise ConfigError(
            f"{source}: {path} has {len(config.scales)} scales and {len(config.ratios)} ratios, expected at most "
            f"{MAX_PER_CELL} pairs of them"
        )
    if len(config.sizes) != 5:
        raise ConfigError(f"{source}: {path}.sizes has {len(config.sizes)} values, expected 5, for P3 to P7")
    if config.background_iou > config.foreground_iou:
        raise ConfigError(f"{source}: {path}.background_iou is above {path}.foreground_iou")


def _check_loss(config: LossConfig, source: str, path: str) -> None:
    chosen = config.classification
    for key in LOSS_SETTINGS:
        if key not in LOSS_DEFAULTS[chosen] and getattr(config, key) is not None:
            raise ConfigError(
                f"{source}: {path}.{key} is set, but {path}.classification {chosen} has no {key}; "
                f"it takes {', '.join(LOSS_DEFAULTS[chosen]) or 'nothing'}"
            )
    if config.normalizer == "exponential" and chosen.startswith("ohem"):
        raise ConfigError(
            f"{source}: {path}.normalizer is exponential, but {path}.classification {chosen} divides by the number of "
            "its examples"
        )
    if chosen == "focal_star" and config.gamma == 0:
        raise ConfigError(f"{source}: {path}.gamma is 0, expected a number above 0 for focal_star")


def _check_augment(config: AugmentConfig, source: str, path: str) -> None:
    sides = config.short_sides
    if sides is not None and (not sides or min(sides) < 32 or max(sides) > 8192):
        raise ConfigError(f"{source}: {path}.short_sides is {_short(list(sides))}, expected numbers in 32 to 8192")


def _check_train(config: TrainConfig, source: str, path: str) -> None:
    if not all(0 <= part <= 1 for part in config.milestones):
        raise ConfigError(
            f"{source}: {path}.milestones is {_short(list(config.milestones))}, expected parts of the run, 0 to 1"
        )
    try:
        checkpoint_interval(config.checkpoint_every)
    except ValueError:
        raise ConfigError(
            f"{source}: {path}.checkpoint_every is {_short(config.checkpoint_every)}, expected steps, such as 500, or "
            "minutes, such as 10 min"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


_SHORTENED = reprlib.Repr()  # a list of YAML's aliases may be a million letters long
_SHORTENED.maxlist = _SHORTENED.maxtuple = _SHORTENED.maxdict = 30
_SHORTENED.maxstring = _SHORTENED.maxother = _SHORTENED.maxlong = 110


def _short(value: Any) -> str:
    text = _SHORTENED.repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
