"""Drawing of detections: boxes, tags and colours."""

import numpy as np
import pytest

from retinanet.inference.drawing import class_colour, draw_detections

CLASSES = ("cat", "dog")
GREY = np.full((240, 320, 3), 128, np.uint8)


def draw(boxes, labels, scores, image=GREY, classes=CLASSES):
    return draw_detections(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels), scores, classes)


def changed(picture):
    return (picture != GREY).any(axis=2)


def test_a_box_has_the_colour_of_its_class_and_changes_nothing_else():
    picture = draw([[100, 100, 200, 180]], [1], np.array([0.9]))
    for y, x in ((140, 100), (140, 199), (179, 150)):  # left, right, bottom: the last pixels inside the box
        assert tuple(picture[y, x]) == class_colour(1)
    assert not changed(picture)[105:175, 105:195].any()
    assert not changed(picture)[185:].any() and not changed(picture)[:80].any()
    assert (GREY == 128).all()


@pytest.mark.parametrize("ground", [0, 255, class_colour(0)])
def test_a_box_shows_on_any_ground(ground):
    image = np.zeros((240, 320, 3), np.uint8) + np.array(ground, np.uint8)
    column = draw([[100, 100, 200, 180]], [0], None, image)[140, 90:110].astype(int)
    luminance = column @ [0.299, 0.587, 0.114]
    assert luminance.max() - luminance.min() > 80


@pytest.mark.parametrize(
    ("box", "right", "bottom"),
    [([0, 0, 320, 240], None, None), ([300, 0, 320, 20], 320, None), ([310, 230, 320, 240], 320, 230)],
)
def test_the_whole_tag_is_inside_the_picture(box, right, bottom):
    above = changed(draw([[100, 100, 101, 101]], [1], np.array([0.5])))[:98]  # the rim of the box begins at row 98
    height, width = 100 - above.any(axis=1).argmax(), above.any(axis=0).sum()
    assert 9 <= height <= 20 and 30 <= width <= 80
    right, bottom = right or width, bottom or height
    tag = draw([box], [1], np.array([0.5]))[bottom - height : bottom, right - width : right]
    assert tag.shape[:2] == (height, width)
    assert (tag == class_colour(1)).all(axis=2).mean() > 0.5


def test_the_best_one_lies_on_top_whatever_the_order():
    boxes, classes = [[100, 100, 200, 180], [100, 100, 200, 180]], ("a long name", "i")
    one = draw(boxes, [0, 1], np.array([0.9, 0.3]), classes=classes)
    two = draw(boxes[::-1], [1, 0], np.array([0.3, 0.9]), classes=classes)
    np.testing.assert_array_equal(one, two)
    assert tuple(one[140, 100]) == class_colour(0)
    assert not (one == class_colour(1)).all(axis=2).any()


def test_names_in_other_scripts_are_not_replaced_by_question_marks():
    pictures = [draw([[50, 100, 90, 150]], [0], None, classes=[name]) for name in ("é", "白", "ж", "?")]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_scores_are_written_only_where_given():
    without = changed(draw([[50, 100, 90, 150]], [0], None))
    assert without.sum() < changed(draw([[50, 100, 90, 150]], [0], np.array([0.5]))).sum()


def test_classes_have_colours_of_their_own():
    assert len({class_colour(label) for label in range(80)}) == 80


@pytest.mark.parametrize("shape", [(1, 1, 3), (12, 300, 3), (128, 128, 3)])
def test_any_size_and_no_detection_at_all(shape):
    image = np.zeros(shape, np.uint8)
    np.testing.assert_array_equal(draw([], [], np.array([]), image), image)
    view = np.zeros((shape[1], shape[0], 3), np.uint8).transpose(1, 0, 2)  # not contiguous
    picture = draw([[0, 0, 9, 9]], [0], np.array([1.0]), view)
    assert picture.shape == shape and picture.any() and not view.any()
