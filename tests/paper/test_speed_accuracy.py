"""Figure 2: the paper's points, and texts that cover nothing."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from retinanet.paper.detector_comparison import ComparedDetector, DetectorComparison, Point
from retinanet.paper.figures import draw_speed_accuracy
from retinanet.paper.speed_accuracy import paper_points


def detector(value: str, *points: Point) -> ComparedDetector:
    return ComparedDetector(value, {}, None, None, None, {}, list(points))


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The figure of some detectors, before it is written."""

    def draw(*detectors: ComparedDetector) -> Figure:
        figures: list[Figure] = []
        monkeypatch.setattr("retinanet.paper.figures.save_figure", lambda figure, output: figures.append(figure))
        comparison = DetectorComparison(list(detectors), None, [], "cells", "resnet50", "a GPU")
        draw_speed_accuracy(comparison, tmp_path / "figure.png")
        return figures[0]

    return draw


def test_the_papers_points():
    points = paper_points()
    assert len(points) == 8 and [scale for _, _, scale in points["RetinaNet-50"]] == [400, 500, 600, 700, 800]
    assert max(points.items(), key=lambda item: item[1][-1][1])[0] == "RetinaNet-101"
    # section 5.2: RetinaNet-101-600 is as accurate as Faster R-CNN, in 122 in place of 172 ms
    assert points["RetinaNet-101"][2] == (122, 36.0, 600) and points["Faster R-CNN, FPN"] == [(172, 36.2, None)]


def test_each_detector_has_a_curve_through_its_points(drawn):
    first = detector("$x", Point(64, 0.2, 0.3, 5.0), Point(96, 0.4, 0.5, 9.0), Point(128, None, None, None))
    figure = drawn(first, detector("ssd", Point(64, 0.1, 0.2, 3.0)), detector("ce", Point(64, None, None, 3.0)))
    here, paper = figure.axes
    one, two = here.lines
    assert (one.get_xydata().tolist(), two.get_xydata().tolist()) == ([[5, 20], [9, 40]], [[3, 10]])
    assert one.get_marker() != two.get_marker() and one.get_linestyle() != two.get_linestyle()
    assert [text.get_text() for text in here.get_legend().get_texts()] == ["$x", "ssd"]
    assert [text.get_text() for text in here.texts] == ["64", "96", "64"]
    assert (
        len(paper.lines) == 8 and [text.get_text() for text in paper.texts] == ["400", "500", "600", "700", "800"] * 2
    )
    assert {line.get_color() for line in paper.lines} == {"0.4"}


def test_no_text_covers_another_or_a_curve(drawn):
    same = [detector(str(index), Point(64, 0.2, 0.3, 5.0), Point(96, 0.3, 0.4, 6.0)) for index in range(9)]
    figure = drawn(*same)
    for axes, most in zip(figure.axes, (17, 10), strict=True):
        boxes = [text.get_window_extent() for text in axes.texts]
        curves = [line.get_path().transformed(axes.transData) for line in axes.lines if len(line.get_xdata()) > 1]
        assert 2 <= len(boxes) <= most
        assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)
        assert not any(curve.intersects_bbox(box, filled=False) for curve in curves for box in boxes)


def test_detectors_that_all_diverged_leave_the_papers_panel(drawn):
    here, paper = drawn(detector("focal", Point(64, None, None, None))).axes
    assert not here.lines and not here.texts and here.get_legend() is None
    assert len(paper.lines) == 8
