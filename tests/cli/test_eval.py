"""`retina eval`."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.pycocotools_stats import METRICS, pycocotools_stats
from helpers.support import installed, retina


def test_saved_results_give_pycocotools_the_same_numbers(tiny: Path, tiny_run: Path):
    result = retina(
        "eval", "run", "--save-coco", "results.json", "--json", "--set", "detect.score_threshold=0.0001", cwd=tiny
    )
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert set(document) == {"metrics", "per_class", "precision"} and document["precision"] == "fp32"
    annotations = tiny / "shapes" / "annotations" / "instances_val.json"
    assert len(json.loads((tiny / "results.json").read_text())) > 20
    assert [document["metrics"][name] for name in METRICS] == pycocotools_stats(annotations, tiny / "results.json")
    assert {item["category_id"] for item in document["per_class"]} == {10, 20, 30, 40, 50, 60}
    counts = {a["category_id"]: 0 for a in json.loads(annotations.read_text())["annotations"]}
    for annotation in json.loads(annotations.read_text())["annotations"]:
        counts[annotation["category_id"]] += 1
    assert {i["category_id"]: i["objects"] for i in document["per_class"] if i["objects"]} == counts


@pytest.mark.parametrize("command", [("eval", "run"), ("train", "tiny.yaml", "--epochs", "1", "-o")])
def test_too_many_workers_are_one_line(tiny: Path, tiny_run: Path, tmp_path: Path, monkeypatch, command):
    monkeypatch.setattr("retinanet.data.loader.usable_cores", lambda: 1)
    monkeypatch.setattr("torch._utils.cpu_count", lambda: 1)
    output = (tmp_path / "run",) if command[-1] == "-o" else ()
    result = retina(*command, *output, "--set", "data.workers=3", cwd=tiny)
    assert result.code == 0, result.err
    told = "warning: data.workers is 3 on 1 core; fewer take less memory and are seldom slower"
    assert result.err.splitlines().count(told) == 1 and "DataLoader" not in result.err


def test_tables(tiny: Path, tiny_run: Path):
    result = installed("eval", "run/best.safetensors", "--split", "train", cwd=tiny)
    assert result.code == 0
    assert "IoU 0.50:0.95, all sizes, 100 detections" in result.out
    assert "red circle" in result.out
    assert result.err == ""


def test_from_another_folder(tiny_run: Path, tmp_path: Path):
    assert retina("eval", tiny_run, "--json", cwd=tmp_path).code == 0


def test_other_categories_are_refused(tiny: Path, tiny_run: Path):
    file = tiny / "shapes" / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    document["categories"][0]["name"] = "cat"
    (file.parent / "cats.json").write_text(json.dumps(document))
    (tiny / "cats.yaml").write_text("data: {root: shapes, val: {images: val, annotations: annotations/cats.json}}\n")
    result = retina("eval", "run", "--data", "cats.yaml", cwd=tiny)
    assert result.code == 1
    assert result.err.startswith(
        "retina: run does not know the classes cat of the data; run was trained on red circle (10)"
    )
    assert result.err.count("\n") == 1


def test_classes_are_matched_by_name_where_ids_differ(tiny: Path, tiny_run: Path):
    file = tiny / "shapes" / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    ids = [entry["id"] for entry in document["categories"]]
    other = dict(zip(ids, reversed(range(len(ids))), strict=True))  # YOLO's kind of ids, in another order
    for entry in document["categories"]:
        entry["id"] = other[entry["id"]]
    for entry in document["annotations"]:
        entry["category_id"] = other[entry["category_id"]]
    (file.parent / "renumbered.json").write_text(json.dumps(document))
    (tiny / "ids.yaml").write_text(
        "data: {root: shapes, val: {images: val, annotations: annotations/renumbered.json}}\n"
    )
    lowest = ("--json", "--set", "detect.score_threshold=0.0001")
    same, renumbered = (retina("eval", "run", *lowest, *more, cwd=tiny) for more in ((), ("--data", "ids.yaml")))
    assert "run: classes are matched by name, as their ids differ from those of the data\n" in renumbered.err
    found, expected = json.loads(renumbered.out), json.loads(same.out)
    assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-9)
    assert {each["label"]: each["category_id"] for each in found["per_class"]} == {
        each["label"]: other[each["category_id"]] for each in expected["per_class"]
    }
    # the detector reads the thresholds, which therefore have its ids
    saved = retina("eval", "run", "--data", "ids.yaml", "--thresholds", "by-name.yaml", *lowest, cwd=tiny)
    assert saved.code == 0, saved.err
    entries = yaml.safe_load((tiny / "by-name.yaml").read_text())["classes"]
    assert {entry["label"]: entry["category_id"] for entry in entries} == {
        each["label"]: each["category_id"] for each in expected["per_class"]
    }
    used = retina("predict", "shapes/val/0.png", "-w", "run", "--thresholds", "by-name.yaml", cwd=tiny)
    assert used.code == 0, used.err
    compared = retina("eval", "run", "run", "--compare", "--data", "ids.yaml", cwd=tiny)
    assert compared.code == 0 and "classes are matched by name" in compared.err


def test_some_of_the_detectors_classes(tiny: Path, tiny_run: Path):
    (tiny / "two.yaml").write_text("data: {root: shapes, train: train, val: val, classes: [blue circle, red square]}\n")
    without_limits = [f"detect.{key}" for key in ("score_threshold=0.0001", "top_k=100000", "max_detections=1000")]
    options = ("--json", "--funnel", "--reference", *(part for key in without_limits for part in ("--set", key)))
    some = json.loads(retina("eval", "run", "--data", "two.yaml", *options, cwd=tiny).out)
    every = json.loads(retina("eval", "run", *options, cwd=tiny).out)
    named = {item["label"]: item for item in every["per_class"]}
    assert [item["label"] for item in some["per_class"]] == ["blue circle", "red square"]
    for item in some["per_class"]:
        assert item == named[item["label"]]
    assert some["reference"]["equal"] and some["funnel"]["objects"] == sum(i["objects"] for i in some["per_class"])


def test_a_missing_checkpoint(tmp_path: Path):
    result = retina("eval", "nowhere", cwd=tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "retina: nowhere: no such file or folder; expected a checkpoint or the folder of a retina run\n"
    )


def test_an_unreadable_image_is_reported_and_its_objects_are_missed(tiny: Path, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "val" / "1.png").write_text("no picture")
    options = ("--set", "detect.score_threshold=0.0001", "--save-coco", tmp_path / "found.json", "--json")
    result = retina("eval", tiny_run, "--set", f"data.root={tmp_path}/shapes", *options)
    assert result.code == 0, result.err
    assert "1.png: not an image" in result.err and "; its objects count as missed" in result.err
    assert {item["image_id"] for item in json.loads((tmp_path / "found.json").read_text())} == {0, 2, 3}
    whole = json.loads(retina("eval", tiny_run, "--json").out)
    objects = [[item["objects"] for item in document["per_class"]] for document in (whole, json.loads(result.out))]
    assert objects[0] == objects[1]


def test_the_command_gives_the_metrics_that_the_run_logged(tiny: Path, tiny_run: Path):
    records = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    best = max((record for record in records if record["kind"] == "eval"), key=lambda record: record["AP"])
    metrics = json.loads(retina("eval", "run", "--json", cwd=tiny).out)["metrics"]
    assert metrics == {name: best[name] for name in METRICS}


SURE = ("--set", "detect.score_threshold=0.0001")


def test_funnel_and_reference(tiny: Path, tiny_run: Path):
    result = retina("eval", "run", "--funnel", "--reference", *SURE, cwd=tiny)
    assert result.code == 0, result.err
    metrics, funnel, images = (
        result.out.index(t) for t in ("COCO metrics", "Missed objects: ", "Images with the most")
    )
    assert metrics < funnel < images
    assert "given to another object" in result.out[funnel:images] and ".png" in result.out[images:]
    assert result.out.endswith("\npycocotools: all 12 metrics are equal\n")


def test_funnel_and_reference_as_json_with_an_unreadable_image(tiny: Path, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny / "shapes", tmp_path / "shapes")
    (tmp_path / "shapes" / "val" / "1.png").write_text("no picture")
    annotations = json.loads((tmp_path / "shapes" / "annotations" / "instances_val.json").read_text())["annotations"]
    options = ("--funnel", "--reference", "--json", *SURE)
    document = json.loads(retina("eval", tiny_run, *options, "--set", f"data.root={tmp_path}/shapes").out)
    assert document["reference"] == {"equal": True, "metrics": document["metrics"]}
    funnel = document["funnel"]
    assert funnel["objects"] == len(annotations) >= funnel["missed"] > 0
    assert [stage["stage"] for stage in funnel["stages"]] == [
        *("no anchor", "box too loose", "wrong class", "low score", "top-k", "NMS", "max detections"),
        *("given to another object", "unreadable image"),
    ]
    assert funnel["missed"] == sum(stage["missed"] for stage in funnel["stages"])
    for stage in funnel["stages"]:
        assert stage["missed"] == stage["small"] + stage["medium"] + stage["large"]
        assert stage["AP50"] >= document["metrics"]["AP50"]
    assert funnel["stages"][-1]["missed"] == sum(annotation["image_id"] == 1 for annotation in annotations)
    assert funnel["missed"] == sum(image["missed"] for image in funnel["worst_images"])  # all of the 4 images
    assert set(funnel["worst_images"][0]) == {"image_id", "file", "objects", "missed"}


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_a_reference_that_differs_is_reported(tiny_run: Path, monkeypatch, json_):
    from retinanet.evaluation import evaluate as evaluation
    from retinanet.evaluation import pycocotools_metrics as reference

    def other(*arguments) -> dict[str, float]:
        metrics = reference.reference_metrics(*arguments)
        return metrics | {"AP50": metrics["AP50"] + 0.5}

    monkeypatch.setattr(evaluation, "reference_metrics", other)
    result = retina("eval", tiny_run, "--reference", *json_)
    assert (result.code, result.err) == (3, "retina: --reference: pycocotools has another value of AP50\n")
    if json_:
        assert json.loads(result.out)["reference"]["equal"] is False
    else:
        [row] = [line for line in result.out.partition("Metrics that differ")[2].splitlines() if "AP" in line]
        assert "AP50" in row
