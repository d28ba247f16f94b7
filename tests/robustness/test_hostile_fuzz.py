"""Readers of users' files under random inputs: a few of each here, many with their memory and their time measured."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
READERS = {  # examples that take ten seconds or so
    "config": 500,
    "YAML": 1000,
    "COCO": 1000,
    "COCO as bytes": 1000,
    "VOC": 1000,
    "YOLO": 700,
    "picture": 1500,
    "checkpoint": 100,
    "checkpoint's header": 60,
    "foreign weights": 500,
}
GROWTH = 500  # MB, above what the imports took
HANGS = 300  # seconds; the slowest takes 15 on a free core


@pytest.mark.filterwarnings("error::RuntimeWarning", "ignore::UserWarning:PIL")
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_takes_it_or_refuses(reader: str):
    from helpers import fuzz

    assert fuzz.READERS.keys() == READERS.keys()
    fuzz.run(reader, 10 if reader.startswith("checkpoint") else 30)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory is measured as Linux tells it")
@pytest.mark.parametrize(("reader", "examples"), [*READERS.items(), ("largest", 0)])
def test_no_input_fills_the_memory_or_hangs(reader: str, examples: int, tmp_path: Path):
    command = [sys.executable, "-m", "helpers.fuzz", reader, str(examples)]
    places = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    assert int(done.stdout) < GROWTH
