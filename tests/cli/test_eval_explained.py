"""`retina eval` that explains itself: kinds of errors, thresholds, report, comparison."""

import json
import math
from pathlib import Path

import pytest
import yaml
from helpers.support import retina

LOW = ("--set", "detect.score_threshold=0.0001")  # the tiny detector is sure of little
CLASSES = 6


def test_diagnosis_as_json(tiny: Path, tiny_run: Path):
    result = retina("eval", "run", "--diagnose", "--json", *LOW, cwd=tiny)
    assert result.code == 0, result.err
    document = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    analysis = {"thresholds", "tide", "confusion", "calibration", "curves"}
    assert set(document) == {"metrics", "per_class", "precision", *analysis}
    known = {item["label"]: item["AP50"] for item in document["per_class"] if item["objects"]}
    curves = document["curves"]["precision"]["0.5"]
    assert len(curves) == CLASSES
    for label, curve in curves.items():
        mean = sum(curve) / 101 if None not in curve else None
        assert mean == pytest.approx(known[label]) if label in known else mean is None
    objects = sum(item["objects"] for item in document["per_class"])
    matrix = document["confusion"]["matrix"]
    assert document["confusion"]["classes"][-1] is None and len(matrix) == CLASSES + 1
    assert sum(map(sum, matrix[:-1])) == objects
    assert [each["label"] for each in document["thresholds"]] == list(curves)
    assert len(document["tide"]) == 8 and document["tide"][0]["kind"] == "wrong class"
    assert len(document["calibration"]["detections"]) == 10


def test_diagnosis_as_tables(tiny: Path, tiny_run: Path):
    result = retina("eval", "run", "--diagnose", *LOW, cwd=tiny)
    assert result.code == 0 and result.err == ""
    for title in (
        "COCO metrics",
        "Score thresholds: best F1",
        "Errors (TIDE)",
        "Confused",
        "Calibration",
        "Precision at",
    ):
        assert title in result.out
    assert "nan" not in result.out


def test_thresholds_are_chosen_saved_and_used(tiny: Path, tiny_run: Path, tmp_path: Path):
    file = tmp_path / "a new folder" / "thresholds.yaml"
    result = retina("eval", "run", "--thresholds", file, *LOW, cwd=tiny)
    assert result.code == 0
    assert f"wrote {file}; use it: retina predict IMAGE -w run --thresholds '{file}'" in result.err
    saved = yaml.safe_load(file.read_text())
    assert saved["target"] == "best F1" and saved["images"] == 4 and len(saved["classes"]) == CLASSES
    image = next((tiny / "shapes" / "val").iterdir())
    used = retina("predict", image, "-w", "run", "--thresholds", file, "--json", cwd=tiny)
    assert used.code == 0, used.err
    thresholds = {each["label"]: each["threshold"] for each in saved["classes"]}
    for found in json.loads(used.out)["images"][0]["detections"]:
        assert found["score"] > thresholds[found["label"]] - 5e-6  # scores are shown with five digits


def test_a_precision_that_is_not_reached_is_reported(tiny: Path, tiny_run: Path, tmp_path: Path):
    file = tmp_path / "thresholds.yaml"
    result = retina("eval", "run", "--thresholds", file, "--target-precision", "1", *LOW, cwd=tiny)
    chosen = yaml.safe_load(file.read_text())["classes"]
    missed = [each["label"] for each in chosen if each["threshold"] == 1]
    assert missed and result.code == 3
    assert result.err.splitlines()[-1] == (
        f"retina: --target-precision 1: no threshold reaches it for {', '.join(missed)}; "
        f"{file} reports none of their detections"
    )


@pytest.mark.slow
def test_two_detectors(tiny: Path, tiny_run: Path):
    result = retina("eval", "run", "run/last.safetensors", "--compare", "--json", *LOW, cwd=tiny)
    assert result.code == 0, result.err
    document = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (document["first"], document["second"], document["images"]) == ("run", "run/last.safetensors", 4)
    metrics = [json.loads(retina("eval", w, "--json", *LOW, cwd=tiny).out) for w in ("run", "run/last.safetensors")]
    for name, each in document["metrics"].items():
        first, second = (one["metrics"][name] for one in metrics)
        assert (each["first"], each["second"]) == (first, second)
        if each["change"] is not None:
            assert each["interval"][0] <= each["change"] + 1e-9 and math.isclose(each["change"], second - first)
    assert len(document["per_class"]) == CLASSES


