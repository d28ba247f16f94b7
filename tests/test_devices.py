"""The choice of a device."""

import os
from collections.abc import Iterator

import pytest
import torch

from retinanet.config_file import load_config
from retinanet.devices import pick_device
from retinanet.errors import ConfigError
from retinanet.training.events import Done, Event
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


def process() -> tuple[bool, str | None]:
    return torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")


def start(tiny, folder, deterministic: bool, seen: list) -> Iterator[Event]:
    """A run that notes the state of the process after each of its four steps."""
    changes = [f"train.deterministic={str(deterministic).lower()}", "data.short_side=64", "data.long_side=64"]
    config = load_config(tiny / "tiny.yaml", changes)
    return training_events(config, folder, stop=lambda: bool(seen.append(process())))


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_deterministic_algorithms_are_only_for_the_run(monkeypatch, tiny, tmp_path, workspace):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    before, inside = process(), {True: (True, workspace or ":4096:8"), False: (False, workspace)}
    for deterministic in (True, False):
        seen: list = []
        run = start(tiny, tmp_path / str(deterministic), deterministic, seen)
        while not seen:
            next(run)
            assert process() == before
        run.close()
        assert process() == before == (False, workspace) and set(seen) == {inside[deterministic]}


def test_runs_that_take_turns_keep_their_determinism(monkeypatch, tiny, tmp_path):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen: tuple[list, list, list] = ([], [], [])
    runs = [start(tiny, tmp_path / str(i), i < 2, seen[i]) for i in range(3)]
    while not all(seen):
        for run in runs:
            next(run)
    runs[0].close()  # it was the first to begin, and ends before the others
    for run in runs[1:]:
        assert isinstance([*run][-1], Done)
    assert set(seen[1]) == {(True, ":4096:8")} and set(seen[2]) == {(False, None)}
    assert len(seen[1]) >= 4 and process() == (False, None)
