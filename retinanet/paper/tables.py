"""The paper's tables 1a to 1d, 2 and 3: what each varies, and what the paper measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from retinanet.config.schema import LOSS_SETTINGS, AnchorConfig, Config, LossConfig
from retinanet.errors import ConfigError

METRICS = ("AP", "AP50", "AP75")
SIZES = ("APs", "APm", "APl")

TABLES = {  # what each varies; the paper trained on COCO at 600 px, all but 1d with ResNet-50
    "1a": "balanced cross entropy with different values of alpha",
    "1b": "focal loss with different values of gamma, each with its best alpha",
    "1c": "number of anchor scales x aspect ratios",
    "1d": "OHEM and random sampling compared with the focal loss; the paper used ResNet-101",
    "3": "the variant FL* (focal_star-gamma-beta) compared with cross entropy and the focal loss",
    "prior": "the score of every anchor at the start (none: 0.5), with cross entropy and (focal-) the focal loss",
    "2": "RetinaNet compared with two-stage and one-stage detectors; the paper used ResNet-101 and COCO test-dev",
    "causes": "cross entropy or focal loss, without or with the top-down pyramid, 1 or 9 anchors per cell",
}

# value -> AP, AP50, AP75 in percent, as printed in the paper; None: the run diverged, or the paper gives no number
PAPER: dict[str, dict[str, tuple[float | None, ...]]] = {
    "1a": {
        "0.1": (0.0, 0.0, 0.0),
        "0.25": (10.8, 16.0, 11.7),
        "0.5": (30.2, 46.7, 32.8),
        "0.75": (31.1, 49.4, 33.0),
        "0.9": (30.8, 49.7, 32.3),
        "0.99": (28.7, 47.4, 29.9),
        "0.999": (25.1, 41.7, 26.1),
    },
    "1b": {
        "0": (31.1, 49.4, 33.0),
        "0.1": (31.4, 49.9, 33.1),
        "0.2": (31.9, 50.7, 33.4),
        "0.5": (32.9, 51.7, 35.2),
        "1": (33.7, 52.0, 36.2),
        "2": (34.0, 52.5, 36.5),
        "5": (32.2, 49.6, 34.8),
    },
    "1c": {
        "1x1": (30.3, 49.0, 31.8),
        "2x1": (31.9, 50.0, 34.0),
        "3x1": (31.8, 49.4, 33.7),
        "1x3": (32.4, 52.3, 33.9),
        "2x3": (34.2, 53.1, 36.5),
        "3x3": (34.0, 52.5, 36.5),
        "4x3": (33.8, 52.1, 36.2),
    },
    "1d": {
        "ohem-128-0.7": (31.1, 47.2, 33.2),
        "ohem-256-0.7": (31.8, 48.8, 33.9),
        "ohem-512-0.7": (30.6, 47.0, 32.6),
        "ohem-128-0.5": (32.8, 50.3, 35.1),
        "ohem-256-0.5": (31.0, 47.4, 33.0),
        "ohem-512-0.5": (27.6, 42.0, 29.2),
        "ohem_1_3-128-0.5": (31.1, 47.2, 33.2),
        "ohem_1_3-256-0.5": (28.3, 42.4, 30.3),
        "ohem_1_3-512-0.5": (24.0, 35.5, 25.8),
        "sampled-256": (None, None, None),  # not in the paper: the ratio 1:3 without mining
        "focal": (36.0, 54.9, 38.7),
    },
    "3": {
        "balanced_ce": (31.1, 49.4, 33.0),  # alpha 0.75, as the best row of table 1a
        "focal": (34.0, 52.5, 36.5),
        "focal_star-2-1": (33.8, 52.7, 36.3),
        "focal_star-4-0": (33.9, 51.8, 36.4),
    },
    "prior": {  # section 5.1; "none" diverged, and the results are insensitive to the exact value
        "none": (None, None, None),
        "0.1": (None, None, None),
        "0.01": (30.2, None, None),
        "0.001": (None, None, None),
        "focal-none": (None, None, None),
        "focal-0.1": (None, None, None),
        "focal-0.01": (34.0, 52.5, 36.5),  # table 1b
        "focal-0.001": (None, None, None),
    },
    "causes": {
        "ce-lateral-1": (None, None, None),
        "ce-lateral-9": (None, None, None),
        "ce-fpn-1": (None, None, None),
        "ce-fpn-9": (30.2, None, None),  # section 5.1
        "focal-lateral-1": (None, None, None),
        "focal-lateral-9": (None, None, None),
        "focal-fpn-1": (30.3, 49.0, 31.8),  # table 1c
        "focal-fpn-9": (34.0, 52.5, 36.5),  # table 1b
    },
    "2": {
        "focal": (39.1, 59.1, 42.3),
        "ce": (None, None, None),
        "faster-rcnn": (36.2, 59.1, 39.0),
        "ssd": (31.2, 50.4, 33.3),  # SSD513
    },
}
PAPER_BY_SIZE: dict[str, tuple[float, float, float]] = {  # of table 2: value -> APs, APm, APl in percent
    "focal": (21.8, 42.7, 50.2),
    "faster-rcnn": (18.2, 39.0, 48.2),
    "ssd": (10.2, 34.5, 49.8),
}


@dataclass(frozen=True)
class Row:
    """A row of a table: the config and the detector to train, its value as in PAPER, and the name of the run's folder.

    Rows of two tables that train the same share a folder, except those of table causes.
    """

    table: str
    value: str
    folder: str
    config: Config
    detector: Literal["retinanet", "faster-rcnn", "ssd"] = "retinanet"


def make_row(config: Config, table: str, value: str) -> Row:
    """The row of `table` with `value`.

    Raises: ConfigError for a value that the table cannot have, or settings of `config` that table 2 cannot have.
    """
    try:
        match table:
            case "1a":
                alpha = _within(float(value), 0, 1)
                value = f"{alpha:g}"
                return Row(table, value, f"balanced_ce-alpha-{value}", _with_loss(config, "balanced_ce", alpha=alpha))
            case "1b":
                gamma = _within(float(value), 0, 100)
                value = f"{gamma:g}"
                return Row(table, value, f"focal-gamma-{value}", _with_loss(config, "focal", gamma=gamma))
            case "1c":
                scales, ratios = (int(part) for part in value.split("x"))
                return Row(
                    table, f"{scales}x{ratios}", f"anchors-{scales}x{ratios}", _with_anchors(config, scales, ratios)
                )
            case "1d" | "3" if value == "focal":
                return Row(table, value, "focal-gamma-2", _with_loss(config, "focal", gamma=2.0))
            case "1d" if value.startswith("sampled-"):
                count = _within(int(value.removeprefix("sampled-")), 1, 1_000_000)
                return Row(table, f"sampled-{count}", f"sampled-{count}", _with_loss(config, "sampled", count=count))
            case "1d":
                name, number, iou = value.split("-")
                name = {"ohem": "ohem", "ohem_1_3": "ohem_1_3"}[name]
                count, nms_iou = _within(int(number), 1, 1_000_000), _within(float(iou), 0, 1)
                value = f"{name}-{count}-{nms_iou:g}"
                return Row(table, value, value, _with_loss(config, name, count=count, nms_iou=nms_iou))
            case "2":
                return _detector_row(config, value)
            case "3" if value == "balanced_ce":
                return Row(table, value, "balanced_ce-alpha-0.75", _with_loss(config, "balanced_ce", alpha=0.75))
            case "3":
                name, gamma, shift = value.split("-", 2)  # beta may be negative
                name = {"focal_star": "focal_star"}[name]
                settings = {"gamma": _within(float(gamma), 1e-6, 100), "shift": _within(float(shift), -100, 100)}
                value = f"{name}-{settings['gamma']:g}-{settings['shift']:g}"
                return Row(table, value, value, _with_loss(config, name, **settings))
            case "causes":
                return _causes_row(config, value)
            case _:
                assert table == "prior"
                return _prior_row(config, value)
    except (ValueError, KeyError):
        raise ConfigError(f"table {table} has no row {value!r}; expected one like {', '.join(PAPER[table])}") from None


def make_rows(config: Config, table: str, values: Sequence[str] | None = None) -> list[Row]:
    """The rows of `table` with `values`; None: the paper's rows."""
    return [make_row(config, table, value) for value in values or PAPER[table]]