def test_two_detectors_as_a_table(tiny: Path, tiny_run: Path):
    result = retina("eval", "run", "run", "--compare", *LOW, cwd=tiny)
    assert result.code == 0 and result.err == ""
    assert "run in fp32 compared with run in fp32: 4 images, 1000 random resamples" in result.out
    assert "nan" not in result.out and "better" not in result.out.split("verdict")[1]


def test_two_detectors_of_other_classes(tiny: Path, tiny_run: Path):
    result = retina("eval", "run", "coco", "--compare", cwd=tiny)
    assert result.code == 1 and len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("run", "run"), "got 2 detectors; name one, or add --compare to compare two"),
        (("run", "--compare"), "--compare needs two detectors; got 1"),
        (("a", "b", "c", "--compare"), "--compare needs two detectors; got 3"),
        (
            ("a", "b", "--compare", "--precision", "auto"),
            "--precision auto may differ between the two; with --compare, name fp32, bf16 or fp16",
        ),
        (("a", "b", "--compare", "--funnel"), "--funnel is for one detector; it cannot be combined with --compare"),
        (
            ("a", "b", "--compare", "--save-coco", "f"),
            "--save-coco is for one detector; it cannot be combined with --compare",
        ),
        (
            ("a", "--target-precision", "0.9"),
            "--target-precision sets what the thresholds must reach; add --thresholds FILE, --diagnose or --report DIR",
        ),
    ],
)
def test_options_that_do_not_go_together(arguments, message):
    result = retina("eval", *arguments)
    assert (result.code, result.out, result.err) == (2, "", f"retina: {message}\n")


@pytest.mark.parametrize("option", ["--target-precision", "--precision"])
@pytest.mark.parametrize("value", ["2", "0", "much"])
def test_a_precision_out_of_range(option, value):
    result = retina("eval", "a", option, value, "--diagnose")
    number = (option, value) != ("--precision", "much")
    expected = "a number from 0.01 to 1" if number else "fp32 or bf16 or fp16 or auto"
    assert result.code == 2 and f"{value!r} is not {expected}" in result.err


@pytest.mark.parametrize(
    "arguments, messages",
    [
        (
            ("--precision", "0.9"),
            "warning: --precision 0.9 is now --target-precision 0.9; the old name will be removed\n"
            "retina: --target-precision sets what the thresholds must reach; "
            "add --thresholds FILE, --diagnose or --report DIR\n",
        ),
        (
            ("--engine-precision", "fp16"),
            "warning: --engine-precision fp16 is now --precision fp16; the old name will be removed\n"
            "retina: --precision fp16: a.xml runs only in fp32 or bf16\n",
        ),
        (
            ("--precision", "0.9", "--target-precision", "0.8"),
            "retina: --precision 0.9 is the former name of --target-precision; use only --target-precision\n",
        ),
        (
            ("--precision", "fp32", "--engine-precision", "bf16"),
            "retina: --engine-precision is the former name of --precision; use only --precision\n",
        ),
    ],
)
def test_the_former_names_of_the_precisions(arguments, messages):
    result = retina("eval", "a.xml", *arguments)
    assert (result.code, result.out, result.err) == (2, "", messages)


def test_report(tiny: Path, tiny_run: Path, tmp_path: Path):
    result = retina("eval", "run", "--report", tmp_path / "new" / "page", *LOW, cwd=tiny)
    assert result.code == 0, result.err
    page = tmp_path / "new" / "page" / "index.html"
    assert result.err == f"wrote {page}\n"
    assert [file.name for file in page.parent.iterdir()] == ["index.html"]
    text = page.read_text()
    for part in ("red circle", "COCO", "TIDE", "Confusion", "Calibration", "data:image/jpeg;base64,"):
        assert part in text
    for title in ("Missed objects", "Errors (TIDE)"):
        assert title in result.out


def test_a_report_that_cannot_be_written_fails_at_once(tiny: Path, tiny_run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    result = retina("eval", "run", "--report", tmp_path / "file", cwd=tiny)
    assert result.code == 1 and result.out == ""
    file = tmp_path / "file"
    assert result.err == f"retina: {file}/index.html: cannot be written: {file} is a file\n"
