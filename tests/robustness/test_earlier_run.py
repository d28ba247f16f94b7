"""A run that version 0.1.0 started and this version continues: its checkpoint, config and log stay readable.

The fixture holds 2 of the run's 4 steps: 82,300 weights of a frozen trunk, 14,698 that learn, AdamW's state and the
averaged weights, 943 kB in all. It is the one exception to the rule that no weights are committed.
"""

import json
import shutil
from pathlib import Path

from helpers.support import retina

from retinanet.checkpoints.checkpoint import BEST, LAST, read_metadata

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier_run"


def test_an_earlier_run_is_resumed_to_its_end(tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(EARLIER, run)
    begun, earlier = (run / "metrics.jsonl").read_text(), read_metadata(run / LAST)
    assert earlier.progress["step"] == 2
    result = retina("train", run / "config.yaml", "-o", run, "--resume", "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out)["steps"] == 4
    log = (run / "metrics.jsonl").read_text()
    assert log.startswith(begun)  # the steps of the earlier version stay as they are
    lines = [json.loads(line) for line in log.splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("step", n) for n in (1, 2, 3, 4)] + [("eval", 4)]
    resumed = read_metadata(run / BEST)
    assert (resumed.classes, resumed.category_ids) == (earlier.classes, earlier.category_ids)
    assert resumed.config.model == earlier.config.model


def test_an_earlier_checkpoint_detects(tmp_path: Path):
    result = retina("eval", EARLIER / LAST, "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out)["metrics"]["AP"] >= 0
