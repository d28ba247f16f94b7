"""The examples that are programs."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.support import retina

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def images(tiny: Path, tmp_path: Path) -> Path:
    """A folder of three images, of which one cannot be read."""
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((tiny / "shapes" / "val" / name).read_bytes())
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    return tmp_path


def lines_are_those_of_predict(lines: list[str], images: Path, run: Path) -> None:
    found = [json.loads(line) for line in lines]
    assert [Path(line["file"]).name for line in found] == ["0.png", "1.png", "bad.png"]
    expected = json.loads(retina("predict", images, "-w", run, "--score", "0.009", "--json").out)
    assert [line["position"] for line in found] == [0, 1, 2]
    assert found[2] == {"position": 2, "file": str(images / "bad.png"), "fault": expected["faults"][0]}
    for ours, theirs in zip(found, expected["images"], strict=False):
        scores, same = ([each["score"] for each in image["detections"]] for image in (ours, theirs))
        assert scores == pytest.approx(same, abs=1e-4) and len(scores) > 10


def test_the_class_for_ray(images: Path, tiny_run: Path):
    detect = runpy.run_path(str(EXAMPLES / "ray_data.py"))["Detect"](str(tiny_run), "cpu", 0.009)
    files = [str(images / name) for name in ("0.png", "1.png", "bad.png")]
    rows = detect({"position": np.arange(3), "file": np.array(files)})
    lines_are_those_of_predict(rows["line"].tolist(), images, tiny_run)


@pytest.mark.slow
def test_ray_detects_in_a_folder(images: Path, tiny_run: Path):
    pytest.importorskip("ray", reason="Ray is not installed")
    program = [sys.executable, str(EXAMPLES / "ray_data.py"), str(tiny_run), str(images), str(images / "lines")]
    options = ["--actors", "2", "--batch-size", "2", "--score", "0.009"]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([*program, *options], env=environment, capture_output=True, check=True, timeout=300)
    lines_are_those_of_predict((images / "lines").read_text().splitlines(), images, tiny_run)
