"""Every choice of a run, its default and the default's source."""

import re
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from retinanet.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class SplitConfig:
    """One part of a data set: a split's name, or where its images and annotations lie below the root."""

    name: str | None = None
    images: str | None = None
    annotations: str | None = None


@dataclass(frozen=True)
class DataConfig:
    embedded: Literal["shapes"] | None = None  # `data: shapes` is short for this
    root: str = "."
    source: str | None = None  # where the data is to be had; told if it is missing
    train: SplitConfig | None = None  # a bare word is a split's name
    val: SplitConfig | None = None
    classes: tuple[str, ...] | None = None  # a subset; None: all
    skip_empty: bool = False
    max_pixels: int = 178_956_970  # of an image file, that a small one cannot fill the memory; Pillow
    short_side: int = 800  # paper, 4.1
    long_side: int = 1333  # Detectron
    resize: Literal["opencv", "pil", "float"] = "opencv"  # pil: detectron2's; float: torchvision's; see `resize`
    workers: int = 2

    @property
    def has_val(self) -> bool:
        return self.val is not None or self.embedded is not None


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = "resnet50"
    pretrained: bool = True  # ImageNet weights
    trunk_norm: Literal["frozen_bn", "bn", "gn"] | None = None  # None: frozen_bn (Detectron) if pretrained, else bn
    freeze_stages: int | None = None  # None: 2 (Detectron: the stem and C2) if pretrained, else 0
    fpn_channels: int = 256  # paper, 4
    head_channels: int = 256  # paper, 4
    head_depth: int = 4  # paper, 4
    head_norm: Literal["none", "gn"] = "none"
    stride_in_1x1: bool = False  # of a bottleneck, in place of its 3x3 convolution; the first ResNets', detectron2's
    p6_from: Literal["c5", "p5"] = "c5"  # paper, footnote 2
    prior: float | None = 0.01  # score of every anchor at the start; paper, 4.1; None: 0.5, the plain initialisation
    pixel_mean: tuple[float, ...] | None = None  # RGB, 0..255; None: the trunk's own
    pixel_std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class AnchorConfig:
    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)  # side on P3..P7; paper, 4
    scales: tuple[float, ...] = (1, 2 ** (1 / 3), 2 ** (2 / 3))  # paper, 4
    ratios: tuple[float, ...] = (0.5, 1, 2)  # height / width; paper, 4
    foreground_iou: float = 0.5  # paper, 4
    background_iou: float = 0.4  # paper, 4
    force_best: bool = False  # each object's best anchors are foreground whatever their IoU; detectron2, torchvision
    whole_pixels: bool = False  # rounded sides and strides; torchvision


@dataclass(frozen=True)
class LossConfig:
    """What a classification loss takes, and its defaults where a field is None, stands in LOSS_DEFAULTS."""

    classification: Literal["focal", "ce", "balanced_ce", "focal_star", "ohem", "ohem_1_3"] = "focal"
    gamma: float | None = None  # focusing; 0 is cross entropy
    alpha: float | tuple[float, ...] | None = None  # weight of the right class; the wrong ones have 1 - alpha
    shift: float | None = None  # beta of focal_star
    count: int | None = None  # anchors that ohem trains per image
    nms_iou: float | None = None  # of ohem
    box: Literal["smooth_l1", "l1", "giou"] = "smooth_l1"
    beta: float = 0.11  # of smooth L1; Detectron
    box_weight: float = 1.0
    normalizer: Literal["image", "exponential"] = "image"  # of the sums; exponential: detectron2's running mean


LOSS_DEFAULTS: dict[str, dict[str, Any]] = {
    "focal": {"gamma": 2.0, "alpha": None},  # paper, 5.1; alpha follows gamma: `best_alpha`
    "ce": {},
    "balanced_ce": {"alpha": 0.75},  # paper, table 1a
    "focal_star": {"gamma": 2.0, "shift": 1.0, "alpha": 0.25},  # paper, table 3; alpha: "identical settings"
    "ohem": {"count": 128, "nms_iou": 0.5},  # paper, table 1d
    "ohem_1_3": {"count": 128, "nms_iou": 0.5},  # paper, table 1d
}


LOSS_SETTINGS = tuple(dict.fromkeys(name for defaults in LOSS_DEFAULTS.values() for name in defaults))


def checkpoint_interval(text: str) -> tuple[float, Literal["steps", "min"]]:
    """Number and unit of "500", "500 steps", "10 min" or "10 minutes". Raises: ValueError."""
    found = re.fullmatch(r"(\d+|\d*\.\d+(?= ?m)) ?(steps?|min|minutes?|)", text.strip())
    if found is None or not float(found[1]):
        raise ValueError
    return float(found[1]), "min" if found[2].startswith("m") else "steps"


