"""Every key of a config: its type, bounds and default, then a line with its meaning and the default's source."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Bound:
    """What a key's value must fulfil if it is not null. text: in words, after "expected"."""

    text: str
    admits: Callable[[Any], bool]


def between(low: float, high: float) -> Bound:
    """Bound of a number, or of each number of a list."""

    def admits(value: Any) -> bool:
        return all(low <= number <= high for number in (value if isinstance(value, tuple) else (value,)))

    return Bound(f"{low:,} to {high:,}", admits)


def exactly(number: int, meaning: str) -> Bound:
    """The number of values of a list. meaning: what they stand for."""
    return Bound(f"{number} values, {meaning}", lambda values: len(values) == number)


NOT_EMPTY = Bound("at least one value", bool)
POSITIVE = between(1e-6, 1_000_000)
SIDE = between(32, 8192)  # pixels
MAX_PIXELS = 2**31  # of an image, the largest data.max_pixels


@dataclass(frozen=True)
class SplitConfig:
    """One split of a data set: its name, or where its images and annotations are; data.val may also be a fraction."""

    name: str | None = None
    """Name of the split, where the folders and files follow a format's usual layout."""
    images: str | None = None
    """Folder of the images, relative to data.root."""
    annotations: str | None = None
    """File or folder of the annotations, relative to data.root."""
    fraction: Annotated[float | None, between(0.001, 0.999)] = None
    """For data.val, in place of the other keys: the share of data.train's images that are held out from training."""
    seed: Annotated[int | None, between(0, 2**63 - 1)] = None
    """Seed of the choice of the held-out images; null is train.seed."""
    fingerprint: str | None = None
    """Hash of the names of the held-out images, which a run fills in, so that no other images are evaluated later."""


@dataclass(frozen=True)
class DataConfig:
    """The data set, and how its images are read and resized. `data: shapes` is short for `data: {embedded: shapes}`."""

    embedded: Literal["shapes"] | None = None
    """Data set that comes with the program, in place of files."""
    root: str = "."
    """Folder of the data set, relative to the YAML file."""
    source: str | None = None
    """Where the data can be downloaded; the message about a missing data set quotes it."""
    train: SplitConfig | None = None
    """Split to train on; a single word is the split's name."""
    val: SplitConfig | None = None
    """Split to evaluate on; a word is the split's name, a number a fraction. Without it, training reports no AP."""
    classes: Annotated[tuple[str, ...] | None, NOT_EMPTY] = None
    """Names of the classes to use; null uses all."""
    skip_empty: bool = False
    """Whether training leaves out images without objects."""
    max_pixels: Annotated[int, between(1024, MAX_PIXELS)] = 178_956_970
    """Largest number of pixels of an image, so that a small file cannot fill the memory. Pillow."""
    short_side: Annotated[int, SIDE] = 800
    """Pixels of the short side after resizing. Paper, section 4.1."""
    long_side: Annotated[int, SIDE] = 1333
    """Largest number of pixels of the long side after resizing. Detectron."""
    resize: Literal["opencv", "pil", "float"] = "opencv"
    """Method of resizing: opencv's linear one, detectron2's with pil, or torchvision's with float."""
    workers: Annotated[int, between(0, 256)] = 2
    """Number of processes that load images; 0 loads them in the main process."""

    @property
    def has_val(self) -> bool:
        return self.val is not None or self.embedded is not None