def _detector_row(config: Config, value: str) -> Row:
    """The row of table 2 with `value`, where all else is equal between the detectors.

    Raises: KeyError for another value; ConfigError for settings that only RetinaNet has.
    """
    if config.train.init is not None:
        raise ConfigError("train.init is set, but only RetinaNet can start from a checkpoint; table 2 needs null")
    if config.train.compile:
        raise ConfigError("train.compile is true, but only RetinaNet is compiled; table 2 needs false")
    if config.model.pyramid != "fpn":
        raise ConfigError("model.pyramid is lateral, but only RetinaNet has such a pyramid; table 2 needs fpn")
    # the loss of the others is torchvision's
    others = replace(config, loss=LossConfig())
    return {
        "focal": Row("2", "focal", "focal-gamma-2", _with_loss(config, "focal", gamma=2.0)),
        "ce": replace(make_row(config, "prior", "0.01"), table="2", value="ce"),
        "faster-rcnn": Row("2", "faster-rcnn", "faster-rcnn", others, "faster-rcnn"),
        "ssd": Row("2", "ssd", "ssd", others, "ssd"),
    }[value]


def _prior_row(config: Config, value: str) -> Row:
    """The row of table prior with `value`, a prior or "none", of the focal loss after "focal-". Raises: ValueError."""
    text = value.removeprefix("focal-")
    prior = None if text == "none" else _within(float(text), 1e-6, 0.5)
    name = "none" if prior is None else f"{prior:g}"
    changed = replace(config, model=replace(config.model, prior=prior))
    if text == value:
        return Row("prior", name, f"ce-prior-{name}", _with_loss(changed, "ce"))
    folder = "focal-gamma-2" if prior == config.model.prior else f"focal-prior-{name}"
    return Row("prior", f"focal-{name}", folder, _with_loss(changed, "focal", gamma=2.0))


