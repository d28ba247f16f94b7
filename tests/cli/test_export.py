"""`retina export`, and `retina predict` and `retina eval` with what it wrote."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.support import openvino_has_bf16, retina, skip_if_kernels_are_limited

SCORE = ("--score", "0.0001", "--max-detections", "3")


@pytest.fixture(scope="module")
def images(tiny: Path) -> Path:
    return tiny / "shapes" / "val"


def predicted(images: Path, weights: Path, *options: object) -> list[dict]:
    result = retina("predict", images, "-w", weights, "--json", *options)
    assert (result.code, result.err) == (0, ""), result.err
    return json.loads(result.out)["images"]


@pytest.mark.parametrize(
    "options", [SCORE, (*SCORE, "--batch-size", 3), (*SCORE, "--classes", "red square"), (), ("--thresholds", "FILE")]
)
def test_predict_gives_what_torch_gives(exported: Path, images: Path, tiny_run: Path, tmp_path: Path, options):
    if "FILE" in options:
        names = ["red circle", "blue circle", "red square", "green square", "green triangle", "blue triangle"]
        lines = [f"- {{label: {name}, threshold: {0.0001 if i % 2 else 1}}}\n" for i, name in enumerate(names)]
        (tmp_path / "t.yaml").write_text("classes:\n" + "".join(lines))
        options = ("--thresholds", tmp_path / "t.yaml", "--max-detections", 3)
    for one, two in zip(predicted(images, exported, *options), predicted(images, tiny_run, *options), strict=True):
        assert len(one["detections"]) == len(two["detections"])
        assert len(one["detections"]) == (3 if options else 0)
        for a, b in zip(one["detections"], two["detections"], strict=True):
            assert (a["label"], a["category_id"]) == (b["label"], b["category_id"])
            assert a["box"] == pytest.approx(b["box"], abs=1e-2)
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_predict_does_without_torch(exported: Path, images: Path, tmp_path: Path):
    arguments = ["retina", "predict", str(images), "-w", str(exported), *SCORE, "--vis", "-o", str(tmp_path / "vis")]
    arguments += ["--save-coco", str(tmp_path / "results.json")]
    program = (
        f"import sys; sys.argv = {arguments!r}\nfrom retinacli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Detections" in done.stdout and done.stderr == f"wrote 4 annotated images to {tmp_path / 'vis'}\n"
    assert len(json.loads((tmp_path / "results.json").read_text())) == 12
    assert len(list((tmp_path / "vis").iterdir())) == 4


def test_precision_and_device(exported: Path, images: Path):
    if exported.suffix == ".xml":
        skip_if_kernels_are_limited()
    result = retina("predict", images, "-w", exported, "--precision", "bf16", "--json", *SCORE)
    if exported.suffix == ".onnx":
        message = f"retina: --precision bf16: {exported} runs only in fp32\n"
        assert (result.code, result.out, result.err) == (2, "", message)
    else:
        assert (result.code, result.err) == (0, "")
        document = json.loads(result.out)
        assert document["precision"] == ("bf16" if openvino_has_bf16() else "fp32")
        assert all(len(image["detections"]) == 3 for image in document["images"])
    result = retina("predict", images, "-w", exported, "--precision", "auto", *SCORE)
    allowed = ("fp32", "bf16") if exported.suffix == ".xml" and openvino_has_bf16() else ("fp32",)
    assert result.code == 0 and result.out.splitlines()[0].removeprefix("Detections in ") in allowed
    result = retina("predict", images, "-w", exported, "--device", "cuda")
    assert (result.code, result.err) == (
        2,
        f"retina: --device cuda: the exported model {exported} runs only on the CPU\n",
    )


def test_refusals(exported: Path, tiny_run: Path, tmp_path: Path):
    to = "onnx" if exported.suffix == ".onnx" else "openvino"
    result = retina("export", tiny_run, "--to", to, "-o", exported)
    assert (result.code, result.err) == (1, f"retina: {exported}: already exists; choose another file with -o\n")
    result = retina("export", tiny_run, "--to", to, "-o", "x.pt", cwd=tmp_path)
    assert (result.code, result.err) == (2, f"retina: -o x.pt: expected a name that ends in {exported.suffix}\n")
    broken = tmp_path / exported.name
    broken.write_bytes(exported.read_bytes()[:999])
    broken.with_suffix(".bin").write_bytes(b"")
    result = retina("predict", tmp_path, "-w", broken)
    assert result.code == 1 and result.out == ""
    assert result.err.startswith(f"retina: {broken}: is not a readable ") and result.err.count("\n") == 1


@pytest.mark.slow
def test_what_differs_exits_3(tiny_run: Path, tmp_path: Path):
    program = (
        f"import sys; sys.argv = ['retina', 'export', {str(tiny_run)!r}, '--to', 'onnx', '-o', 'x.onnx']\n"
        "import retinanet.export.agreement\nretinanet.export.agreement.MISMATCHES = -1\n"
        "from retinacli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3 and list(tmp_path.iterdir()) == []
    *_, last = done.stderr.splitlines()
    assert last.startswith("retina: x.onnx: ") and last.endswith("in logits; no file was written")


@pytest.mark.slow
def test_int8_reports_the_ap(tiny: Path, tiny_run: Path, tmp_path: Path):
    options = ("--precision", "int8", "--data", tiny / "tiny.yaml", "--json")
    result = retina("export", tiny_run, "--to", "openvino", *options, cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.err.splitlines() == ["converting", "comparing", "quantizing", "measuring AP"]
    document = json.loads(result.out)
    assert document["file"] == "run.xml" and document["ap"]["images"] == 4
    result = retina("predict", tiny / "shapes" / "val", "-w", tmp_path / "run.xml", *SCORE)
    assert result.code == 0 and result.out.startswith("Detections in int8\n")


SURE_OF_LITTLE = ("--set", "detect.score_threshold=0.0001")


def evaluated(tiny: Path, weights: object, *options: object) -> tuple[dict, list[dict]]:
    """The document of `retina eval`, and the detections that it saved."""
    file = tiny / "found.json"
    result = retina("eval", weights, "--json", "--save-coco", file, *SURE_OF_LITTLE, *options, cwd=tiny)
    assert (result.code, result.err) == (0, ""), result.err
    return json.loads(result.out), json.loads(file.read_text())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), marks=pytest.mark.slow),
        ("--batch-size", 3, "--split", "train"),
        pytest.param(("--data", "two.yaml"), marks=pytest.mark.slow),
    ],
)
def test_eval_gives_what_torch_gives(exported: Path, tiny: Path, tiny_run: Path, options):
    (tiny / "two.yaml").write_text("data: {root: shapes, train: train, val: val, classes: [red square, blue circle]}\n")
    (ours, found), (theirs, expected) = (evaluated(tiny, w, "--reference", *options) for w in (exported, tiny_run))
    assert ours["reference"]["equal"]
    assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=1e-3)
    for one, two in zip(ours["per_class"], theirs["per_class"], strict=True):
        assert (one["label"], one["objects"]) == (two["label"], two["objects"])
        assert one["AP"] == pytest.approx(two["AP"], abs=1e-3)
    assert len(found) == len(expected) > 20
    rows, others = (
        np.array([[d["image_id"], d["category_id"], *d["bbox"], 100 * d["score"]] for d in part])
        for part in (found, expected)
    )
    # of two whose scores differ by a rounding error, either may be the last that is kept
    assert np.mean(np.abs(rows[:, None] - others).max(axis=2).min(axis=1) < 1e-2) > 0.97


def test_eval_explains_what_needs_no_logits(exported: Path, tiny: Path, tmp_path: Path):
    options = ("--diagnose", "--thresholds", tmp_path / "t.yaml", "--report", tmp_path / "report")
    result = retina("eval", exported, *options, *SURE_OF_LITTLE, cwd=tiny)
    assert result.code == 0, result.err
    assert result.err.splitlines() == [
        f"wrote {tmp_path / 't.yaml'}; use it: retina predict IMAGE -w {exported} --thresholds {tmp_path / 't.yaml'}",
        f"wrote {tmp_path / 'report' / 'index.html'}",
    ]
    assert "Missed objects" not in result.out + (tmp_path / "report" / "index.html").read_text()


def test_eval_compares_an_exported_model_with_its_checkpoint(exported: Path, tiny: Path, tiny_run: Path):
    result = retina("eval", tiny_run, exported, "--compare", "--json", *SURE_OF_LITTLE, cwd=tiny)
    assert (result.code, result.err) == (0, ""), result.err
    changes = [each for each in json.loads(result.out)["metrics"].values() if each["change"] is not None]
    assert changes and all(abs(x) < 1e-3 for each in changes for x in (each["change"], *each["interval"]))


def test_eval_in_bf16(exported: Path, tiny: Path):
    if exported.suffix == ".xml":
        skip_if_kernels_are_limited()
    result = retina("eval", exported, "--precision", "bf16", "--json", cwd=tiny)
    if exported.suffix == ".onnx":
        message = f"retina: --precision bf16: {exported} runs only in fp32\n"
        assert (result.code, result.out, result.err) == (2, "", message)
    else:
        assert (result.code, result.err) == (0, "")
        assert json.loads(result.out)["precision"] == ("bf16" if openvino_has_bf16() else "fp32")


def test_what_eval_refuses(exported: Path, tiny: Path, tiny_run: Path):
    for options, code, message in [
        (
            ("--funnel",),
            2,
            f"--funnel needs every score, but {exported} gives only the best; name its checkpoint",
        ),
        (("--device", "cuda"), 2, f"--device cuda: the exported model {exported} runs only on the CPU"),
        (("--set", "detect.top_k=10"), 1, f"detect.top_k: is fixed in {exported}; it can be set for a checkpoint"),
    ]:
        result = retina("eval", exported, *options, cwd=tiny)
        assert (result.code, result.out, result.err) == (code, "", f"retina: {message}\n")
    annotations = tiny / "shapes" / "annotations"
    (annotations / "dogs.json").write_text(
        (annotations / "instances_val.json").read_text().replace("red circle", "dog")
    )
    (tiny / "dogs.yaml").write_text("data: {root: shapes, val: {images: val, annotations: annotations/dogs.json}}\n")
    result = retina("eval", exported, "--data", "dogs.yaml", cwd=tiny)
    assert result.code == 1 and result.err.count("\n") == 1
    assert result.err.startswith(f"retina: {exported} does not know the classes dog of the data; ")
    assert f"; {exported} was trained on red circle (10), " in result.err