@dataclass(frozen=True)
class ModelConfig:
    """The network: backbone, feature pyramid (FPN) and the two subnets (heads)."""

    backbone: str = "resnet50"
    """A torchvision ResNet or ResNeXt, efficientnet_lite0, or timm:NAME. Paper, section 4."""
    pretrained: bool = True
    """Whether the backbone starts from ImageNet weights. Paper, section 4.1."""
    trunk_norm: Literal["frozen_bn", "bn", "gn"] | None = None
    """Normalisation of the backbone; null is frozen_bn (Detectron) if pretrained, else bn."""
    freeze_stages: Annotated[int | None, between(0, 5)] = None
    """Number of stages that keep weights and statistics, stem first; null is 2 (Detectron) if pretrained, else 0."""
    pyramid: Literal["fpn", "lateral"] = "fpn"
    """Feature pyramid with the top-down additions of P5 to P4 and P3, or without them. Paper, section 4."""
    fpn_channels: Annotated[int, between(8, 4096)] = 256
    """Channels of each pyramid level. Paper, section 4."""
    head_channels: Annotated[int, between(8, 4096)] = 256
    """Channels of the subnets' hidden layers. Paper, section 4."""
    head_depth: Annotated[int, between(0, 16)] = 4
    """Number of hidden layers of each subnet. Paper, section 4."""
    head_norm: Literal["none", "gn"] = "none"
    """Normalisation of the subnets; gn is torchvision's second version. Paper, section 4."""
    level_scales: bool = False
    """Whether the box subnet's outputs have a learned factor for each level, as in FCOS (Tian et al. 2019) and ATSS."""
    stride_in_1x1: bool = False
    """Whether the stride of a bottleneck is in its first 1x1 convolution, as in detectron2, and not in its 3x3 one."""
    p6_from: Literal["c5", "p5"] = "c5"
    """Level that P6 is computed from; p5 is torchvision's. Paper, footnote 2."""
    prior: Annotated[float | None, between(1e-6, 0.5)] = 0.01
    """Score of every anchor at the start; null is 0.5, the usual initialisation. Paper, section 4.1."""
    pixel_mean: Annotated[tuple[float, ...] | None, exactly(3, "for R, G and B")] = None
    """Mean that is subtracted from the pixels, on the scale 0 to 255; null is the backbone's own."""
    pixel_std: Annotated[tuple[float, ...] | None, POSITIVE, exactly(3, "for R, G and B")] = None
    """Standard deviation that the pixels are divided by, on the scale 0 to 255; null is the backbone's own."""


@dataclass(frozen=True)
class AnchorConfig:
    """The anchors, and which of them are foreground."""

    sizes: Annotated[tuple[float, ...], POSITIVE, exactly(5, "for P3 to P7")] = (32, 64, 128, 256, 512)
    """Side of a square anchor on each level, in pixels of the resized image. Paper, section 4."""
    scales: Annotated[tuple[float, ...], POSITIVE, NOT_EMPTY] = (1, 2 ** (1 / 3), 2 ** (2 / 3))
    """Factors of the sizes on each level. Paper, section 4."""
    ratios: Annotated[tuple[float, ...], POSITIVE, NOT_EMPTY] = (0.5, 1, 2)
    """Height divided by width. Paper, section 4."""
    matching: Literal["iou", "atss"] = "iou"
    """Foreground by fixed IoU thresholds (paper, section 4), or by one for each object (ATSS, Zhang et al. 2020)."""
    foreground_iou: Annotated[float, between(0, 1)] = 0.5
    """Lowest IoU with an object at which an anchor is foreground. Paper, section 4."""
    background_iou: Annotated[float, between(1e-6, 1)] = 0.4
    """IoU below which an anchor is background; those between the two are ignored. Paper, section 4."""
    force_best: bool = False
    """Whether the best anchors of each object are foreground at any IoU, as in detectron2 and torchvision."""
    whole_pixels: bool = False
    """Whether the anchors' sides and strides are rounded to whole pixels, as in torchvision."""


