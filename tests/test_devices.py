"""The choice of a device."""

import os

import pytest
import torch

from retinanet.config_file import load_config
from retinanet.devices import pick_device
from retinanet.errors import ConfigError
from retinanet.training.train import training_events


@pytest.mark.parametrize(
    "name", ["meta", "hpu", "privateuseone", "xla", "cuda:99", "", "cpu:x", "mtia", "vulkan", "\n"]
)
def test_a_device_that_is_not_here_names_those_that_are(name):
    with pytest.raises(ConfigError, match="^the device .* is not available; expected one of auto, cpu") as error:
        pick_device(name)
    assert "\n" not in str(error.value)


def test_a_cpu_is_always_here():
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_deterministic_algorithms_end_with_the_run(monkeypatch, tiny, tmp_path, workspace):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)

    def state() -> tuple[bool, str | None]:
        return torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")

    before = state()
    for value in ("true", "false"):
        changes = [f"train.deterministic={value}", "train.steps=1", "data.short_side=64", "data.long_side=64"]
        run = training_events(load_config(tiny / "tiny.yaml", changes), tmp_path / value)
        next(run)  # the plan, or a note before it
        assert state() == ((True, workspace or ":4096:8") if value == "true" else before)
        run.close()
        assert state() == before == (False, workspace)
