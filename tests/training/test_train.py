"""Training as one call of the library."""

from pathlib import Path

import retinanet
from retinanet.checkpoints.checkpoint import BEST, LAST
from retinanet.training.events import Done


def test_a_plain_call_trains_to_the_end(tiny: Path, tmp_path: Path):
    end = retinanet.train(tiny / "tiny.yaml", tmp_path / "run")
    assert isinstance(end, Done) and end.steps == 4 and end.best is not None
    assert (tmp_path / "run" / BEST).is_file() and (tmp_path / "run" / LAST).is_file()
    again = retinanet.train(
        retinanet.load_config(tiny / "tiny.yaml", ["train.epochs=3"]), tmp_path / "run", resume=True
    )
    assert again.steps == 6
