"""Transforms: boxes follow their pixels, labels follow their boxes, chance follows the generator."""

from dataclasses import replace

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retinanet.config.schema import AugmentConfig
from retinanet.data.dataset import Sample
from retinanet.data.transforms import (
    Resizing,
    augment,
    flip,
    photometric,
    random_crop,
    resize,
)


def blank(height, width, boxes, crowd=None):
    """A black picture on which each box is filled with white; object i has label i and annotation id 10 + i."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes.astype(int):
        image[y1:y2, x1:x2] = 255
    count = len(boxes)
    return Sample(
        image=image,
        boxes=boxes,
        labels=np.arange(count),
        crowd=np.zeros(count, bool) if crowd is None else np.array(crowd),
        annotation_ids=np.arange(10, 10 + count),
        image_id=1,
        original_size=(height, width),
        file="a.png",
    )


def painted(image):
    """Box around the bright pixels."""
    rows, columns = np.nonzero(image.max(axis=2) > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def check(sample):
    height, width = sample.image.shape[:2]
    assert sample.image.dtype == np.uint8 and sample.image.flags.c_contiguous
    assert sample.boxes.dtype == np.float32 and sample.boxes.flags.c_contiguous
    assert (sample.boxes >= 0).all() and (sample.boxes <= [width, height, width, height]).all()
    assert len(sample.boxes) == len(sample.labels) == len(sample.crowd) == len(sample.annotation_ids)
    np.testing.assert_array_equal(sample.annotation_ids, sample.labels + 10)


@st.composite
def one_box(draw):
    height, width = draw(st.integers(20, 150)), draw(st.integers(20, 150))
    x1, y1 = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
    return blank(height, width, [[x1, y1, draw(st.integers(x1 + 8, width)), draw(st.integers(y1 + 8, height))]])


seeds = st.integers(0, 2**32)


@given(one_box(), st.integers(20, 200), st.integers(20, 300))
def test_resize_moves_boxes_with_their_pixels(sample, short_side, long_side):
    out = resize(sample, Resizing(short_side, long_side))
    check(out)
    assert min(out.image.shape[:2]) <= short_side and max(out.image.shape[:2]) <= long_side
    if max(out.image.shape[:2]) / max(sample.image.shape[:2]) > 0.5:  # below, thin boxes fall between the samples
        np.testing.assert_allclose(out.boxes[0], painted(out.image), atol=1)


@given(one_box(), seeds, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 0.5))
def test_augment_moves_boxes_with_their_pixels(sample, seed, horizontal_flip, vertical_flip, crop, jitter):
    augmentation = AugmentConfig(flip=horizontal_flip, vertical_flip=vertical_flip, jitter=jitter, crop=crop)
    out = augment(sample, np.random.default_rng(seed), augmentation)
    check(out)
    np.testing.assert_array_equal(out.boxes[0], painted(out.image))
    assert out.image_id == 1 and out.original_size == sample.original_size


@given(one_box(), seeds)
def test_the_generator_alone_decides(sample, seed):
    def once():
        augmentation = AugmentConfig(flip=0.5, vertical_flip=0.5, jitter=1, crop=0.5)
        return augment(sample, np.random.default_rng(seed), augmentation)

    before = sample.image.copy()
    one, two = once(), once()
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.boxes, two.boxes)
    np.testing.assert_array_equal(sample.image, before)


def test_resize_keeps_each_axis_s_own_ratio():
    out = resize(blank(3, 7, [[0, 0, 7, 3]]), Resizing(4, 100))
    assert out.image.shape == (4, 9, 3)  # 7 * 4 / 3 is 9.33
    np.testing.assert_array_equal(out.boxes, [[0, 0, 9, 4]])


def test_resize_obeys_the_long_side_and_leaves_a_fitting_image_alone():
    sample = blank(480, 640, [])
    assert resize(sample, Resizing(800, 1333)).image.shape == (800, 1067, 3)
    assert resize(sample, Resizing(800, 800)).image.shape == (600, 800, 3)
    assert resize(sample, Resizing(480, 1333)) is sample


def test_flips_mirror_and_undo_themselves():
    sample = blank(10, 20, [[2, 1, 6, 4]])
    np.testing.assert_array_equal(flip(sample, axis=1).boxes, [[14, 1, 18, 4]])
    np.testing.assert_array_equal(flip(sample, axis=0).boxes, [[2, 6, 6, 9]])
    for axis in (0, 1):
        twice = flip(flip(sample, axis), axis)
        np.testing.assert_array_equal(twice.image, sample.image)
        np.testing.assert_array_equal(twice.boxes, sample.boxes)


def test_photometric_changes_more_with_strength_and_nothing_at_zero():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    sample = replace(blank(32, 32, [[2, 2, 8, 8]]), image=noise)

    def change(strength):
        outs = [photometric(sample, np.random.default_rng(seed), strength) for seed in range(20)]
        assert all((out.boxes == sample.boxes).all() for out in outs)
        return np.mean([np.abs(out.image.astype(int) - noise).mean() for out in outs])

    assert change(0) == 0
    assert 0 < change(0.2) < change(1)


def test_photometric_moves_hue_saturation_and_brightness():
    image = np.full((1, 1, 3), (128, 160, 144), np.uint8)  # hue 75, saturation 51, value 160
    sample = replace(blank(1, 1, []), image=image)
    outs = [photometric(sample, np.random.default_rng(seed), 1).image for seed in range(100)]
    hue, saturation, value = np.array([cv2.cvtColor(out, cv2.COLOR_RGB2HSV)[0, 0] for out in outs]).T
    assert 75 - 20 <= hue.min() < 75 - 12 and 75 + 12 < hue.max() <= 75 + 20
    assert saturation.min() < 33 and saturation.max() > 75  # brightness and contrast alone leave it above 36
    assert value.min() < 90 and value.max() > 220


@given(seeds)
def test_a_crop_s_objects_are_kept_ignored_or_dropped_by_what_remains(seed):
    boxes = [[5, 5, 25, 25], [40, 0, 60, 30], [70, 40, 100, 60], [90, 90, 100, 100], [0, 60, 50, 100]]
    sample = blank(100, 100, boxes, crowd=[False, False, False, False, True])
    # The picture itself says where the crop was.
    y, x = np.mgrid[:100, :100]
    sample = replace(sample, image=np.stack([x, y, x], axis=-1).astype(np.uint8))
    out = random_crop(sample, np.random.default_rng(seed))
    check(out)
    left, top = out.image[0, 0, :2].tolist()
    height, width = out.image.shape[:2]
    assert height >= 50 and width >= 50
    expected = {}
    for label, (x1, y1, x2, y2) in enumerate(boxes):
        w = min(x2, left + width) - max(x1, left)
        h = min(y2, top + height) - max(y1, top)
        if w > 0 and h > 0:
            expected[label] = label == 4 or w * h < 0.4 * (x2 - x1) * (y2 - y1)
    assert dict(zip(out.labels.tolist(), out.crowd.tolist(), strict=True)) == expected
    assert not out.crowd.all()


def test_crops_do_all_three():
    sample = blank(100, 100, [[5, 5, 25, 25], [75, 75, 95, 95]])
    outs = [random_crop(sample, np.random.default_rng(seed)) for seed in range(100)]
    assert {tuple(out.labels.tolist()) for out in outs} == {(0,), (1,), (0, 1)}
    assert 0 < sum(out.crowd.any() for out in outs) < 100


def test_a_crop_that_would_lose_the_only_object_is_not_made():
    # At most a quarter of this object can be seen in a crop of half the sides.
    sample = blank(100, 100, [[0, 0, 100, 100]])
    for seed in range(20):
        assert not random_crop(sample, np.random.default_rng(seed)).crowd.any()
    assert random_crop(sample, np.random.default_rng(0), smallest=0.5, least_visible=1.1) is sample


def test_images_without_objects_pass_through_everything():
    augmentation = AugmentConfig(flip=1, vertical_flip=1, jitter=1, crop=1)
    out = augment(blank(50, 60, []), np.random.default_rng(0), augmentation)
    check(resize(out, Resizing(64, 100)))
    assert out.boxes.shape == (0, 4) and out.image.shape != (50, 60, 3)
