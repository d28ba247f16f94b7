"""`retina eval` through the installed command."""

import contextlib
import io
import json
import shutil
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support import retina

METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def pycocotools_stats(annotations: Path, results: Path) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def test_saved_results_give_pycocotools_the_same_numbers(tiny: Path, tiny_run: Path):
    result = retina(
        "eval", "run", "--save-coco", "results.json", "--json", "--set", "detect.score_threshold=0.0001", cwd=tiny
    )
    assert result.code == 0, result.err
    document = json.loads(result.out)
    annotations = tiny / "shapes" / "annotations" / "instances_val.json"
    assert len(json.loads((tiny / "results.json").read_text())) > 20
    assert [document["metrics"][name] for name in METRICS] == pycocotools_stats(annotations, tiny / "results.json")
    assert {item["category_id"] for item in document["per_class"]} == {10, 20, 30, 40, 50, 60}
    counts = {a["category_id"]: 0 for a in json.loads(annotations.read_text())["annotations"]}
    for annotation in json.loads(annotations.read_text())["annotations"]:
        counts[annotation["category_id"]] += 1
    assert {i["category_id"]: i["objects"] for i in document["per_class"] if i["objects"]} == counts


def test_tables(tiny: Path, tiny_run: Path):
    result = retina("eval", "run/best.safetensors", "--split", "train", cwd=tiny)
    assert result.code == 0
    assert "IoU 0.50:0.95, all sizes, 100 detections" in result.out
    assert "red circle" in result.out
    assert result.err == ""


def test_from_another_folder(tiny_run: Path, tmp_path: Path):
    assert retina("eval", tiny_run, "--json", cwd=tmp_path).code == 0


def test_other_categories_are_refused(tiny: Path, tiny_run: Path):
    (tiny / "two.yaml").write_text("data: {root: shapes, train: train, val: val, classes: [blue circle, red square]}\n")
    result = retina("eval", "run", "--data", "two.yaml", cwd=tiny)
    assert result.code == 1
    assert result.err.startswith(
        "retina: the data has the categories blue circle (20), red square (30); run was trained on "
    )
    assert result.err.count("\n") == 1


def test_a_missing_checkpoint(tmp_path: Path):
    result = retina("eval", "nowhere", cwd=tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "retina: nowhere: no such file or folder; expected a checkpoint or the folder of a retina run\n"
    )


def test_an_unreadable_image_is_told_and_its_objects_are_missed(tiny: Path, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "val" / "1.png").write_text("no picture")
    told = ("--set", "detect.score_threshold=0.0001", "--save-coco", tmp_path / "found.json", "--json")
    result = retina("eval", tiny_run, "--set", f"data.root={tmp_path}/shapes", *told)
    assert result.code == 0, result.err
    assert "1.png: not an image" in result.err and "; its objects count as missed" in result.err
    assert {item["image_id"] for item in json.loads((tmp_path / "found.json").read_text())} == {0, 2, 3}
    whole = json.loads(retina("eval", tiny_run, "--json").out)
    objects = [[item["objects"] for item in document["per_class"]] for document in (whole, json.loads(result.out))]
    assert objects[0] == objects[1]


def test_the_command_gives_what_the_run_was_told(tiny: Path, tiny_run: Path):
    records = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    best = max((record for record in records if record["kind"] == "eval"), key=lambda record: record["AP"])
    metrics = json.loads(retina("eval", "run", "--json", cwd=tiny).out)["metrics"]
    assert metrics == {name: best[name] for name in METRICS}
