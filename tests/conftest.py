from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.support import TINY_MODEL, Result, retina, write_coco


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that lies next to the repository, not inside it."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Outputs of detectron2 that lie next to the repository, not inside it."""
    return _shared("golden")


def _shared(name: str) -> Path:
    folder = Path(__file__).parents[2] / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"shared/{name} is absent")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of 8 and 4 images and `tiny.yaml`, which trains on it for two epochs in seconds."""
    folder = tmp_path_factory.mktemp("tiny")
    write_coco(folder / "shapes", "train", 8)
    write_coco(folder / "shapes", "val", 4)
    (folder / "tiny.yaml").write_text(
        "data: {root: shapes, train: train, val: val, short_side: 64, workers: 0}\n"
        f"model: {TINY_MODEL}\n"
        "train: {epochs: 2, batch_size: 4, log_every: 1, optimizer: adamw, ema: 0.9}\n"
    )
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny: Path) -> Path:
    """The folder of a finished run of `tiny.yaml`."""
    result = retina("train", "tiny.yaml", "-o", "run", cwd=tiny)
    assert result.code == 0, result.err
    return tiny / "run"


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`retina` in this process and in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return retina
