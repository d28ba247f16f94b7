"""Exported models against torch: the same detections from one file for any batch, sizes and thresholds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.support import skip_if_kernels_are_limited

from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_from_dict
from retinanet.detections import NO_DETECTIONS
from retinanet.errors import CheckpointError, ConfigError, VerificationError
from retinanet.export.agreement import Agreement, verify
from retinanet.export.export import SUFFIX, export
from retinanet.inference import exported_model
from retinanet.inference.detector import load
from retinanet.inference.exported_model import open_exported
from retinanet.model.retinanet import make_model

SIZES = [(128, 128), (60, 200), (97, 41), (333, 250)]


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.labels.tolist() == b.labels.tolist()
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-2)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        assert (a.boxes.dtype, a.scores.dtype, a.labels.dtype) == (b.boxes.dtype, b.scores.dtype, b.labels.dtype)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_detections_equal_torchs(exported: Path, tiny_run: Path, batch: int):
    ours, theirs = (load(path, score_threshold=0.0001, max_detections=20) for path in (exported, tiny_run))
    for start in range(0, len(SIZES), batch):
        images = pictures(*SIZES[start : start + batch])
        found = ours.predict_batch(images)
        assert all(len(each) == 20 for each in found)
        assert_equal(found, theirs.predict_batch(images))


def test_limits_and_thresholds_are_given_at_run_time(exported: Path, tiny_run: Path):
    images = pictures((128, 128), (90, 120))
    every = load(tiny_run, score_threshold=0.0001).predict_batch(images)
    scores = np.concatenate([found.scores for found in every])
    middle = float(np.sort(scores)[len(scores) // 2 : len(scores) // 2 + 2].mean())
    for limit in (1, 7, 1000):
        ours, theirs = (load(path, score_threshold=middle, max_detections=limit) for path in (exported, tiny_run))
        assert_equal(ours.predict_batch(images), theirs.predict_batch(images))
    ours, theirs = (load(path, score_threshold=0.0001, max_detections=5) for path in (exported, tiny_run))
    ours.thresholds = theirs.thresholds = (middle, 0.0001, 1.0, 0.99, middle, 0.0001)
    assert_equal(ours.predict_batch(images), theirs.predict_batch(images))
    assert_equal(ours.predict_batch(images, [1, 4]), theirs.predict_batch(images, [1, 4]))


def test_nothing_found(exported: Path):
    [found] = load(exported, score_threshold=1.0).predict_batch(pictures((64, 64)))
    assert len(found) == 0 and found.boxes.shape == (0, 4)


def test_the_metadata_are_the_checkpoints(exported: Path, tiny_run: Path):
    ours, theirs = load(exported), load(tiny_run)
    data = replace(ours.data, root=theirs.data.root)  # the file may be of the same run in another process of the tests
    assert (ours.classes, ours.category_ids, data, ours.settings) == (
        theirs.classes,
        theirs.category_ids,
        theirs.data,
        theirs.settings,
    )


def test_onnx_inputs_have_the_checkpoints_defaults(exported: Path, tiny_run: Path):
    if exported.suffix != ".onnx":
        pytest.skip("OpenVINO has no defaults")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["images", "sizes", "original_sizes"]
    [image] = pictures((64, 64))
    size = np.array([[64, 64]])
    *_, count = session.run(None, {"images": image[None], "sizes": size, "original_sizes": size})
    assert count.tolist() == [len(load(tiny_run).predict(image, 0.05))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"detect": {"clip_first": False, "top_k": 50}, "data": {"resize": "pil"}},
        {
            "data": {"resize": "float"},
            "anchors": {"whole_pixels": True},
            "model": {"p6_from": "p5", "head_norm": "gn", "level_scales": True, "head_depth": 1},
        },
        pytest.param({"model": {"backbone": "efficientnet_lite0"}}, marks=pytest.mark.slow),
        pytest.param({"model": {"backbone": "resnet50", "stride_in_1x1": True}}, marks=pytest.mark.slow),
    ],
    ids=["detectron2", "torchvision", "tensorflow's padding", "stride in 1x1"],
)
@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_every_setting_can_be_exported(monkeypatch, tmp_path: Path, values: dict, to):
    import torch

    if to == "openvino":
        skip_if_kernels_are_limited()
    small = {"backbone": "resnet18", "pretrained": False, "fpn_channels": 16, "head_channels": 16, "head_depth": 0}
    sides = {"short_side": 96, "long_side": 160}
    values = values | {"model": small | values.get("model", {}), "data": sides | values.get("data", {})}
    torch.manual_seed(0)
    config = config_from_dict(values, "test")
    model = make_model(config.model, config.anchors, 3, pretrained=False).eval()
    if model.box_scales is not None:
        torch.nn.init.uniform_(model.box_scales, 2, 4)
    monkeypatch.setattr(
        "retinanet.export.export.open_model", lambda path: (model, Metadata(config, ("a", "b", "c"), (1, 2, 3)))
    )
    target = tmp_path / f"model{SUFFIX[to]}"
    agreement = export("here", to, target).agreement
    assert agreement.detections >= 20
    # float: OpenCV scales the pixels in place of torch
    assert agreement.boxes < 1e-2 and agreement.scores < 1e-4


def test_a_file_that_finds_something_else_is_not_left(monkeypatch, tiny_run: Path, tmp_path: Path):
    monkeypatch.setattr("retinanet.export.onnx_detection.MAX_LOG_SCALE", -1.0)
    with pytest.raises(VerificationError, match=r"x.onnx: \d+ of \d+ candidates differ from torch's by more than 0.01"):
        export(tiny_run, "onnx", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_verification_counts_what_is_missing(tiny_run: Path):
    detector = load(tiny_run)
    images = pictures((128, 128), (100, 128))
    agreement = verify(detector, detector, images, Path("x"))
    assert agreement == Agreement(agreement.detections, 0, 0, 0) and agreement.detections >= 20
    none = load(tiny_run)
    none.predict_batch = lambda images, labels=None: [NO_DETECTIONS] * len(images)
    with pytest.raises(VerificationError):
        verify(detector, none, images, Path("x"))


def test_faults_of_files(exported: Path, tmp_path: Path):
    broken = tmp_path / f"broken{exported.suffix}"
    broken.write_bytes(exported.read_bytes()[:1000])
    if exported.suffix == ".xml":
        with pytest.raises(CheckpointError, match=r"its weights, broken.bin, are not in the same folder"):
            open_exported(broken)
        broken.with_suffix(".bin").write_bytes(exported.with_suffix(".bin").read_bytes())
    with pytest.raises(CheckpointError, match="broken.* is not a readable") as fault:
        open_exported(broken)
    assert "\n" not in str(fault.value)
    with pytest.raises(CheckpointError, match="no such file"):
        open_exported(tmp_path / f"none{exported.suffix}")
    with pytest.raises(ConfigError, match="runs on the cpu"):
        load(exported, "cuda")


def test_another_programs_model(exported: Path, tmp_path: Path):
    import onnx
    import openvino

    value = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", kind, [1])], [value("y", kind, [1])]
    )
    foreign = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)]), foreign)
    if exported.suffix == ".xml":
        openvino.save_model(openvino.Core().read_model(foreign), tmp_path / "foreign.xml")
    with pytest.raises(
        CheckpointError, match="is a model of another program; expected a model that retina export wrote"
    ):
        open_exported(tmp_path / f"foreign{exported.suffix}")


def test_bf16_of_an_exported_model_is_openvinos(exported: Path):
    if exported.suffix == ".onnx":
        with pytest.raises(ConfigError, match="run.onnx runs only in fp32"):
            load(exported, precision="bf16")
    else:
        skip_if_kernels_are_limited()
        [found] = load(exported, score_threshold=0.0001, precision="bf16").predict_batch(pictures((64, 64)))
        [exact] = load(exported, score_threshold=0.0001).predict_batch(pictures((64, 64)))
        assert found.scores == pytest.approx(exact.scores, abs=0.01)


def test_a_precision_that_openvino_cannot_compute(openvino_file: Path, monkeypatch: pytest.MonkeyPatch):
    core = exported_model.openvino_core()
    broken = Mock(wraps=core, **{"compile_model.side_effect": RuntimeError("no supported primitive")})
    monkeypatch.setattr(exported_model, "openvino_core", lambda: broken)
    with pytest.raises(CheckpointError, match="run.xml: OpenVINO cannot compute it in bf16: no supported primitive"):
        load(openvino_file, precision="bf16")


@pytest.mark.slow
def test_int8_keeps_ap(tiny: Path, tiny_run: Path, tmp_path: Path):
    skip_if_kernels_are_limited()
    for to, name in (("openvino", "int8.xml"), ("onnx", "x.onnx")):  # no name may be that of a file between
        done = export(tiny_run, to, tmp_path / name, "int8", str(tiny / "tiny.yaml"))
        assert done.ap is not None and done.images == 4
        assert abs(done.ap[1] - done.ap[0]) < 0.05
        found = load(tmp_path / name, score_threshold=0.0001).predict_batch(pictures((64, 64)))
        assert len(found[0])


def test_a_missing_extra_is_one_line(monkeypatch, tiny_run: Path, tmp_path: Path):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r'onnxscript is not installed; pip install "retina-detector\[onnx\]"'):
        export(tiny_run, "onnx", tmp_path / "x.onnx")


def test_a_signal_is_heard_after_models_were_closed(exported: Path):
    # each of OpenVINO's cores puts the signals' stack of the one before back, which may be gone
    script = f"""
import signal
from retinanet.inference import exported_model
from retinanet.inference.detector import load
signal.signal(signal.SIGINT, signal.default_int_handler)
first, second = load({str(exported)!r}), load({str(exported)!r})
del first
del second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_a_model_without_end_can_be_stopped(onnx_file: Path, tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(onnx_file)
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.INT64, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.INT64, None),
        ],
    )
    producer = next(node for node in model.graph.node if "count" in node.output)
    producer.output[0] = "finite"
    model.graph.initializer.append(true)
    model.graph.node.append(helper.make_node("Loop", ["", "true", "finite"], ["count"], body=body))
    onnx.save(model, tmp_path / "loop.onnx")
    script = f"""
import signal, threading, numpy
from retinanet.inference import exported_model
from retinanet.inference.detector import load
detector = load({str(tmp_path / "loop.onnx")!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
main = threading.get_ident()
threading.Timer(1, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
try:
    detector.predict(numpy.zeros((64, 64, 3), numpy.uint8))
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