@dataclass(frozen=True)
class LossConfig:
    """The losses. A setting that is null has the default of its classification loss."""

    classification: Literal[
        "focal", "ce", "balanced_ce", "focal_star", "ohem", "ohem_1_3", "sampled", "quality_focal", "varifocal"
    ] = "focal"
    """Loss of the classification subnet. Paper, section 3; the last two: Li et al. 2020, Zhang et al. 2021."""
    gamma: Annotated[float | None, between(0, 100)] = None
    """Focusing parameter; 0 is cross entropy; quality_focal takes 0, or 1 and more. null is 2. Paper, section 5.1."""
    alpha: Annotated[float | tuple[float, ...] | None, between(0, 1)] = None
    """Weight of the right class, or one per class; others: 1 - alpha. varifocal: of the wrong ones. null: the best."""
    shift: Annotated[float | None, between(-100, 100)] = None
    """Beta of focal_star. null is 1. Paper, table 3."""
    count: Annotated[int | None, between(1, 1_000_000)] = None
    """Anchors per image to train. null is 128 for ohem and ohem_1_3 (paper, table 1d), 256 for sampled (RPN)."""
    nms_iou: Annotated[float | None, between(0, 1)] = None
    """IoU above which ohem and ohem_1_3 suppress the easier of two anchors. null is 0.5. Paper, table 1d."""
    box: Literal["smooth_l1", "l1", "giou"] = "smooth_l1"
    """Loss of the box subnet. Paper, section 4."""
    beta: Annotated[float, between(0, 100)] = 0.11
    """Error at which smooth L1 changes from quadratic to linear. Detectron."""
    box_weight: Annotated[float, between(0, 1000)] = 1.0
    """Factor of the box loss. Paper, section 4.1: the sum of both losses."""
    normalizer: Literal["image", "exponential"] = "image"
    """Divisor of the losses: foreground anchors per image, or detectron2's running mean of them. Paper, section 4.1."""


LOSS_DEFAULTS: dict[str, dict[str, Any]] = {
    "focal": {"gamma": 2.0, "alpha": None},  # paper, 5.1; alpha follows gamma: `best_alpha`
    "ce": {},
    "balanced_ce": {"alpha": 0.75},  # paper, table 1a
    "focal_star": {"gamma": 2.0, "shift": 1.0, "alpha": 0.25},  # paper, table 3, with the focal loss's alpha
    "ohem": {"count": 128, "nms_iou": 0.5},  # paper, table 1d
    "ohem_1_3": {"count": 128, "nms_iou": 0.5},  # paper, table 1d
    "sampled": {"count": 256},  # Ren et al. 2015, section 3.1.3
    "quality_focal": {"gamma": 2.0},  # Li et al. 2020
    "varifocal": {"alpha": 0.75, "gamma": 2.0},  # Zhang et al. 2021
}
LOSS_SETTINGS = tuple(dict.fromkeys(name for defaults in LOSS_DEFAULTS.values() for name in defaults))


def checkpoint_interval(text: str) -> tuple[float, Literal["steps", "min"]]:
    """Number and unit of "500", "500 steps", "10 min" or "10 minutes".

    Raises: ValueError if `text` is something else.
    """
    found = re.fullmatch(r"(\d+|\d*\.\d+(?= ?m)) ?(steps?|min|minutes?|)", text.strip())
    if found is None or not float(found[1]):
        raise ValueError
    return float(found[1]), "min" if found[2].startswith("m") else "steps"


def best_alpha(gamma: float) -> float:
    """The alpha that gave the highest AP with `gamma` in the paper (table 1b)."""
    return 0.75 if gamma < 0.5 else 0.5 if gamma < 1 else 0.25


