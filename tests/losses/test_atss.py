"""ATSS: against a loop over the objects in double precision, and by hand."""

import math
from statistics import mean, stdev

import pytest
import torch

from retinanet.losses import atss
from retinanet.losses.atss import has_selected_anchor, match_atss
from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.model.anchors import AnchorShapes, image_anchors


def center(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def iou(a: list[float], b: list[float]) -> float:
    shared = math.prod(max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in range(2))
    return shared / (sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)) - shared)


def written_out(levels, gt_boxes, crowd, per_cell, nearest) -> tuple[list[int], list[bool]]:
    """`match_atss` and `has_selected_anchor`, object by object."""
    anchors = [box for level in levels for box in level.double().tolist()]
    best, matched, selects = [0.0] * len(anchors), [BACKGROUND] * len(anchors), []
    for number, (box, is_crowd) in enumerate(zip(gt_boxes.double().tolist(), crowd.tolist(), strict=True)):
        candidates, first = [], 0
        for level in levels:
            cells = range(first, first + len(level), per_cell)
            by_distance = sorted(cells, key=lambda row: math.dist(center(anchors[row]), center(box)))
            candidates += [row + i for row in by_distance[:nearest] for i in range(per_cell)]
            first += len(level)
        ious = [iou(anchors[row], box) for row in candidates]
        threshold = mean(ious) + (stdev(ious) if len(ious) > 1 else 0)
        selected = []
        for row, value in zip(candidates, ious, strict=True):
            x, y = center(anchors[row])
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if value >= threshold and inside:
                selected.append(row)
                if not is_crowd and value > best[row]:
                    best[row], matched[row] = value, number
        selects.append(bool(selected))
    for row, (x1, y1, x2, y2) in enumerate(anchors):
        for box in gt_boxes[crowd].tolist():
            shared = max(0, min(x2, box[2]) - max(x1, box[0])) * max(0, min(y2, box[3]) - max(y1, box[1]))
            if matched[row] == BACKGROUND and shared >= 0.5 * (x2 - x1) * (y2 - y1):
                matched[row] = IGNORE
    return matched, selects


def random_boxes(generator: torch.Generator, count: int, largest: float) -> torch.Tensor:
    corner = 100 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + 2 + largest * torch.rand(count, 2, generator=generator)], dim=1)


def random_levels(generator: torch.Generator, per_cell: int) -> list[torch.Tensor]:
    """Anchors of three levels, 200, 50 and 5 cells at random places; those of a cell have its centre."""
    levels = []
    for cells, side in ((200, 16), (50, 32), (5, 64)):
        middle = 128 * torch.rand(cells, 1, 2, generator=generator)
        half = side * (0.3 + 0.5 * torch.rand(cells, per_cell, 2, generator=generator))
        levels.append(torch.cat([middle - half, middle + half], dim=2).flatten(0, 1))
    return levels


@pytest.mark.parametrize(("per_cell", "nearest", "chunk"), [(1, 9, 1 << 18), (3, 9, 1 << 18), (9, 4, 1), (2, 7, 1000)])
def test_it_is_a_loop_over_the_objects(monkeypatch, per_cell, nearest, chunk):
    monkeypatch.setattr(atss, "CPU_CHUNK", chunk)
    generator = torch.Generator().manual_seed(per_cell)
    levels, gt_boxes = random_levels(generator, per_cell), random_boxes(generator, 30, largest=60)
    crowd = torch.arange(30) % 6 == 0
    expected, selects = written_out(levels, gt_boxes, crowd, per_cell, nearest)
    assert match_atss(levels, gt_boxes, crowd, per_cell, nearest).tolist() == expected
    assert has_selected_anchor(levels, gt_boxes, per_cell, nearest).tolist() == selects
    assert IGNORE in expected and len({*expected}) > 10
    # some anchors have several objects to choose from
    one, of_all = torch.tensor([False]), [number for number in expected if number >= 0]
    alone = [match_atss(levels, box[None], one, per_cell, nearest) for box in gt_boxes[~crowd]]
    assert sum(int((found >= 0).sum()) for found in alone) > len(of_all)


