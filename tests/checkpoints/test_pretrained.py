"""Models by path and by published name."""

from pathlib import Path

import pytest

from retinanet.checkpoints.pretrained import open_model
from retinanet.errors import CheckpointError


def test_a_folder_of_the_working_directory_does_not_hide_published_weights(monkeypatch, tmp_path: Path):
    def no_network(url: str):
        raise OSError("no network")

    monkeypatch.setattr("retinanet.checkpoints.pretrained.fetch", no_network)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    with pytest.raises(CheckpointError, match=r"the published weights coco are not available \(no network\)"):
        open_model("coco")
    with pytest.raises(CheckpointError, match="coco: contains no|coco.*expected"):
        open_model("./coco")
