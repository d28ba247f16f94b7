"""The order of the images, padded batches, and loading that is the same with any number of workers."""

import copy
import dataclasses
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from retinanet.config.schema import AugmentConfig
from retinanet.data.dataset import Dataset, Sample
from retinanet.data.loader import batch_loader, collate, eval_loader, workers_note
from retinanet.data.sampler import AspectRatioBatchSampler
from retinanet.data.shapes import open_shapes
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples, TrainSamples
from retinanet.errors import ConfigError, DataError

WIDE, TALL = [100, 200], [200, 100]
MIXED = np.array([WIDE, TALL, TALL] * 17)  # 51 images


@pytest.fixture(scope="module")
def val():
    return open_shapes("val")


def batches(order: AspectRatioBatchSampler, epoch: int = 0, start: int = 0) -> list[list[tuple[int, int]]]:
    order.epoch, order.start = epoch, start
    return list(order)


def indices(some) -> list[int]:
    return [index for batch in some for _, index in batch]


def test_the_order_is_a_function_of_seed_and_epoch():
    order = AspectRatioBatchSampler(MIXED, 4, seed=3)
    first = batches(order, 0)
    assert batches(AspectRatioBatchSampler(MIXED, 4, seed=3), 0) == first
    second = batches(order, 1)
    assert indices(second) != indices(first) != indices(batches(AspectRatioBatchSampler(MIXED, 4, seed=4), 0))
    assert {epoch for batch in second for epoch, _ in batch} == {1}
    assert batches(order, 0) == first  # whatever came between


@pytest.mark.parametrize("batch_size", [1, 4, 51])
def test_an_epoch_repeats_no_image_and_leaves_out_less_than_a_batch(batch_size):
    order = AspectRatioBatchSampler(MIXED, batch_size, seed=0)
    drawn = indices(batches(order))
    assert len(drawn) == len(set(drawn)) == len(order) * batch_size > 51 - batch_size
    assert all(len(batch) == batch_size for batch in batches(order))


def test_a_batch_larger_than_the_data_is_all_of_it():
    order = AspectRatioBatchSampler(MIXED, 64, seed=0)
    assert (len(order), order.batch_size) == (1, 51)
    assert sorted(indices(batches(order))) == list(range(51))


def test_every_image_is_drawn_within_a_few_epochs():
    order = AspectRatioBatchSampler(MIXED, 16, seed=0)  # three images are left out of each
    drawn = {index for epoch in range(10) for index in indices(batches(order, epoch))}
    assert drawn == set(range(51))


def test_the_images_left_out_are_of_either_aspect():
    order = AspectRatioBatchSampler(MIXED, 16, seed=0)
    left_out = {index for epoch in range(10) for index in set(range(51)) - set(indices(batches(order, epoch)))}
    assert {bool(order.wide[index]) for index in left_out} == {True, False}


@pytest.mark.parametrize("seed", range(10))
def test_nearly_all_batches_hold_one_aspect(seed):
    order = AspectRatioBatchSampler(MIXED, 4, seed)
    aspects = [{bool(order.wide[index]) for _, index in batch} for batch in batches(order)]
    assert sum(len(aspect) == 2 for aspect in aspects) <= 2  # at the two borders between wide and tall
    assert sum(before != after for before, after in pairwise(aspects)) > 3  # and they take turns


def test_a_position_continues_where_it_stopped():
    order = AspectRatioBatchSampler(MIXED, 4, seed=0)
    whole = batches(order, epoch=2)
    assert [batches(order, epoch=2, start=start) for start in (0, 5, 12)] == [whole, whole[5:], []]


