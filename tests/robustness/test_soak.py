"""Long work in one process: memory does not grow, and no file or process is left open."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "helpers" / "soak.py"


def soak(*arguments: object) -> dict:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    # each of several threads would have its own memory pool, which takes 100 epochs to fill
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=one_thread)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_two_thousand_predictions(tiny: Path, tiny_run: Path):
    found = soak("predict", tiny_run, tiny / "shapes" / "val" / "0.png", 2000)
    assert found["times"] == 2000
    assert found["slope"] < 500  # bytes per prediction: a kept image alone has 49,152
    assert found["left"] == [] and found["children"] == []


@pytest.mark.slow
def test_sixty_epochs(tiny: Path, tmp_path: Path):
    found = soak("train", tiny / "tiny.yaml", tmp_path / "run", 60)
    assert found["times"] == 60
    # bytes per epoch, over the last twenty: memory is constant in most and grows by some megabytes in a few
    assert found["typical"] < 20_000  # the pictures of one have 98,304
    assert found["slope"] < 1_000_000  # the weights, with optimizer and average, have 2,000,000
    assert found["left"] == [] and found["children"] == []
