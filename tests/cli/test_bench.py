"""`retina bench`. No test looks at a time."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.support import Result, openvino_has_bf16, retina, skip_if_kernels_are_limited

STAGES = ("decode", "resize", "trunk", "FPN", "subnets", "decode + NMS")
EXPORTED_STAGES = ("decode", "resize", "network, decode + NMS")
RANDOM = "no WEIGHTS: measuring a RetinaNet with random weights\n"


@pytest.fixture
def here(in_process):
    return partial(in_process, "bench")


def cells(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]


def test_stages_of_random_weights(here):
    result = here("--size", 64, "--repeats", 2, "--json")
    assert (result.code, result.err) == (0, RANDOM)
    document = json.loads(result.out)
    assert [stage["stage"] for stage in document["stages"]] == list(STAGES)
    assert all(stage["ms"] > 0 for stage in document["stages"])
    assert document["images_per_second"] == pytest.approx(1000 / document["ms"])
    assert (document["weights"], document["trunk"], document["classes"], document["engine"]) == (
        None,
        "resnet50",
        80,
        "torch",
    )
    assert document["work"]["candidates"] == 3000 and document["work"]["detections"] == 100
    assert document["work"]["padded"] == {"width": 96, "height": 64}
    assert document["image"]["file"] is None and (document["image"]["width"], document["image"]["height"]) == (640, 480)
    assert document["repeats"] == 2 and document["peak_memory"] > 2**20
    assert set(document["machine"]["versions"]) == {"torch", "torchvision"} and document["machine"]["device"]
    assert document["precision"] == "fp32"


def test_stages_of_a_run_on_a_picture(tiny: Path, tiny_run: Path):
    picture = next((tiny / "shapes" / "val").iterdir())
    result = retina("bench", "run", "--repeats", 1, "--image", picture, "--precision", "auto", cwd=tiny)
    assert (result.code, result.err) == (0, "")
    rows = cells(result.out)
    assert [row[0] for row in rows] == [*STAGES, "total"]
    assert rows[1][1] == "to 64 x 64, padded to 64 x 64"  # tiny.yaml's short side
    assert rows[4][1] == "classes and boxes of 774 anchors"
    assert "scores above 0.05; " in rows[5][1]
    assert re.match("RetinaNet resnet18, torch (fp32|bf16), run: one run\n", result.out)
    assert "peak memory of the process: " in result.out


def test_an_exported_model_is_measured_without_torch(onnx_file: Path, tmp_path: Path):
    arguments = ["retina", "bench", str(onnx_file), "--size", "96", "--repeats", "1", "--json"]
    program = (
        f"import sys; sys.argv = {arguments!r}\nfrom retinacli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert [stage["stage"] for stage in document["stages"]] == list(EXPORTED_STAGES)
    assert (document["engine"], document["trunk"], document["work"]["candidates"]) == ("onnx", "resnet18", None)
    assert document["precision"] == "fp32"
    assert document["work"]["padded"] == {"width": 128, "height": 96} and not document["exported_for_this"]


@pytest.mark.slow
def test_table_1e_of_an_exported_model(here, onnx_file: Path):
    result = here(onnx_file, "--scale", 64, 32, "--repeats", 1)
    assert (result.code, result.err) == (0, "")
    rows = cells(result.out)
    assert [row[:3] for row in rows] == [["resnet18", "64", "96 x 64"], ["resnet18", "32", "64 x 32"]]
    assert all(row[3] == "\u2013" and float(row[6]) >= 0 and row[7:] == ["\u2013", "\u2013"] for row in rows)


@pytest.mark.slow
def test_an_engine_gets_what_it_runs(tiny_run: Path, tmp_path: Path):
    skip_if_kernels_are_limited()
    result = retina("bench", tiny_run, "--engine", "openvino", "--precision", "bf16", "--repeats", 1, cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.err.splitlines() == ["exporting for openvino, into a temporary folder", "converting", "comparing"]
    assert [row[0] for row in cells(result.out)] == [*EXPORTED_STAGES, "total"]
    used = "bf16" if openvino_has_bf16() else "fp32"
    assert f"openvino {used}" in result.out and "peak memory of the process, including the export: " in result.out
    assert not list(tmp_path.iterdir())
    result = retina("bench", tiny_run, "--device", "cpu", "--precision", "bf16", "--repeats", 1, cwd=tmp_path)
    assert (result.code, result.err) == (0, "") and ", torch bf16" in result.out


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 101])
def test_faster_rcnn_has_the_same_depth_and_the_papers_pair_only_where_it_is_that(here, depth):
    result = here("--size", 600, "--repeats", 1, "--against", "faster-rcnn", "--depth", depth)
    assert (result.code, result.err) == (0, RANDOM)
    ours, theirs = cells(result.out)
    assert ours[:3] == [f"RetinaNet resnet{depth}, torch fp32", "80", "800 x 608"]
    assert theirs[:3] == [f"torchvision's fasterrcnn_resnet{depth}_fpn, torch fp32", "80", "800 x 608"]
    assert "times as long (median of the pairs)" in result.out and "the backbones differ" not in result.out
    pair = "RetinaNet 122 ms at 600 pixels, Faster R-CNN 172 ms at equal AP and the 800 pixels of its own paper; "
    assert (pair in result.out) == (depth == 101)


@pytest.mark.slow
def test_torchvision_has_no_such_backbone(here, tiny: Path):
    assert retina("train", "tiny.yaml", "--epochs", 1, "-o", "lc", cwd=tiny).code == 0
    result = here(tiny / "lc", "--repeats", 1, "--against", "faster-rcnn")
    assert (result.code, result.err) == (0, "") and "fasterrcnn_resnet50_fpn" in result.out
    assert "the backbones differ: timm:lcnet_035 and resnet50" in result.out


def test_against_the_same_architecture(here, tiny_run: Path):
    result = here(tiny_run, "--repeats", 1, "--against", "torchvision")
    assert (result.code, result.err) == (0, "")
    assert "retinanet_resnet18_fpn" in result.out and "172 ms" not in result.out and "differ" not in result.out
    assert result.out.count("64 x 1333") == 2
    document = json.loads(here(tiny_run, "--repeats", 1, "--against", "ssd", "--json").out)
    assert (document["against"]["name"], document["against"]["trunk"]) == ("ssd300_vgg16", "vgg16")
    assert document["against"]["padded"] == {
        "width": 300,
        "height": 300,
    }
    assert document["ratio"] == pytest.approx(document["against_ms"] / document["ms"])  # of one pair
    assert document["trunk"] == "resnet18" and document["classes"] == 6
    ours, theirs = document["detectors"]
    assert (ours["max_detections"], theirs["max_detections"], document["resolutions_differ"]) == (100, 200, True)
    assert theirs["resolution"] == {"short_side": 300, "long_side": 300} and theirs["weights"] > 20e6
    assert (ours["ms_per_image"], theirs["ms_per_image"]) == (document["ms"], document["against_ms"])


@pytest.mark.slow
def test_table_1e_of_random_weights(here):
    result = here("--depth", 18, 34, "--scale", 32, 64, "--repeats", 1, "--json")
    assert (result.code, result.err) == (0, RANDOM)
    document = json.loads(result.out)
    found = [(row["trunk"], row["scale"], row["AP"], row["paper"]) for row in document["rows"]]
    assert found == [(f"resnet{depth}", scale, None, None) for depth in (18, 34) for scale in (32, 64)]
    assert all(row["work"]["candidates"] == 3000 for row in document["rows"]) and "trunk" not in document


@pytest.mark.slow
def test_one_depth_is_a_table_with_the_papers_numbers(here):
    """At 400 pixels, the least that the paper has."""
    result = here("--depth", 50, "--scale", 400, "--repeats", 1)
    assert (result.code, result.err) == (0, RANDOM)
    [row] = cells(result.out)
    assert row[:6] == ["resnet50", "400", "544 x 416", "38.0 M", "3,000", "100"] and row[7:] == ["64", "30.5"]


@pytest.mark.slow
def test_table_1e_of_a_run_has_its_ap(here, tiny_run: Path):
    ap = []
    for size in ((), ("--set", "data.short_side=32", "--set", "data.long_side=53")):
        ap.append(json.loads(retina("eval", tiny_run, "--json", *size).out)["metrics"]["AP"])
    result = here(tiny_run, "--scale", 64, 32, "--repeats", 1, "--json")
    assert (result.code, result.err) == (0, "")
    assert [(row["trunk"], row["scale"]) for row in json.loads(result.out)["rows"]] == [
        ("resnet18", 64),
        ("resnet18", 32),
    ]
    assert [row["AP"] for row in json.loads(result.out)["rows"]] == ap


def test_table_1e_without_data(here, tiny: Path, tmp_path: Path):
    from retinanet.benchmark.random_detector import save_random_detector
    from retinanet.config.schema import DataConfig

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    save_random_detector(tmp_path / "r.safetensors", 18, image, DataConfig(short_side=64, long_side=107))
    result = here("r.safetensors", "--scale", 64, "--repeats", 1)
    assert result.code == 0
    assert result.err.startswith("AP is not measured without data; --data CONFIG names a data set: data.val is not set")
    assert result.err.count("\n") == 1 and len(cells(result.out)[0]) == 9
    result = here("r.safetensors", "--scale", 64, "--repeats", 1, "--data", tiny / "tiny.yaml")
    assert result.code == 1 and result.err.startswith("retina: r.safetensors does not know the classes ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["m.xml", "--engine", "onnx"], "--engine onnx: m.xml is a model for openvino"),
        (["m.onnx", "--engine", "torch"], "--engine torch: m.onnx is a model for onnx"),
        (["--engine", "openvino", "--precision", "fp16"], "--precision fp16: openvino runs only in fp32 or bf16"),
        (["m.onnx", "--precision", "bf16"], "--precision bf16: onnx runs only in fp32"),
        (["--engine", "onnx", "--device", "cuda"], "--device cuda: onnx runs only on the CPU"),
        (["--depth", "51"], "--depth 51: there is no such ResNet; expected 18, 34, 50, 101, 152"),
        (["run", "--depth", "50"], "--depth is for random weights; it cannot be combined with run"),
        (["--size", "64", "--scale", "64"], "--size sets one size, --scale the sizes of a table; use only one of them"),
        (
            ["--against", "ssd", "--scale", "64"],
            "--against compares at one size and depth; use --size N and at most one --depth",
        ),
        (
            ["--against", "ssd", "--depth", "50", "101"],
            "--against compares at one size and depth; use --size N and at most one --depth",
        ),
        (["run", "--data", "x"], "--data sets where the table's AP is measured; it needs WEIGHTS and --scale"),
    ],
)
def test_options_that_do_not_go_together(here, given: list[str], message: str):
    assert here(*given) == Result(2, "", f"retina: {message}\n")


@pytest.mark.parametrize("given", [["--size", "0"], ["--size", "-5"], ["--scale", "31"], ["--repeats", "0"]])
def test_numbers_out_of_range(here, given: list[str]):
    result = here(*given)
    assert (result.code, result.out) == (2, "") and f"Invalid value for '{given[0]}'" in result.err


def test_what_is_not_there(here):
    assert here("nowhere", "--repeats", 1) == Result(
        1, "", "retina: nowhere: no such file or folder; expected a checkpoint or the folder of a retina run\n"
    )
    result = here("nowhere", "--image", "no.jpg")
    assert result.code == 1 and result.err.startswith("retina: no.jpg: no such image file")
