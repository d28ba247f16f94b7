"""The choice between fp32 and bf16, with given times: no test depends on which is faster."""

from pathlib import Path

import pytest
import torch
from helpers.processes import run
from helpers.support import openvino_has_bf16, skip_if_kernels_are_limited, write_training

from retinanet.inference.exported_model import openvino_core
from retinanet.inference.openvino_precision import fastest_openvino_precision, openvino_hint, openvino_precision
from retinanet.precision import (
    TURNS,
    faster,
    fastest_precision,
    name_precision,
    precision_beside_int8,
    shortest_times,
)

CPU = torch.device("cpu")
SCRIPT = Path(__file__).parent / "helpers" / "chosen_precision.py"


@pytest.mark.parametrize(
    ("times", "precision"),
    [((1, 0.5), "bf16"), ((1, 0.89), "bf16"), ((1, 0.91), "fp32"), ((1, 1), "fp32"), ((1, 10), "fp32")],
)
def test_bf16_must_be_faster_by_a_margin(times, precision):
    assert faster(lambda: None, lambda: None, lambda passes: times) == precision
    assert fastest_precision(CPU, 8, False, lambda passes: times) == precision


def test_passes_run_in_turns():
    taken = []
    times = shortest_times([lambda: taken.append("fp32"), lambda: taken.append("bf16")])
    assert taken == ["fp32", "bf16"] * (len(taken) // 2) and 2 <= len(taken) // 2 <= 1 + TURNS
    assert len(times) == 2 and all(seconds >= 0 for seconds in times)


@pytest.mark.parametrize("backward", [False, True])
def test_the_measurement_leaves_no_trace(backward: bool):
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    seen = []

    def times(passes):
        seen.append(torch.get_num_threads())
        return shortest_times(passes)

    assert fastest_precision(CPU, 8, backward, times) in ("fp32", "bf16") and seen == [1]
    assert torch.equal(torch.get_rng_state(), before[0])
    after = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    assert after == before[1:]


def test_only_a_cpu_is_measured():
    def times(passes):
        raise AssertionError("a GPU of Apple computes in fp32")

    assert fastest_precision(torch.device("mps"), 8, True, times) == "fp32"


def test_openvino_is_measured_where_it_has_bf16():
    skip_if_kernels_are_limited()
    import openvino

    core = openvino_core()
    for times, faster_one in (((1, 0.5), "bf16"), ((1, 1), "fp32")):
        found = fastest_openvino_precision(
            openvino, core, 8, lambda passes, times=times: [p() for p in passes] and times
        )
        assert found == (faster_one if openvino_has_bf16() else "fp32")
    pixels = openvino.opset13.parameter([1, 8], float)
    model = openvino.Model([openvino.opset13.relu(pixels)], [pixels], "relu")
    compiled = core.compile_model(model, "CPU", openvino_hint("fp32"))
    assert openvino_precision(openvino, compiled) == "fp32"


def test_the_name_of_a_precision_tells_the_layers_beside_int8():
    assert [name_precision("bf16", int8) for int8 in (False, True)] == ["bf16", "int8+bf16"]
    assert [name_precision("fp32", int8) for int8 in (False, True)] == ["fp32", "int8"]
    for precision in ("fp32", "bf16", "fp16"):
        assert {precision_beside_int8(name_precision(precision, int8)) for int8 in (False, True)} == {precision}


@pytest.mark.slow
def test_of_several_processes_the_first_decides(tmp_path: Path):
    write_training(
        tmp_path / "tiny.yaml",
        train=2,
        val=1,
        workers=0,
        sections="model: {backbone: resnet18, pretrained: false, fpn_channels: 8, head_channels: 8, head_depth: 0,\n"
        "        trunk_norm: gn}\n"
        "train: {epochs: 1, batch_size: 2, precision: auto}\n",
    )
    results = run(2, SCRIPT, tmp_path)
    assert [(result.code, result.out, result.err) for result in results] == [(0, "bf16 bf16\n", "")] * 2
