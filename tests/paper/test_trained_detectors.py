"""What trained detectors detect is kept in their folders, and read while all that it depends on is the same."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retinanet.checkpoints.checkpoint import BEST
from retinanet.config.schema import Config
from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.evaluation.coco_metrics import score
from retinanet.evaluation.evaluate import evaluate
from retinanet.evaluation.results_file import ResultsFile
from retinanet.inference.detector import load
from retinanet.paper.ablation import ablate
from retinanet.paper.detector_comparison import OtherDetector, Point, compare_detectors
from retinanet.paper.tables import make_rows
from retinanet.paper.trained_detectors import detections_of_trained


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A config on data of its own, and the folder of an ablation of one row with two seeds, which finds something."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny / "shapes", folder / "shapes")
    shutil.copy(tiny / "tiny.yaml", folder)
    settings = ["train.steps=6", "train.lr=0.003", "train.warmup_steps=0", "train.ema=null"]
    config = load_config(folder / "tiny.yaml", [*settings, "detect.score_threshold=0.001"])
    list(ablate(make_rows(config, "2", ["focal"]), folder / "ablation", seeds=2))
    return config, folder / "ablation"


def detect(config: Config, output: Path, short_side: int | None = None) -> tuple[np.ndarray, bool]:
    """The detections of the first run, and whether its detector ran."""
    advances: list[tuple[int, int]] = []
    rows, dataset = make_rows(config, "2", ["focal"]), open_dataset(config.data, "val")
    trained = detections_of_trained(rows, output, 1, dataset, lambda *done: advances.append(done), short_side)
    ((_, _, found),) = trained
    return found, bool(advances)


def test_the_detections_are_those_of_an_evaluation_at_the_same_scale(trained: tuple[Config, Path]):
    config, output = trained
    detector = load(output / "focal-gamma-2-seed0", "cpu")
    for short_side, long_side in ((None, 1333), (96, 2000)):
        size = [] if short_side is None else [f"data.short_side={short_side}", f"data.long_side={long_side}"]
        expected = evaluate(detector, config, overrides=size)
        for ran in (True, False):
            found, has_run = detect(config, output, short_side)
            assert len(found) and np.array_equal(found, expected.results)
            assert has_run == ran
        (file,) = (output / "focal-gamma-2-seed0").glob(f"detections-{short_side or 64}-*.json")
        assert evaluate(ResultsFile(file), config).metrics == expected.metrics


def test_each_scale_has_the_mean_of_the_seeds(trained: tuple[Config, Path]):
    config, output = trained
    rows, dataset = make_rows(config, "2", ["focal"]), open_dataset(config.data, "val")
    (detector,) = compare_detectors(rows, output, 2, lambda done, total: None, scales=[96, 32, 96]).detectors
    assert [point.scale for point in detector.points] == [32, 64, 96]
    for point in detector.points:
        found = detections_of_trained(rows, output, 2, dataset, lambda done, total: None, point.scale)
        both = [score(dataset, results).metrics for _, _, results in found]
        assert len(both) == 2 and point.ms > 0
        for name in ("AP", "AP50"):
            assert getattr(point, name) == pytest.approx(sum(metrics[name] for metrics in both) / 2, rel=1e-12)
    own = detector.points[1]
    assert (own.AP, own.AP50, own.ms) == (detector.metrics["AP"], detector.metrics["AP50"], detector.ms_per_image)
    assert len({point.AP50 for point in detector.points}) > 1


def test_a_results_file_is_compared_with_each_run(trained: tuple[Config, Path]):
    config, output = trained
    rows, dataset = make_rows(config, "2", ["focal"]), open_dataset(config.data, "val")
    _, (_, _, second) = detections_of_trained(rows, output, 2, dataset, lambda done, total: None)
    perfect = np.column_stack([dataset.image_index, dataset.boxes, np.ones(len(dataset.boxes)), dataset.labels])
    others = [OtherDetector("same", "a.json", second, None), OtherDetector("perfect", "b.json", perfect, 7.5)]
    found = compare_detectors(rows, output, 2, lambda done, total: None, others=others, resamples=30)
    focal, same, other = found.detectors
    assert (found.leader, other.metrics["AP"], other.points) == ("perfect", 1, [Point(None, 1, 1, 7.5)])
    assert (same.results_file, same.ms_per_image, same.weights, same.training_seconds) == ("a.json", None, None, None)
    zero, one, of_file = found.changes
    assert [(each.value, each.seed) for each in found.changes] == [("focal", 0), ("focal", 1), ("same", None)]
    assert one.difference == of_file.difference != zero.difference
    both = (zero.difference.second + one.difference.second) / 2
    assert focal.metrics["AP"] == pytest.approx(both, rel=1e-12) and same.metrics["AP"] == of_file.difference.second


def repaint(config: Config, output: Path) -> Config:
    os.utime(Path(config.data.root) / "val" / "0.png", (1, 1))
    return config


def move_objects(config: Config, output: Path) -> Config:
    file = Path(config.data.root) / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(document))
    return config


def rename_categories(config: Config, output: Path) -> Config:
    file = Path(config.data.root) / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    for each in document["categories"]:
        each["id"] += 1
    for each in document["annotations"]:
        each["category_id"] += 1
    file.write_text(json.dumps(document))
    return config


def keep_fewer(config: Config, output: Path) -> Config:
    return replace(config, detect=replace(config.detect, max_detections=3))


def resize_otherwise(config: Config, output: Path) -> Config:
    return replace(config, data=replace(config.data, resize="pil"))


def other_weights(config: Config, output: Path) -> Config:
    file = output / "focal-gamma-2-seed0" / BEST
    os.utime(file)  # is no change, since the content decides
    assert not detect(config, output)[1]
    shutil.copy(output / "focal-gamma-2-seed0" / "last.safetensors", file)
    return config


def damage(config: Config, output: Path) -> Config:
    (file,) = (output / "focal-gamma-2-seed0").glob("detections-64-*.json")
    file.write_bytes(file.read_bytes()[:-9])
    return config


CHANGES = (repaint, move_objects, rename_categories, keep_fewer, resize_otherwise, damage, other_weights)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_the_detector_run_again(trained: tuple[Config, Path], change: Callable[[Config, Path], Config]):
    config, output = trained
    detect(config, output)
    assert not detect(config, output)[1]
    changed = change(config, output)
    assert detect(changed, output)[1]
    assert not detect(changed, output)[1]
    assert len(list((output / "focal-gamma-2-seed0").glob("detections-64-*.json"))) == 1