def squares(*anchors: tuple[float, float, float]) -> torch.Tensor:
    """Boxes with (centre x, centre y, side)."""
    return torch.tensor([[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y, side in anchors])


def matched(levels, gt_boxes, crowd=None, **settings) -> list[int]:
    crowd = [False] * len(gt_boxes) if crowd is None else crowd
    return match_atss(levels, gt_boxes, torch.tensor(crowd, dtype=torch.bool), **settings).tolist()


def test_by_hand():
    # the object is 20 wide; of three cells on each of two levels, one is not a candidate. IoUs of the candidates: 1,
    # 0 and 1 / 4, 1 / 4: mean 0.375, standard deviation of the sample 0.433. One IoU is above their sum, 0.808
    levels = [squares((50, 50, 20), (30, 50, 20), (90, 50, 20)), squares((50, 50, 40), (54, 50, 40), (99, 50, 40))]
    assert matched(levels, squares((50, 50, 20)), nearest=2) == [0, *[BACKGROUND] * 5]
    # with one candidate on each level, 1 and 1 / 4, the sum is 0.625 + 0.53: no anchor reaches it
    assert matched(levels, squares((50, 50, 20)), nearest=1) == [BACKGROUND] * 6
    assert matched(levels[:1], squares((50, 50, 20)), nearest=1) == [0, BACKGROUND, BACKGROUND]  # a single candidate


def test_the_centre_of_an_anchor_must_lie_inside_its_object():
    # two anchors of the same IoU, one of which has its centre on the object's edge
    wide, beside = torch.tensor([[0.0, 0, 30, 10]]), torch.tensor([[20.0, 0, 40, 10]])
    far = squares(*((200 + i, 200, 10) for i in range(8)))
    for edge, expected in ((30.0, BACKGROUND), (30.009, BACKGROUND), (30.011, 0)):
        wide[0, 2] = edge
        assert matched([torch.cat([beside, far])], wide)[0] == expected


def test_the_object_of_the_highest_iou_wins_and_of_equals_the_first():
    anchor = [squares((50, 50, 20))]
    assert matched(anchor, squares((50, 50, 30), (50, 50, 22), (50, 50, 26))) == [1]
    assert matched(anchor, squares((50, 50, 30), (50, 50, 22), (50, 50, 22))) == [1]
    assert has_selected_anchor(anchor, squares((50, 50, 30), (50, 50, 22), (90, 90, 9))).tolist() == [True, True, False]


def test_of_equally_near_cells_the_first_is_a_candidate():
    cells = squares((40, 50, 30), (60, 50, 30), (50, 40, 30), (50, 60, 30))  # each 10 px from the object's centre
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert matched([cells[order]], squares((50, 50, 40)), nearest=1) == [0, *[BACKGROUND] * 3]


def test_crowds_take_no_anchor_and_ignore_those_inside():
    anchors = [squares((50, 50, 20), (60, 50, 20), (75, 50, 20), (99, 50, 20))]
    crowd = torch.tensor([[0.0, 0, 70, 100]])  # half of the second, and a quarter of the third anchor
    assert matched(anchors, crowd, [True]) == [IGNORE, IGNORE, BACKGROUND, BACKGROUND]
    both = torch.cat([crowd, squares((50, 50, 20))])
    assert matched(anchors, both, [True, False]) == [1, IGNORE, BACKGROUND, BACKGROUND]


def test_without_objects_all_is_background():
    levels = image_anchors((64, 64))
    assert matched(levels, torch.zeros(0, 4), per_cell=9) == [BACKGROUND] * sum(map(len, levels))
    assert has_selected_anchor(levels, torch.zeros(0, 4), per_cell=9).shape == (0,)


@pytest.mark.parametrize("whole_pixels", [False, True])
def test_the_candidates_of_a_detector_are_whole_cells(whole_pixels):
    # where the paper's code takes 81 of the nearest anchors, whose nine per cell are equally near
    shapes = AnchorShapes(whole_pixels=whole_pixels)
    levels, gt_boxes = image_anchors((96, 160), shapes), torch.tensor([[37.0, 21, 91, 62], [100, 3, 131, 90]])
    crowd = torch.zeros(2, dtype=torch.bool)
    assert match_atss(levels, gt_boxes, crowd, 9).tolist() == written_out(levels, gt_boxes, crowd, 9, 9)[0]


def test_a_part_of_a_cell_is_refused():
    with pytest.raises(ValueError, match="a level has 4 anchors, expected a multiple of per_cell, 9"):
        match_atss([torch.zeros(9, 4), torch.zeros(4, 4)], torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), 9)
