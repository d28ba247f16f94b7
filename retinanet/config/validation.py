"""What a config's section must fulfil: the bounds of its keys, and the rules that concern several keys."""

import typing
from dataclasses import fields
from typing import Any

from retinanet.config.schema import (
    LOSS_DEFAULTS,
    LOSS_SETTINGS,
    AnchorConfig,
    DataConfig,
    DetectConfig,
    LossConfig,
    TrainConfig,
    checkpoint_interval,
)
from retinanet.errors import ConfigError
from retinanet.messages import shortened

MAX_ANCHORS_PER_CELL = 1000  # the paper has 9
IOU_MATCHING = ("foreground_iou", "background_iou", "force_best")  # keys that only matching by IoU has


def check_section(config: Any, path: str) -> None:
    """Check one section of a config. path: of the section, such as train.augment. Raises: ConfigError."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    for item in fields(config):
        value = getattr(config, item.name)
        for bound in getattr(hints[item.name], "__metadata__", ()):
            if value is not None and not bound.admits(value):
                raise ConfigError(f"{path}.{item.name} is {shortened(value)}, expected {bound.text}")
    match config:
        case DataConfig():
            _check_data(config)
        case AnchorConfig():
            _check_anchors(config)
        case LossConfig():
            _check_loss(config)
        case TrainConfig():
            _check_train(config)


def require_detect_settings(settings: DetectConfig) -> None:
    """Check settings that a caller passed. Raises: ValueError."""
    try:
        check_section(settings, "detect")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("detect.")) from None


def _check_data(config: DataConfig) -> None:
    train, val = config.train, config.val
    if train is not None and train.fraction is not None:
        raise ConfigError(
            f"data.train is the fraction {train.fraction:g}; only data.val can be a fraction, of data.train"
        )
    if val is None or val.fraction is None:
        return
    if (val.name, val.images, val.annotations) != (None, None, None):
        raise ConfigError("data.val has a fraction and name, images or annotations; expected one or the other")
    if config.embedded is not None:
        raise ConfigError(f"data.val is the fraction {val.fraction:g}, but {config.embedded} has images to evaluate on")


def _check_anchors(config: AnchorConfig) -> None:
    scales, ratios, foreground = len(config.scales), len(config.ratios), config.foreground_iou
    if scales * ratios > MAX_ANCHORS_PER_CELL:
        raise ConfigError(
            f"anchors has {scales} scales and {ratios} ratios, expected at most {MAX_ANCHORS_PER_CELL:,} pairs of them"
        )
    if config.matching == "atss":
        for key in IOU_MATCHING:
            if getattr(config, key) != getattr(AnchorConfig, key):
                raise ConfigError(
                    f"anchors.{key} is {shortened(getattr(config, key))}, but anchors.matching is atss, in which each "
                    f"object has its own threshold; set {key} to {str(getattr(AnchorConfig, key)).lower()}, its "
                    "default, or matching to iou"
                )
    if config.background_iou > foreground:
        raise ConfigError(
            f"anchors.background_iou is {config.background_iou:g}, "
            f"expected at most anchors.foreground_iou, {foreground:g}"
        )


def _check_loss(config: LossConfig) -> None:
    chosen, allowed = config.classification, LOSS_DEFAULTS[config.classification]
    for key in LOSS_SETTINGS:
        if key not in allowed and getattr(config, key) is not None:
            raise ConfigError(
                f"loss.{key} is set, but loss.classification {chosen} has no {key}; "
                f"it takes {', '.join(allowed) or 'nothing'}"
            )
    if config.normalizer == "exponential" and "count" in allowed:
        raise ConfigError(
            f"loss.normalizer is exponential, but loss.classification {chosen} divides by the number of its examples"
        )
    if chosen == "focal_star" and config.gamma == 0:
        raise ConfigError("loss.gamma is 0, expected a number above 0 for focal_star")
    if chosen == "quality_focal" and config.gamma is not None and 0 < config.gamma < 1:
        raise ConfigError(f"loss.gamma is {config.gamma:g}, expected 0, or 1 or more for quality_focal")
    if chosen == "varifocal" and isinstance(config.alpha, tuple):
        raise ConfigError("loss.alpha is a list, expected one number for varifocal")


def _check_train(config: TrainConfig) -> None:
    try:
        checkpoint_interval(config.checkpoint_every)
    except ValueError:
        raise ConfigError(
            f"train.checkpoint_every is {shortened(config.checkpoint_every)}, expected steps, such as 500, or minutes, "
            "such as 10 min"
        ) from None
