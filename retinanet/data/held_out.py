"""Validation images that are held out of the training split, for data sets without a split of their own."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from retinanet.config.schema import Config, DataConfig, SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.build import RawColumns
from retinanet.errors import DataError

ENCODING = ("utf-8", "surrogateescape")  # of names on a disk


def part_of(raw: RawColumns, val: SplitConfig | None, split: str) -> RawColumns:
    """The images of `raw` that are in the split "train" or "val"; all of them if `val` has no fraction.

    Raises: DataError if there are fewer than two images, or if the fingerprint is not that of the held-out images.
    """
    if val is None or val.fraction is None:
        return raw
    if len(raw.files) < 2:
        raise DataError(f"{raw.source}: data.val holds out {val.fraction:g} of {len(raw.files)} images; expected two")
    held = held_out(raw, val.fraction, val.seed or 0)
    if val.fingerprint is not None and val.fingerprint != _hash_of(raw.files[i] for i in np.flatnonzero(held).tolist()):
        raise DataError(
            f"{raw.source}: the images or classes of data.train have changed since the run, so that other images would "
            "be held out than then (data.val.fingerprint); restore them, or evaluate other data with --data CONFIG"
        )
    return _take(raw, np.flatnonzero(held == (split == "val")))


def held_out(raw: RawColumns, fraction: float, seed: int) -> np.ndarray:
    """(N,) bool, which of the images are held out: about `fraction` of the images of each class, exactly of all.

    The choice depends on the seed, the names of the images and their classes, not on the order of either.
    """
    n = len(raw.files)
    rank = np.empty(n, np.int64)
    rank[sorted(range(n), key=lambda i: hashlib.sha256(f"{seed} {raw.files[i]}".encode(*ENCODING)).digest())] = range(n)
    pairs = np.unique(raw.labels.astype(np.int64) * n + raw.image_index)
    labels, images = pairs // n, pairs % n
    of_class = np.split(images, np.searchsorted(labels, np.arange(1, len(raw.names))))
    order = sorted(range(len(raw.names)), key=lambda label: (len(of_class[label]), raw.names[label]))

    held, decided = np.zeros(n, bool), np.zeros(n, bool)
    for group in [of_class[label] for label in order] + [np.setdiff1d(np.arange(n), images)]:  # the rarest class first
        free = group[~decided[group]]
        wanted = _nearest(fraction * len(group)) - int(held[group].sum())
        held[free[np.argsort(rank[free])][: max(0, wanted)]] = True
        decided[free] = True
    excess = int(held.sum()) - min(max(1, _nearest(fraction * n)), n - 1)
    if excess:
        side = np.flatnonzero(held == (excess > 0))
        # images whose classes have most other images on their side change it
        counts = np.bincount(labels[np.isin(images, side)], minlength=len(raw.names))
        rarest = np.full(n, n)
        np.minimum.at(rarest, images, counts[labels])
        held[side[np.lexsort((rank[side], -rarest[side]))][: abs(excess)]] = excess < 0
    return held


def with_fingerprint(config: Config, val: Dataset | None) -> Config:
    """`config` with the fingerprint of the images `val` if they are held out from training."""
    data: DataConfig = config.data
    if val is None or data.val is None or data.val.fraction is None:
        return config
    names = (val.files[index] for index in range(len(val)))
    return replace(config, data=replace(data, val=replace(data.val, fingerprint=_hash_of(names))))


def _hash_of(names: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(sorted(names)).encode(*ENCODING)).hexdigest()[:16]


def _nearest(number: float) -> int:
    return math.floor(number + 0.5)


def _take(raw: RawColumns, indices: np.ndarray) -> RawColumns:
    """The images `indices` with their objects."""
    new = np.full(len(raw.files), -1)
    new[indices] = np.arange(len(indices))
    rows = np.flatnonzero(new[raw.image_index] >= 0)
    return replace(
        raw,
        files=[raw.files[index] for index in indices.tolist()],
        label_files=raw.label_files and [raw.label_files[index] for index in indices.tolist()],
        image_ids=raw.image_ids[indices],
        sizes=raw.sizes[indices],
        image_index=new[raw.image_index[rows]],
        boxes=raw.boxes[rows],
        areas=raw.areas[rows],
        labels=raw.labels[rows],
        crowd=raw.crowd[rows],
        annotation_ids=raw.annotation_ids[rows],
    )
