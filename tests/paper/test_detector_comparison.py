"""Table 2: its detectors have the numbers of their runs, and a best one only where intervals say so."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from retinanet.config_file import load_config
from retinanet.evaluation.coco_metrics import METRICS
from retinanet.evaluation.comparison import Difference
from retinanet.paper.ablation import RESULT, ablate, training_seconds
from retinanet.paper.detector_comparison import Change, DetectorComparison, Point, compare_detectors
from retinanet.paper.tables import make_rows


def test_the_detectors_have_the_numbers_of_their_runs(tiny: Path, tmp_path: Path):
    config = load_config(tiny / "tiny.yaml", ["train.batch_size=2", "train.epochs=1", "train.lr=0.01"])
    rows = make_rows(config, "2")
    wild = replace(config.train, optimizer="sgd", lr=1e6, warmup_steps=0)
    rows[1] = replace(rows[1], config=replace(rows[1].config, train=wild))
    outcomes = list(ablate(rows, tmp_path))
    assert [outcome.value for outcome in outcomes] == ["focal", "ce", "faster-rcnn", "ssd"]
    assert outcomes[1].runs[0]["diverged_at"] is not None
    assert outcomes[2].paper == {"AP": 36.2, "AP50": 59.1, "AP75": 39.0}
    advances = []
    comparison = compare_detectors(rows, tmp_path, 1, lambda done, total: advances.append((done, total)), resamples=20)
    focal, diverged, faster_rcnn, ssd = comparison.detectors
    for outcome, detector in zip(outcomes, comparison.detectors, strict=True):
        assert detector.metrics.keys() == METRICS.keys()
        assert {name: detector.metrics[name] for name in outcome.mean} == outcome.mean
    assert (diverged.weights, diverged.ms_per_image) == (None, None)
    assert diverged.points == [Point(64, None, None, None)]
    assert focal.weights < faster_rcnn.weights and all(each.ms_per_image > 0 for each in (focal, faster_rcnn, ssd))
    assert (faster_rcnn.paper, diverged.paper["APs"]) == ({"APs": 18.2, "APm": 39.0, "APl": 48.2}, None)
    assert all(each.training_seconds > 0 for each in (focal, faster_rcnn, ssd))
    others = {each.value for each in comparison.changes}
    assert others | {comparison.leader} == {"focal", "faster-rcnn", "ssd"} and comparison.leader not in others
    assert advances.count((4, 4)) == 4 and advances.count((20, 20)) == 2  # images and resamples
    found = comparison.candidates
    assert (found.images, found.dataset_images) == (4, 4)
    kinds = {(each.detector, each.kind): each for each in found.kinds}
    assert [detector for detector, _ in kinds] == ["retinanet", *["faster-rcnn"] * 4, "ssd", "ssd"]
    numbers = {kind: each.number for (_, kind), each in kinds.items()}
    # images of 64 x 64 pixels have 85 cells on P3 to P7, and 341 on P2 to P6
    assert kinds["retinanet", "anchors"].number == 85 * 9 + 9 and numbers["default boxes"] == 390
    assert (kinds["faster-rcnn", "anchors"].number, numbers["sampled anchors"]) == (341 * 3, 256)
    assert 0 < numbers["proposals"] < 1000 and 0 < numbers["sampled RoIs"] <= 512
    assert kinds["ssd", "mined boxes"].ratio == 3 < kinds["ssd", "default boxes"].ratio
    assert kinds["faster-rcnn", "proposals"].paper_number == (1000, 2000)


def test_the_time_of_a_run_that_an_earlier_version_finished_is_unknown(tmp_path: Path):
    (tmp_path / RESULT).write_text(json.dumps({"seed": 0, "steps": 9}))
    assert training_seconds(tmp_path) is None


def change(value: str, low: float, high: float) -> Change:
    middle = (low + high) / 2
    return Change(value, 0, Difference("AP", 0.5, 0.5 + middle, middle, (low, high), 0.5))


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        ([change("ce", -0.2, -0.1), change("ssd", -0.3, -0.01)], "focal"),
        ([change("ce", -0.2, -0.1), change("ssd", -0.3, 0.01)], None),
        ([change("ce", 0.0, 0.0)], None),  # a tie
        ([change("ce", -0.2, -0.1), change("ce", 0.1, 0.2)], None),  # two seeds disagree
        ([change("ce", math.nan, math.nan)], None),
        ([], None),
    ],
)
def test_the_best_is_named_only_where_all_intervals_say_so(changes, best):
    assert DetectorComparison([], "focal", changes, "cells", "resnet50", "cpu").best == best
