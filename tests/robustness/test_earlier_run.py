"""A run that version 0.1.0 started and this version continues: its checkpoint, config and log stay readable.

The fixture holds 2 of the run's 4 steps: 82,300 weights of a frozen trunk, 14,698 that learn, AdamW's state and the
averaged weights, 943 kB in all. It is the one exception to the rule that no weights are committed.
"""

import json
import shutil
from pathlib import Path

import pytest
from helpers.support import retina

from retinanet.checkpoints.checkpoint import BEST, LAST, read_metadata

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier_run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier") / "run"
    shutil.copytree(EARLIER, folder)
    return folder


def test_an_earlier_run_is_resumed_to_its_end(run: Path) -> None:
    begun = (run / "metrics.jsonl").read_text()
    assert read_metadata(run / LAST).progress["step"] == 2
    result = retina("train", run / "config.yaml", "-o", run, "--resume", "--json", cwd=run.parent)
    assert result.code == 0, result.err
    assert json.loads(result.out)["steps"] == 4
    log = (run / "metrics.jsonl").read_text()
    assert log.startswith(begun)  # the steps of the earlier version stay as they are
    lines = [json.loads(line) for line in log.splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("step", n) for n in (1, 2, 3, 4)] + [("eval", 4)]


def test_an_earlier_checkpoint_detects(run: Path) -> None:
    result = retina("eval", EARLIER / LAST, "--json", cwd=run.parent)
    assert result.code == 0, result.err
    assert json.loads(result.out)["metrics"]["AP"] >= 0


def test_a_resumed_run_keeps_what_the_earlier_one_knew(run: Path) -> None:
    resumed, earlier = read_metadata(run / BEST), read_metadata(EARLIER / LAST)
    assert (resumed.classes, resumed.category_ids) == (earlier.classes, earlier.category_ids)
    assert resumed.config.model == earlier.config.model
