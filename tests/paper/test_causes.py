"""The effects of the causes: by hand, where each run finds as many of the objects as its causes say."""

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.scoring_cases import dataset, random_case

from retinanet.checkpoints.checkpoint import BEST
from retinanet.config_file import load_config
from retinanet.evaluation.comparison import compare
from retinanet.paper.ablation import ablate
from retinanet.paper.causes import CAUSES, effects, effects_of_causes
from retinanet.paper.tables import PAPER, make_rows

TRUTH = dataset([1] * 200, [[10, 10, 50, 50]] * 200, [0] * 200, category_ids=(1,))


def found(count: int) -> np.ndarray:
    """Detections of (count + 0.5) % of the objects: AP is (count + 1) / 101, for the recalls 0, 0.01, ..., count %."""
    rows = np.tile([0, 10, 10, 50, 50, 0.9, 0], (2 * count + 1, 1))
    rows[:, 0] = np.arange(len(rows))
    return rows


def count_of(value: str) -> int:
    """Ten more for the focal loss, 20 for the pyramid, 5 for nine anchors, 4 for all three together."""
    loss, pyramid, anchors = value.split("-")
    causes = loss == "focal", pyramid == "fpn", anchors == "9"
    return 30 + np.dot([10, 20, 5], causes) + 4 * all(causes)


GRID = {(value, 0): found(count_of(value)) for value in PAPER["causes"]}


def test_each_cause_has_its_effect():
    made = effects(TRUTH, GRID, resamples=50)
    assert [each.cause for each in made] == [cause for cause in CAUSES for _ in range(5)]
    for cause, alone in zip(CAUSES, (10, 20, 5), strict=True):
        every, *parts = [each for each in made if each.cause == cause]
        assert (every.others, every.pairs) == ((), 4)
        assert every.ap.change == pytest.approx((alone + 4 / 4) / 101)  # all three are in one of four pairs
        assert every.ap.interval[0] < every.ap.change < every.ap.interval[1] and every.ap.certain
        together = {part.others: round(101 * part.ap.change) for part in parts}
        expected = dict.fromkeys(together, alone) | {parts[-1].others: alone + 4}
        assert together == expected and [part.pairs for part in parts] == [1] * 4
    first = made[0].ap
    # cross entropy: 30, 35, 50 and 55 % of the objects; focal loss: 40, 45, 60 and 69 %
    assert (first.first, first.second) == pytest.approx((42.5 / 101 + 1 / 101, 53.5 / 101 + 1 / 101))
    assert made[4].others == ("fpn", "9") and made[9].others == ("focal", "9") and made[14].others == ("focal", "fpn")


def test_pairs_have_the_same_seed_and_both_runs():
    runs = GRID | {("focal-fpn-9", 1): found(90)}  # without partners
    assert effects(TRUTH, runs, resamples=5) == effects(TRUTH, GRID, resamples=5)
    runs = GRID | {(value, 1): found(count_of(value) + 6) for value in PAPER["causes"]}
    del runs["ce-fpn-9", 1]  # it diverged
    made = effects(TRUTH, runs, resamples=5)
    assert [each.pairs for each in made if not each.others] == [7, 7, 7]
    assert [each.others for each in made if each.pairs == 1] == [("fpn", "9"), ("ce", "9"), ("ce", "fpn")]
    assert round(101 * made[4].ap.second) - 1 == count_of("focal-fpn-9")  # of seed 0 alone


def test_rows_that_differ_in_two_causes_are_no_pair():
    assert effects(TRUTH, {}) == []
    assert effects(TRUTH, {("ce-fpn-1", 0): found(3), ("focal-lateral-1", 0): found(4)}) == []


def test_the_interval_of_a_pair_is_that_of_the_comparison():
    truth, first = random_case(0)
    second = first[::2]
    steps: list[tuple[int, int]] = []
    runs = {("focal-fpn-9", 3): second, ("ce-fpn-9", 3): first}
    every, part = effects(truth, runs, 20, progress=lambda done, total: steps.append((done, total)))
    assert every.ap == part.ap == compare(truth, first, second, 20).metrics[0]
    assert steps == [(done, 20) for done in range(1, 21)]


def test_the_effects_are_those_of_the_trained_rows(tiny: Path, tmp_path: Path):
    # many steps of a high rate and a low threshold, so that something is found
    settings = ["train.steps=6", "train.lr=0.003", "train.warmup_steps=0", "train.ema=null"]
    config = load_config(tiny / "tiny.yaml", [*settings, "detect.score_threshold=0.001"])
    rows = make_rows(config, "causes", ["ce-lateral-1", "ce-fpn-1"])
    first, second = (outcome.mean["AP"] for outcome in ablate(rows, tmp_path))
    assert max(first, second) > 0
    every, part = effects_of_causes(rows, tmp_path, 1, lambda done, total: None)
    assert (every.cause, every.others, part.others, every.pairs) == ("pyramid", (), ("ce", "1"), 1)
    assert (every.ap.first, every.ap.second) == (first, second)
    (tmp_path / "causes-ce-fpn-1-seed0" / BEST).unlink()  # as if it had diverged
    assert effects_of_causes(rows, tmp_path, 1, lambda done, total: None) == []


def test_data_without_objects():
    nothing = dataset([0] * 3, [], [])
    every, _ = effects(nothing, {(value, 0): np.zeros((0, 7)) for value in ("ce-fpn-9", "focal-fpn-9")}, resamples=3)
    assert math.isnan(every.ap.change) and every.pairs == 1
