"""Every choice of a run, its default and the default's source."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal


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