def test_processes_share_each_batch_of_a_single_one():
    whole = batches(AspectRatioBatchSampler(MIXED, 12, seed=0))
    parts = [batches(AspectRatioBatchSampler(MIXED, 12, seed=0, rank=rank, world=3)) for rank in range(3)]
    assert [[len(batch) for batch in part] for part in parts] == [[4] * len(whole)] * 3
    assert [sum(equal_parts, []) for equal_parts in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize(
    ("images", "batch_size", "world", "message"),
    [
        (51, 16, 3, "a batch of 16 images cannot be divided among 3 processes; set train.batch_size to 15 or 18"),
        (51, 2, 4, "a batch of 2 images cannot be divided among 4 processes; set train.batch_size to 4"),
        (5, 16, 2, "a batch of 5 images cannot be divided among 2 processes; set train.batch_size to 4"),
        (3, 16, 4, "4 processes need at least 4 training images; the data set has 3"),
    ],
)
def test_a_batch_that_does_not_divide_names_the_nearest_sizes_that_do(images, batch_size, world, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        AspectRatioBatchSampler(MIXED[:images], batch_size, seed=0, world=world)


def sample(height: int, width: int, objects: int, image_id: int = 0) -> Sample:
    rng = np.random.default_rng([height, width])
    return Sample(
        image=rng.integers(1, 256, (height, width, 3), dtype=np.uint8),
        boxes=rng.random((objects, 4), np.float32),
        labels=np.arange(objects),
        crowd=np.arange(objects) % 2 == 1,
        annotation_ids=np.arange(objects),
        image_id=image_id,
        original_size=(2 * height, 2 * width),
        file=f"{image_id}.jpg",
    )


def test_collate_pads_with_zeros_to_multiples_of_32():
    samples = [sample(33, 20, 3, 7), sample(16, 64, 0, 8)]
    batch = collate([(samples[0], ["a fault"]), (samples[1], [])])
    assert batch.images.shape == (2, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.sizes.tolist() == [[33, 20], [16, 64]] and batch.sizes.dtype == torch.int64
    for image, one in zip(batch.images, samples, strict=True):
        height, width = one.image.shape[:2]
        np.testing.assert_array_equal(image[:, :height, :width].permute(1, 2, 0), one.image)
        assert int(image.count_nonzero()) == 3 * height * width
    assert [tuple(boxes.shape) for boxes in batch.boxes] == [(3, 4), (0, 4)]
    assert [(b.dtype, x.dtype, c.dtype) for b, x, c in zip(batch.boxes, batch.labels, batch.crowd, strict=True)] == [
        (torch.float32, torch.int64, torch.bool)
    ] * 2
    assert batch.crowd[0].tolist() == [False, True, False]
    assert [(s.image_id, s.original_size, s.file) for s in batch.samples] == [
        (7, (66, 40), "7.jpg"),
        (8, (32, 128), "8.jpg"),
    ]
    assert batch.faults == ["a fault"]


def test_samples_of_a_batch_keep_no_pixels_alive():
    [kept] = collate([(sample(33, 20, 1), [])]).samples
    assert kept.image.size == 0 and kept.image.base is None


@pytest.mark.parametrize("side", [32, 64])
def test_a_size_that_needs_no_padding_gets_none(side):
    assert collate([(sample(side, side, 1), [])]).images.shape == (1, 3, side, side)


AUGMENTED = AugmentConfig(flip=0.5, vertical_flip=0.5, jitter=0.5, crop=0.5)
MANY_SIZES = [Resizing(short_side, 128) for short_side in (64, 96, 128)]


def content(batch):
    boxes = [boxes.tolist() for boxes in batch.boxes]
    return (
        batch.images.numpy().tobytes(),
        batch.sizes.tolist(),
        boxes,
        [(s.image_id, s.key) for s in batch.samples],
        batch.faults,
    )


def test_workers_change_nothing(val):
    def loaded(workers):
        order = AspectRatioBatchSampler(val.sizes, 4, seed=1)
        order.epoch, order.start = 3, 70  # the last five batches
        return [content(b) for b in batch_loader(TrainSamples(val, MANY_SIZES, AUGMENTED, seed=1), order, workers)]

    alone = loaded(0)
    assert len(alone) == 5
    assert len({str(sizes) for _, sizes, *_ in alone}) > 1  # chance was at work
    assert loaded(2) == alone


@pytest.mark.parametrize(
    ("workers", "cores", "told"),
    [
        (2, 1, []),  # the default
        (8, 8, []),
        (9, 8, ["warning: data.workers is 9 on 8 cores; fewer take less memory and are seldom slower"]),
        (256, 1, ["warning: data.workers is 256 on 1 core; fewer take less memory and are seldom slower"]),
    ],
)
def test_more_workers_than_cores_are_told_once_in_our_words(val, monkeypatch, workers, cores, told):
    monkeypatch.setattr("retinanet.data.loader.usable_cores", lambda: cores)
    assert workers_note(workers) == told
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch_loader(EvalSamples(val, MANY_SIZES[0]), [[0]], workers)


def test_chance_is_that_of_seed_epoch_and_image(val):
    view = TrainSamples(val, MANY_SIZES, AUGMENTED, seed=1)
    first, key = view[0, 5][0].image.tobytes(), view[0, 5][0].key
    others = view[0, 6][0], view[1, 5][0], TrainSamples(val, MANY_SIZES, AUGMENTED, seed=2)[0, 5][0]
    assert view[0, 5][0].image.tobytes() == first and view[0, 5][0].key == key
    assert all(sample.image.tobytes() != first for sample in others)
    assert len({key, *(sample.key for sample in others)}) == 4


def torn(dataset: Dataset, *broken: int) -> Dataset:
    """The data set with images that cannot be read."""
    copied = copy.copy(dataset)

    def image(index: int) -> np.ndarray:
        if index in broken:
            raise DataError(f"{dataset.files[index]}: cannot be read")
        return dataset.image(index)

    copied.image = image
    return copied


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_replaced_by_the_next_and_reported(val, workers):
    view = TrainSamples(torn(val, 3, 4, 299), [Resizing(64, 64)], AugmentConfig(flip=0), seed=0)
    [batch] = batch_loader(view, [[(0, 2), (0, 3), (0, 299)]], workers)
    assert [s.image_id for s in batch.samples] == [2, 5, 0]
    assert torch.equal(batch.images[1], torch.from_numpy(view[0, 5][0].image).permute(2, 0, 1))
    assert len(batch.boxes[1]) == np.diff(val.first_object)[5]
    assert batch.faults == [f"shapes-val-{i:05}.png: cannot be read" for i in (3, 4, 299)]


@pytest.mark.parametrize("workers", [0, 1])
def test_without_a_readable_image_training_ends_in_one_line(val, workers):
    view = TrainSamples(torn(val, *range(300)), [Resizing(64, 64)], AugmentConfig(), seed=0)
    with pytest.raises(DataError) as error:
        list(batch_loader(view, [[(0, 7)]], workers))
    first = "shapes-val-00007.png: cannot be read"
    assert str(error.value) == f"none of the 300 training images can be read; the first: {first}"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_sees_an_unreadable_image_as_a_blank_one_and_reports_it(val, workers):
    some = dataclasses.replace(val, image_ids=val.image_ids[:3], sizes=val.sizes[:3])
    [batch] = eval_loader(EvalSamples(torn(some, 1), Resizing(64, 64)), 3, workers)
    assert batch.faults == ["shapes-val-00001.png: cannot be read"]
    assert [s.image_id for s in batch.samples] == [0, 1, 2]
    assert [s.original_size for s in batch.samples] == [(128, 128), (0, 0), (128, 128)]
    assert [len(boxes) > 0 for boxes in batch.boxes] == [True, False, True]
    assert not batch.images[1].any() and batch.images[0].any() and batch.images[2].any()


def test_an_evaluation_sees_every_image_once_with_like_shapes_together(val):
    sizes = np.array([[128, 128 + 10 * (i * 7 % 30)] for i in range(60)], np.int32)
    some = dataclasses.replace(val, sizes=sizes, image_ids=val.image_ids[:60])
    seen = [[s.image_id for s in batch.samples] for batch in eval_loader(EvalSamples(some, Resizing(32, 32)), 8, 0)]
    assert sorted(sum(seen, [])) == list(range(60)) and [len(ids) for ids in seen] == [8] * 7 + [4]
    assert max(np.ptp(sizes[ids, 1]) for ids in seen) <= 40  # of 290