def loss_settings(config: LossConfig) -> dict[str, Any]:
    """Settings of the classification loss, defaults included, such as {"gamma": 2.0, "alpha": 0.25}."""
    settings = {
        name: default if getattr(config, name) is None else getattr(config, name)
        for name, default in LOSS_DEFAULTS[config.classification].items()
    }
    if config.classification == "focal" and settings["alpha"] is None:
        settings["alpha"] = best_alpha(settings["gamma"])
    return settings


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of the training images."""

    flip: Annotated[float, between(0, 1)] = 0.5
    """Probability of a horizontal flip. Paper, section 4.1; Detectron."""
    vertical_flip: Annotated[float, between(0, 1)] = 0.0
    """Probability of a vertical flip."""
    jitter: Annotated[float, between(0, 1)] = 0.0
    """Strength of random changes of the colours."""
    crop: Annotated[float, between(0, 1)] = 0.0
    """Probability of a random crop."""
    short_sides: Annotated[tuple[int, ...] | None, SIDE, NOT_EMPTY] = None
    """Short sides in pixels, of which each image gets a random one (multi-scale training). null is data.short_side."""


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation, and how often it reports, evaluates and saves."""

    epochs: Annotated[int, between(1, 100_000)] = 12
    """Number of passes over the training images. Detectron: 90,000 steps of 16 images of COCO."""
    steps: Annotated[int | None, between(1, 1_000_000_000)] = None
    """Number of optimizer steps, in place of epochs."""
    batch_size: Annotated[int, between(1, 65_536)] = 16
    """Number of images per batch. Paper, section 4.1."""
    accumulate: Annotated[int, between(1, 65_536)] = 1
    """Number of batches per optimizer step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer. Paper, section 4.1."""
    lr: Annotated[float | None, between(0, 100)] = None
    """Learning rate; null is 0.01 r for sgd (paper, 4.1), 0.001 sqrt(r) for adamw; r = images per step / 16."""
    momentum: Annotated[float, between(0, 1)] = 0.9
    """Momentum of sgd. Paper, section 4.1."""
    weight_decay: Annotated[float | None, between(0, 10)] = None
    """Weight decay; null is 0.0001 for sgd (paper, section 4.1), 0.05 for adamw."""
    schedule: Literal["step", "cosine"] = "step"
    """Course of the learning rate: drops at the milestones, or half a cosine. Paper, section 4.1."""
    milestones: Annotated[tuple[float, ...], between(0, 1)] = (2 / 3, 8 / 9)
    """Parts of the run after which the learning rate drops tenfold. Paper, section 4.1: 60k and 80k of 90k steps."""
    warmup_steps: Annotated[int | None, between(0, 1_000_000)] = None
    """Steps in which the learning rate rises; null is 500 (Detectron), but at most a tenth of the run."""
    clip_norm: Annotated[float | None, between(1e-9, 1_000_000_000)] = None
    """Largest norm of the gradient, which is scaled down to it; null does not clip."""
    ema: Annotated[float | None, between(0, 0.999999)] = None
    """Decay of a moving average of the weights, such as 0.998; evaluation and prediction then use the average."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Number format of the forward pass; auto measures at the start whether fp32 or bf16 is faster."""
    compile: bool = False
    """Whether to use torch.compile, which takes about a minute for each of up to eight image sizes."""
    deterministic: bool = False
    """Whether a GPU uses only algorithms with the same result in each run, which are slower."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    init: str | None = None
    """Checkpoint of this program to fine-tune from, relative to the YAML file."""
    eval_every: Annotated[int, between(1, 100_000)] = 1
    """Number of epochs between evaluations."""
    patience: Annotated[int | None, between(1, 100_000)] = None
    """Number of evaluations without a better AP after which the run stops; null never stops early."""
    checkpoint_every: str = "10 min"
    """Time between checkpoints, such as 10 min, or number of steps, such as 500; each epoch ends with one, too."""
    log_every: Annotated[int, between(1, 1_000_000)] = 20
    """Number of steps between reports."""
    seed: Annotated[int, between(0, 2**63 - 1)] = 0
    """Seed of all randomness."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps; auto is cuda, else mps, else cpu."""


@dataclass(frozen=True)
class DetectConfig:
    """The detections that are made of the network's outputs."""

    score_threshold: Annotated[float, between(0, 1)] = 0.05
    """Score that a detection must exceed. Paper, section 4.1."""
    top_k: Annotated[int, between(1, 1_000_000)] = 1000
    """Largest number of boxes per level that are decoded. Paper, section 4.1."""
    nms_iou: Annotated[float, between(0, 1)] = 0.5
    """IoU above which the lower-scored of two boxes of a class is suppressed. Paper, section 4.1."""
    clip_first: bool = True
    """Whether boxes are cut to the image before the suppression, as in torchvision, or after it, as in detectron2."""
    max_detections: Annotated[int, between(1, 100_000)] = 100
    """Largest number of detections per image. COCO."""


@dataclass(frozen=True)
class Config:
    """The whole configuration of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)

    def __post_init__(self) -> None:
        val = self.data.val
        if val is not None and val.fraction is not None and val.seed is None:
            # here, so that whoever changes train.seed of a config keeps its images
            data = replace(self.data, val=replace(val, seed=self.train.seed))
            object.__setattr__(self, "data", data)
