"""A config for a data set that nobody has described yet: its splits, an image size and anchors that fit it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from retinanet.config.schema import AnchorConfig, DataConfig, SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.layouts import files_text, splits_in, undivided
from retinanet.data.formats.recognise import open_split
from retinanet.data.transforms import Resizing
from retinanet.dataset_analysis.anchor_coverage import resized_objects
from retinanet.dataset_analysis.anchor_search import SearchResult, search_anchors
from retinanet.errors import DataError, Faults
from retinanet.messages import printable

TRAIN_NAMES = ("train", "trainval", "training", "train2017", "default")
VAL_NAMES = ("val", "valid", "validation", "dev", "val2017", "test")
NAMED = 10  # classes that the comment lists
STEP = 32  # pixels
WORTHWHILE = 0.01  # gain in coverage for which the paper's anchors are replaced
SMALLEST_SIDE = 256  # pixels: P7 has 2 cells there
LONG_OVER_SHORT = DataConfig.long_side / DataConfig.short_side


@dataclass(frozen=True)
class StartingConfig:
    """What `describe` finds in a folder.

    splits: the data set of each split that can be read, by name. train, val: names of the splits to use; val is None if
    there is none for it. files: of `train`, where the data set has no splits; else None.
    median_side: of the images' short sides, in pixels.
    search: for anchors that cover the objects better than the paper's.
    """

    folder: Path
    splits: dict[str, Dataset]
    train: str
    val: str | None
    files: SplitConfig | None
    median_side: float
    resizing: Resizing
    search: SearchResult


def describe(folder: Path, progress: Callable[[int, int], object] = lambda done, total: None) -> StartingConfig:
    """The splits of the data set in `folder`, and the settings that fit it.

    progress: receives the numbers of sets of anchors that were tried so far and in all.
    Raises: DataError if no split is recognised, or if the training split has no object.
    """
    if not folder.is_dir():
        wrong = "is a file, expected the folder of a data set" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {wrong}")
    splits, files = _open_splits(folder)
    train = next((name for name in TRAIN_NAMES if name in splits), next(iter(splits)))
    val = next((name for name in VAL_NAMES if name in splits and name != train), None)
    median = float(np.median(splits[train].sizes.min(axis=1)))
    # a multiple of 32, to which images are padded; at most the paper's 800 pixels, since more adds no detail
    short = int(np.clip(round(median / STEP) * STEP, SMALLEST_SIDE, DataConfig.short_side))
    resizing = Resizing(short, round(short * LONG_OVER_SHORT))
    search = search_anchors(resized_objects(splits[train], [resizing]), AnchorConfig(), progress=progress)
    return StartingConfig(folder, splits, train, val, files, median, resizing, search)


def _open_splits(folder: Path) -> tuple[dict[str, Dataset], SplitConfig | None]:
    """The splits of `folder` that can be read, those to train on first; the files of a nameless one."""
    found = splits_in(folder)
    usual = [name for name in (*TRAIN_NAMES, *VAL_NAMES) if name in found]
    splits, faults = {}, Faults()
    for name in dict.fromkeys([*usual, *found]):
        with faults:
            splits[name] = open_split(folder, SplitConfig(name=name))
    if splits:
        return splits, None
    if files := undivided(folder):
        return {files_text(files): open_split(folder, files)}, files
    faults.raise_if_any()
    return {TRAIN_NAMES[0]: open_split(folder, SplitConfig(name=TRAIN_NAMES[0]))}, None


def starting_yaml(found: StartingConfig, root: str) -> str:
    """The text of a YAML file with comments. root: the folder of the data, relative to the file's own."""
    train = found.splits[found.train]
    names = printable(", ".join(train.classes[:NAMED])) + ", ..." * (len(train.classes) > NAMED)
    first = files_text(found.files) if found.files else _text(found.train)
    val = f"val: {_text(found.val)}" if found.val else "val: 0.2  # a fifth of the training images, held out"
    return f"""\
# Written by `retina init`; `retina config` explains the keys.
data:
  root: {_text(root)}
  train: {first}  # {len(train):,} images, {len(train.labels):,} objects
  {val}
  # {len(train.classes)} classes: {names}
  # the images' median short side has {found.median_side:g} pixels; the paper resizes it to {DataConfig.short_side}
  short_side: {found.resizing.short_side}
  long_side: {found.resizing.long_side}
# a small network, which trains on a CPU too; without this line, the paper's with ResNet-50
model: {{backbone: efficientnet_lite0, fpn_channels: 128, head_channels: 128}}
{_anchors(found.search)}
train: {{epochs: 30, batch_size: 4, optimizer: adamw, schedule: cosine, clip_norm: 1.0, precision: auto}}
"""


def _anchors(search: SearchResult) -> str:
    """The block `anchors`, or a comment where the paper's are the best."""
    iou = f"of the objects have an anchor of IoU >= {AnchorConfig.foreground_iou:g}"
    if search.after.coverage - search.before.coverage < WORTHWHILE:
        return f"# the paper's anchors fit: {search.before.coverage:.1%} {iou}"
    lines = [f"# {search.after.coverage:.1%} {iou}; with the paper's anchors, {search.before.coverage:.1%}", "anchors:"]
    for key in ("sizes", "scales", "ratios"):
        lines.append(f"  {key}: [{', '.join(f'{value:g}' for value in getattr(search.anchors, key))}]")
    return "\n".join(lines)


def _text(value: str) -> str:
    """`value` as YAML writes it, in quotes where it needs them."""
    return yaml.safe_dump(value, allow_unicode=True, width=10**6).removesuffix("...\n").strip()
