"""What a config's section must fulfil: the bounds of its keys, and the rules that concern several keys."""

import typing
from dataclasses import fields
from typing import Any

from retinanet.config.schema import (
    LOSS_DEFAULTS,
    LOSS_SETTINGS,
    AnchorConfig,
    LossConfig,
    TrainConfig,
    checkpoint_interval,
)
from retinanet.errors import ConfigError
from retinanet.messages import shortened

MAX_ANCHORS_PER_CELL = 1000  # the paper has 9


def check_section(config: Any, source: str, path: str) -> None:
    """Check one section of a config. source: the file, for messages. path: the section, such as train.augment.

    Raises: ConfigError.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for item in fields(config):
        value = getattr(config, item.name)
        for bound in getattr(hints[item.name], "__metadata__", ()):
            if value is not None and not bound.admits(value):
                raise ConfigError(f"{source}: {path}.{item.name} is {shortened(value)}, expected {bound.text}")
    match config:
        case AnchorConfig():
            _check_anchors(config, source, path)
        case LossConfig():
            _check_loss(config, source, path)
        case TrainConfig():
            _check_train(config, source, path)


def _check_anchors(config: AnchorConfig, source: str, path: str) -> None:
    if len(config.scales) * len(config.ratios) > MAX_ANCHORS_PER_CELL:
        raise ConfigError(
            f"{source}: {path} has {len(config.scales)} scales and {len(config.ratios)} ratios, expected at most "
            f"{MAX_ANCHORS_PER_CELL:,} pairs of them"
        )
    if config.background_iou > config.foreground_iou:
        raise ConfigError(
            f"{source}: {path}.background_iou is {config.background_iou:g}, expected at most {path}.foreground_iou, "
            f"{config.foreground_iou:g}"
        )


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


def _check_train(config: TrainConfig, source: str, path: str) -> None:
    try:
        checkpoint_interval(config.checkpoint_every)
    except ValueError:
        raise ConfigError(
            f"{source}: {path}.checkpoint_every is {shortened(config.checkpoint_every)}, expected steps, such as "
            "500, or minutes, such as 10 min"
        ) from None
