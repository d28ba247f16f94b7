"""Transforms of a `Sample`: each returns a new one with matching boxes; randomness comes only from `rng`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from retinanet.config.schema import AugmentConfig, DataConfig
from retinanet.data.dataset import Sample

CROP_TRIES = 10
PAD_MULTIPLE = 32  # C5's stride
PIXEL_BYTES = 200  # memory that ResNet-50 takes per pixel of an image in fp32, measured from 2048 to 4096 pixels a side
MUCH_MEMORY = 2**32  # bytes; an image of the paper's size takes a twentieth of it


@dataclass(frozen=True)
class Resizing:
    """How images are resized.

    short_side: pixels of the short side, or fewer if the long side would exceed `long_side` pixels.
    method: opencv, linear on uint8; pil, bilinear with anti-aliasing on uint8, as detectron2; float, bilinear to
        float32 without rounding, as torchvision; float_opencv, the same within 0.03 of 255, without torch.
    """

    short_side: int = DataConfig.short_side
    long_side: int = DataConfig.long_side
    method: Literal["opencv", "pil", "float", "float_opencv"] = "opencv"

    @classmethod
    def from_config(cls, data: DataConfig) -> "Resizing":
        return cls(data.short_side, data.long_side, data.resize)


def training_resizings(data: DataConfig, augmentation: AugmentConfig) -> tuple[Resizing, ...]:
    """One for each short side of multi-scale training, else a single one."""
    short_sides = augmentation.short_sides or (data.short_side,)
    return tuple(Resizing(short_side, data.long_side, data.resize) for short_side in short_sides)


def resize(sample: Sample, resizing: Resizing) -> Sample:
    """Scale the image and its boxes, each axis by the ratio of its rounded side."""
    height, width = sample.image.shape[:2]
    new_height, new_width = resized_size((height, width), resizing)
    if (new_height, new_width) == (height, width):
        return sample
    pixels = sample.image.astype(np.float32) if resizing.method.startswith("float") else sample.image
    match resizing.method:
        case "opencv" | "float_opencv":
            image = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        case "pil":
            image = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BILINEAR))
        case "float":
            import torch
            import torch.nn.functional as F

            tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, 3, H, W)
            scaled = F.interpolate(tensor, (new_height, new_width), mode="bilinear", align_corners=False)
            image = scaled[0].permute(1, 2, 0).numpy()
    ratios = np.array([new_width / width, new_height / height] * 2)
    return replace(sample, image=image, boxes=(sample.boxes * ratios).astype(np.float32))


def resized_size(size: tuple[int, int], resizing: Resizing) -> tuple[int, int]:
    """(height, width) in pixels after the `resize` of an image of `size` (height, width).

    Sides are rounded half up as in detectron2, or down with the float methods as in torchvision.
    """
    scale = min(resizing.short_side / min(size), resizing.long_side / max(size))
    rounding = 0.0 if resizing.method.startswith("float") else 0.5
    height, width = (max(1, int(side * scale + rounding)) for side in size)
    return height, width


def memory_warning(data: DataConfig, path: str | Path) -> str | None:
    """A warning if the detector of `path` makes its images so large that one takes `MUCH_MEMORY`, else None."""
    short, long = min(data.short_side, data.long_side), data.long_side
    needed = short * long * PIXEL_BYTES
    if needed < MUCH_MEMORY:
        return None
    return f"warning: {path}: resizes images to up to {short} x {long} pixels; one takes about {needed / 2**30:.1f} GiB"


def padded(side: Any) -> Any:
    """A side in pixels, or an array of sides, rounded up to a multiple of 32."""
    return -(-side // PAD_MULTIPLE) * PAD_MULTIPLE


def pad(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """B images (H_i, W_i, 3) in one array, padded with zeros at the right and bottom.

    Returns: (B, H, W, 3) uint8, or float32 if an image is, H and W multiples of 32; (B, 2) int64 unpadded sizes.
    """
    sizes = np.array([image.shape[:2] for image in images], np.int64)
    height, width = (padded(side) for side in sizes.max(axis=0).tolist())
    together = np.zeros((len(images), height, width, 3), np.result_type(*images))
    for target, image, (h, w) in zip(together, images, sizes.tolist(), strict=True):
        target[:h, :w] = image
    return together, sizes


def flip(sample: Sample, axis: Literal[0, 1]) -> Sample:
    """Mirror top and bottom (axis 0 of the image), or left and right (axis 1)."""
    boxes = sample.boxes.copy()
    low, high = (0, 2) if axis == 1 else (1, 3)  # columns of xyxy
    boxes[:, [low, high]] = sample.image.shape[axis] - boxes[:, [high, low]]
    return replace(sample, image=cv2.flip(sample.image, axis), boxes=boxes)


def photometric(sample: Sample, rng: np.random.Generator, strength: float) -> Sample:
    """Change brightness, contrast, saturation and hue at random.

    The ranges at `strength` 1 are those of SSD (Liu et al. 2016): brightness +-32 of 255, contrast and saturation 0.5
    to 1.5, hue +-36 degrees. Strength 0 changes nothing.
    """
    if strength == 0:
        return sample
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4) * strength * (32, 0.5, 0.5, 18)
    levels = np.arange(256)
    exposed = cv2.LUT(sample.image, _table(levels * (1 + contrast) + brightness))
    # in 8 bits OpenCV's hue has steps of two degrees, 0 to 179
    channels = [_table((levels + round(hue)) % 180), _table(levels * (1 + saturation)), _table(levels)]
    hsv = cv2.LUT(cv2.cvtColor(exposed, cv2.COLOR_RGB2HSV), np.stack(channels, axis=-1)[None])
    return replace(sample, image=cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def random_crop(sample: Sample, rng: np.random.Generator, smallest: float = 0.5, least_visible: float = 0.4) -> Sample:
    """Crop to a rectangle whose sides are `smallest` to 1 of the image's.

    Boxes are clipped, and objects outside the crop dropped. An object that keeps less than `least_visible` of its area
    becomes a crowd, so that its anchors are ignored. If no crop is found that keeps one of the non-crowd objects, if
    any, the sample is returned unchanged.
    """
    height, width = sample.image.shape[:2]
    x1, y1, x2, y2 = sample.boxes.T
    areas = (x2 - x1) * (y2 - y1)
    for _ in range(CROP_TRIES):
        w, h = np.ceil(rng.uniform(smallest, 1, 2) * (width, height)).astype(int)
        left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
        boxes = np.clip(sample.boxes - np.array([left, top] * 2, np.float32), 0, np.array([w, h] * 2, np.float32))
        visible = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        inside = visible > 0
        crowd = sample.crowd | (visible < least_visible * areas)
        if sample.crowd.all() or (inside & ~crowd).any():
            return replace(
                sample,
                image=np.ascontiguousarray(sample.image[top : top + h, left : left + w]),
                boxes=boxes[inside],
                labels=sample.labels[inside],
                crowd=crowd[inside],
                annotation_ids=sample.annotation_ids[inside],
            )
    return sample


def augment(sample: Sample, rng: np.random.Generator, augmentation: AugmentConfig) -> Sample:
    """Crop, flip and recolour a sample at random."""
    if rng.random() < augmentation.crop:
        sample = random_crop(sample, rng)
    if rng.random() < augmentation.flip:
        sample = flip(sample, axis=1)
    if rng.random() < augmentation.vertical_flip:
        sample = flip(sample, axis=0)
    return photometric(sample, rng, augmentation.jitter)


def _table(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
