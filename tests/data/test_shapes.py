"""The embedded data set: reproducible pictures, and boxes that fit what is painted."""

import pickle

import numpy as np
import pytest

from retinanet.data.shapes import CLASSES, CORNERS, HUES, open_shapes, paint, pieces
from retinanet.errors import DataError


@pytest.fixture(scope="module")
def val():
    return open_shapes("val")


def test_same_arguments_give_the_same_pictures_in_any_order(val):
    again = pickle.loads(pickle.dumps(open_shapes("val")))
    np.testing.assert_array_equal(again.boxes, val.boxes)
    later = [again.image(index) for index in (7, 3)]
    np.testing.assert_array_equal(later[1], val.image(3))
    np.testing.assert_array_equal(later[0], val.image(7))


def test_another_split_gives_other_pictures(val):
    pictures = [dataset.image(index) for dataset in (val, open_shapes("train")) for index in range(50)]
    assert len({picture.tobytes() for picture in pictures}) == 100


def test_a_split_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="shapes has no split 'extra', expected train, val, test"):
        open_shapes("extra")


def test_samples_keep_the_promised_sizes_and_counts(val):
    assert len(val) == 300
    assert val.files[7] == "shapes-val-00007.png"
    assert val.category_ids == (1, 2, 3, 4, 5, 6)
    assert val[7].image.shape == (128, 128, 3) and val[7].image.dtype == np.uint8
    counts = np.diff(val.first_object)
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert val.boxes[:, :2].min() >= 0 and (val.boxes[:, :2] + val.boxes[:, 2:]).max() <= 128
    assert val.boxes[:, 2:].min() >= 10 and val.boxes[:, 2:].max() <= 64
    assert (np.bincount(val.labels) > 100).all()


def test_neither_form_nor_hue_alone_tells_the_class():
    hues, forms = zip(*(name.split() for name in CLASSES), strict=True)
    assert all(forms.count(form) > 1 for form in CORNERS)
    assert all(hues.count(hue) > 1 for hue in HUES)
    assert len(set(CLASSES)) == len(CLASSES)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_and_areas_fit_the_painted_pixels(seed):
    rng = np.random.default_rng(seed)
    scene = list(pieces(rng))
    for chosen in scene:
        # The same picture with and without the piece differs in the piece's pixels alone.
        state = rng.bit_generator.state
        whole = paint(scene, rng)
        rng.bit_generator.state = state
        without = paint([piece for piece in scene if piece is not chosen], rng)
        rng.bit_generator.state = state
        rows, columns = np.nonzero((whole != without).any(axis=2))
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        # A pixel may by chance have its ground's colour, hence one pixel of tolerance.
        np.testing.assert_allclose(chosen.box, tight, atol=1)
        assert len(rows) == pytest.approx(np.count_nonzero(chosen.visible), rel=0.1)


def test_no_pixel_belongs_to_two_pieces_and_the_front_one_is_an_object():
    for seed in range(50):
        scene = list(pieces(np.random.default_rng(seed)))
        assert np.sum([piece.visible for piece in scene], axis=0).max() == 1
        assert scene[0].label >= 0


def test_an_object_has_its_class_s_hue_in_the_picture(val):
    for index in range(100):
        sample = val[index]
        x1, y1, x2, y2 = sample.boxes[0].astype(int)  # the front one: nothing hides its middle
        cx, cy = (x1 + x2) // 2, (y1 + y2) // 2
        middle = sample.image[cy - 2 : cy + 3, cx - 2 : cx + 3].mean(axis=(0, 1))
        assert list(HUES)[middle.argmax()] == CLASSES[sample.labels[0]].split()[0]