def best_alpha(gamma: float) -> float:
    """The alpha that went best with `gamma` in the paper (table 1b)."""
    return 0.75 if gamma < 0.5 else 0.5 if gamma < 1 else 0.25


def loss_settings(config: LossConfig) -> dict[str, Any]:
    """What the classification loss takes, defaults filled in: such as {"gamma": 2.0, "alpha": 0.25}."""
    settings = {
        name: default if getattr(config, name) is None else getattr(config, name)
        for name, default in LOSS_DEFAULTS[config.classification].items()
    }
    if config.classification == "focal" and settings["alpha"] is None:
        settings["alpha"] = best_alpha(settings["gamma"])
    return settings


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities, but for jitter, which is a strength in 0..1."""

    flip: float = 0.5  # paper, 4.1
    vertical_flip: float = 0.0
    jitter: float = 0.0
    crop: float = 0.0
    short_sides: tuple[int, ...] | None = None  # multi-scale: one is drawn per image; None: data.short_side


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 12
    steps: int | None = None  # optimizer steps in place of epochs
    batch_size: int = 16  # paper, 4.1
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"  # paper, 4.1
    lr: float | None = None  # None: 0.01 per 16 images (paper, 4.1), scaled; AdamW 0.001, scaled by the square root
    momentum: float = 0.9  # paper, 4.1
    weight_decay: float | None = None  # None: 1e-4 (paper, 4.1); AdamW 0.05
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (
        2 / 3,
        8 / 9,
    )  # parts of the run at which lr drops tenfold; paper, 4.1: 60k, 80k of 90k
    warmup_steps: int | None = None  # None: 500 (Detectron), at most a tenth of the run
    clip_norm: float | None = None
    ema: float | None = None  # decay of the weights' average, such as 0.998; evaluation uses the average
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False  # torch.compile: a minute or so for each of up to eight image sizes
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    init: str | None = None  # a retina checkpoint to fine-tune from
    eval_every: int = 1  # epochs
    patience: int | None = None  # evaluations without a better AP before the run stops
    checkpoint_every: str = "10 min"  # or of steps, such as 500; beside one after each epoch
    log_every: int = 20  # steps
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class DetectConfig:
    score_threshold: float = 0.05  # paper, 4.1
    top_k: int = 1000  # per level; paper, 4.1
    nms_iou: float = 0.5  # paper, 4.1
    clip_first: bool = True  # cut boxes to the image before the NMS; torchvision; detectron2 after it
    max_detections: int = 100  # per image; COCO


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """The inverse of `config_to_dict`. Raises ConfigError that names `source`."""
    return _build(Config, values, source, "")


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain containers and numbers, as YAML and JSON take them."""
    return _plain(asdict(config))


def _build(kind: Any, values: Any, source: str, path: str) -> Any:
    """`values` as dataclass `kind`."""
    if kind is DataConfig and isinstance(values, str):
        values = {"embedded": values}
    if kind is SplitConfig and isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {path or 'the file'} is {kind_of(values)}, expected a mapping")
    hints = typing.get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    built = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in known:
            where, key = where[:100], str(key)[:100]
            hint = did_you_mean(key, known) or f"expected one of {', '.join(known)}"
            raise ConfigError(f"{source}: unknown key {where}; {hint}")
        built[key] = _coerce(hints[key], value, source, where)
    config = kind(**built)
    _check(config, source, path)
    return config


def _coerce(kind: Any, value: Any, source: str, path: str) -> Any:
    """`value` as the annotation `kind` says; PyYAML reads 1e-4 as text, so numbers are read from text too."""
    if is_dataclass(kind):
        return _build(kind, value, source, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        lists = [kind for kind in arguments if typing.get_origin(kind) is tuple]
        return _coerce(lists[0] if lists and isinstance(value, (list, tuple)) else arguments[0], value, source, path)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        hints = [f"expected one of {', '.join(arguments)}", did_you_mean(str(value)[:100], arguments)]
        raise ConfigError(f"{source}: {path} is {_short(value)}, {'; '.join(filter(None, hints))}")
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_coerce(arguments[0], item, source, f"{path}[{i}]") for i, item in enumerate(value))
        raise ConfigError(f"{source}: {path} is {kind_of(value)} {_short(value)}, expected a list")
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if kind is int and type(value) is int:
        return value
    if kind in (int, float) and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if number - number == 0 and (kind is float or number == int(number)):
            return kind(number)
    expected = {bool: "true or false", str: "text", int: "a whole number", float: "a finite number"}[kind]
    raise ConfigError(f"{source}: {path} is {_short(value)}, expected {expected}")


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


def kind_of(value: Any) -> str:
    """What a YAML value is, in words."""
    names = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number", bool: "a truth value"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