def _causes_row(config: Config, value: str) -> Row:
    """The row of table causes with `value`. Raises: ValueError, KeyError."""
    loss, pyramid, per_cell = value.split("-")
    settings = {"ce": {}, "focal": {"gamma": 2.0}}[loss]
    names: dict[str, Literal["fpn", "lateral"]] = {"fpn": "fpn", "lateral": "lateral"}
    changed = replace(config, model=replace(config.model, pyramid=names[pyramid]))
    changed = _with_anchors(changed, *{"1": (1, 1), "9": (3, 3)}[per_cell])
    return Row("causes", value, f"causes-{value}", _with_loss(changed, loss, **settings))


def _with_anchors(config: Config, scales: int, ratios: int) -> Config:
    """Raises: ValueError, KeyError for a number that table 1c cannot have."""
    chosen = {1: (1.0,), 3: (0.5, 1.0, 2.0)}[ratios]
    return replace(config, anchors=replace(config.anchors, scales=_scales(scales), ratios=chosen))


def _with_loss(config: Config, classification: Any, **settings: Any) -> Config:
    unset: dict[str, Any] = dict.fromkeys(LOSS_SETTINGS)
    return replace(config, loss=replace(config.loss, classification=classification, **unset | settings))


def _scales(count: int) -> tuple[float, ...]:
    """`count` scales within one octave (paper, section 5.2)."""
    if count == len(AnchorConfig().scales):
        return AnchorConfig().scales
    return tuple(2 ** (k / count) for k in range(int(_within(count, 1, 16))))


def _within(value: float, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise ValueError
    return value
