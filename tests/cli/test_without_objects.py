"""Numbers that no object defines: null in JSON and in the log, no point in a curve, a dash in a table."""

import json
from pathlib import Path

import pytest
from helpers.support import retina

WARNING = "warning: the data has no objects in 4 images, so that no metric has a value\n"


@pytest.fixture(scope="module")
def nothing(tiny: Path) -> Path:
    """`nothing.yaml` in the folder of `tiny`: its validation images have no objects."""
    annotations = tiny / "shapes" / "annotations"
    document = json.loads((annotations / "instances_val.json").read_text())
    (annotations / "instances_nothing.json").write_text(json.dumps(document | {"annotations": []}))
    val = "{images: val, annotations: annotations/instances_nothing.json}"
    config = (tiny / "tiny.yaml").read_text()
    (tiny / "nothing.yaml").write_text(config.replace("val: val", f"val: {val}"))
    return tiny / "nothing.yaml"


def evaluations(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "eval"]


def test_an_evaluation_warns_and_gives_null(nothing: Path, tiny_run: Path):
    result = retina("eval", tiny_run, "--data", nothing, "--funnel", "--reference", "--json")
    assert (result.code, result.err) == (0, WARNING)
    document = json.loads(result.out)
    assert len(document["metrics"]) == 12 and set(document["metrics"].values()) == {None}
    assert document["reference"] == {"equal": True, "metrics": document["metrics"]}
    assert {(each["AP"], each["AP50"], each["objects"]) for each in document["per_class"]} == {(None, None, 0)}
    assert {stage["AP50"] for stage in document["funnel"]["stages"]} == {None}


def test_tables_and_the_report_have_no_such_number(nothing: Path, tiny_run: Path, tmp_path: Path):
    options = ("--funnel", "--diagnose", "--report", tmp_path / "report", "--thresholds", tmp_path / "t.yaml")
    result = retina("eval", tiny_run, "--data", nothing, *options)
    assert result.code == 0 and WARNING in result.err
    assert "Missed objects: 0 of 0" in [line.rstrip() for line in result.out.splitlines()]
    assert "-1" not in result.out and ">-1" not in (tmp_path / "report" / "index.html").read_text()


def test_a_size_without_objects_is_null_while_others_have_a_value(tiny_run: Path):
    result = retina("eval", tiny_run, "--json")
    assert result.err == ""
    metrics = json.loads(result.out)["metrics"]
    assert metrics["APl"] is None and metrics["ARl"] is None  # the pictures have 128 x 128 pixels
    assert 0 <= metrics["AP"] <= 1


def test_a_run_logs_null_and_resumes_a_log_of_an_earlier_version(nothing: Path, tmp_path: Path):
    run = tmp_path / "run"
    result = retina("train", nothing, "-o", run, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["best"]["metrics"]["AP"] is None
    log = run / "metrics.jsonl"
    assert [each["AP"] for each in evaluations(run)] == [None, None]
    earlier = log.read_text().replace("null", "-1.0")  # of the same length
    log.write_text(earlier)
    again = retina("train", nothing, "-o", run, "--resume", "--epochs", 3)
    assert again.code == 0, again.err
    assert log.read_text().startswith(earlier)
    assert [each["AP"] for each in evaluations(run)] == [-1, -1, None]


def test_an_ablation_of_such_data_has_no_best_row(nothing: Path, tmp_path: Path):
    options = ("--values", "2", "1", "--set", "train.epochs=1", "-o", tmp_path / "table")
    result = retina("ablate", nothing, "--table", "1b", *options)
    assert result.code == 0, result.err
    [row] = [line.split("│")[5:8] for line in result.out.splitlines() if line.startswith("│ 2 ")]
    assert [cell.strip() for cell in row] == ["–", "–", "–"] and "best here" not in result.out
    document = json.loads((tmp_path / "table" / "ablation.json").read_text())
    assert {each["mean"]["AP"] for each in document["rows"]} == {None}
