"""Too little memory ends each command with one line that says what needs less."""

import subprocess
from pathlib import Path

import pytest
from helpers.support import RETINA, retina

LARGE = ("--set", "data.short_side=8000", "--set", "data.long_side=8192")
LIMITED = [  # commands that need some 10 GB of addresses
    (("eval", "run", *LARGE), "a smaller --batch-size, --set data.short_side=N or fewer data.workers need less"),
    (("loss-plot", "--cdf", "run", *LARGE), "--set data.short_side=N or fewer data.workers need less"),
    (("bench", "run", "--size", "8192"), "a smaller --size or --scale needs less"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "advice"), LIMITED)
def test_a_process_that_may_take_seven_gigabytes(tiny: Path, tiny_run: Path, arguments, advice):
    command = ["sh", "-c", 'ulimit -v 7000000; exec "$0" "$@"', RETINA, *arguments]
    done = subprocess.run(command, cwd=tiny, capture_output=True, text=True, timeout=300)
    *warned, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout, last) == (1, "", f"retina: out of memory; {advice}")
    assert all(line.startswith("warning: run: resizes images to up to ") for line in warned) and len(warned) <= 1


ERRORS = [
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    OSError(12, "Cannot allocate memory"),
]
COMMANDS = [
    ("predict", "shapes/val", "-w", "run"),
    ("eval", "run"),
    ("export", "run", "--to", "onnx", "-o", "new.onnx"),
    ("bench", "run"),
    ("loss-plot", "--cdf", "run", "-o", "new.png"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_each_command_says_what_needs_less(tiny: Path, tiny_run: Path, monkeypatch, arguments):
    raised = iter(ERRORS)

    def fail(*_: object, **__: object) -> None:
        raise next(raised)

    monkeypatch.setattr("retinanet.model.retinanet.RetinaNet.forward", fail)
    monkeypatch.setattr("retinanet.export.onnx_graph.make_graph", fail)
    before = sorted(tiny.iterdir())
    for _ in ERRORS:
        result = retina(*arguments, cwd=tiny)
        *steps, line = result.err.splitlines()
        assert (result.code, result.out) == (1, "") and steps in ([], ["converting"])
        words = {"export": "end other programs", "predict": "a smaller --batch-size or smaller images need less"}
        assert line.startswith("retina: out of memory; ")
        assert line.endswith(words.get(arguments[0], " less"))
    assert sorted(tiny.iterdir()) == before


def test_a_killed_worker_ends_an_evaluation_with_one_line(tiny: Path, tiny_run: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Killed. "
        )  # wherever the run is, by a signal

    monkeypatch.setattr("retinanet.model.retinanet.RetinaNet.forward", fail)
    result = retina("eval", "run", cwd=tiny)
    told = (
        "retina: DataLoader worker (pid 7) is killed by signal: Killed.; the system kills a worker if memory runs out; "
    )
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(told) and result.err.endswith(" need less\n")


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to allocate 4096 bytes of memory"), RuntimeError("Exception: std::bad_alloc")]
)
def test_an_exported_model_without_memory_is_not_called_damaged(tiny: Path, onnx_file: Path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("onnxruntime.InferenceSession.run", fail)
    result = retina("predict", "shapes/val", "-w", onnx_file, cwd=tiny)
    told = "retina: out of memory; a smaller --batch-size or smaller images need less\n"
    assert (result.code, result.out, result.err) == (1, "", told)
