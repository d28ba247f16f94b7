import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.support import TINY_MODEL, Result, installed, retina, write_training

# no test reads what another has compiled, or fills the user's cache
os.environ["RETINA_CACHE_DIR"] = ""


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
    return write_training(
        tmp_path_factory.mktemp("tiny") / "tiny.yaml",
        train=8,
        val=4,
        workers=0,
        sections=f"model: {TINY_MODEL}\n"
        "train: {epochs: 2, batch_size: 4, log_every: 1, optimizer: adamw, ema: 0.9}\n",
    )


@pytest.fixture(scope="session")
def tiny_run(tiny: Path) -> Path:
    """The folder of a finished run of `tiny.yaml` with a ResNet."""
    result = retina("train", "tiny.yaml", "-o", "run", "--set", "model.backbone=resnet18", cwd=tiny)
    assert result.code == 0, result.err
    return tiny / "run"


@pytest.fixture(scope="session")
def onnx_file(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in ONNX, which the installed command writes."""
    return exported_once(tiny_run, "onnx", "run.onnx", tmp_path_factory, installed)


@pytest.fixture(scope="session")
def openvino_file(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in OpenVINO's format."""
    return exported_once(tiny_run, "openvino", "run.xml", tmp_path_factory, retina)


def exported_once(
    run: Path, to: str, name: str, factory: pytest.TempPathFactory, command: Callable[..., Result]
) -> Path:
    """The exported run, which all the processes of pytest-xdist share: their runs are the same to the last bit."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return export(run, to, factory.mktemp(to) / name, command)
    folder = factory.getbasetemp().parent / to
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first makes it, the others wait
        if not folder.exists():
            folder.mkdir()
            export(run, to, folder / name, command)
    return folder / name


def export(run: Path, to: str, file: Path, command: Callable[..., Result]) -> Path:
    """Writes `file`, which agrees closely with the run."""
    result = command("export", run, "--to", to, cwd=file.parent)
    assert (result.code, result.out) == (0, ""), result.err
    *steps, agreement, last = result.err.splitlines()
    assert steps == ["converting", "comparing"]
    close = re.fullmatch(
        r"(?:\d+ of )?(\d+) detections match those of PyTorch within (\S+) pixels and a score of (\S+)", agreement
    )
    assert close and int(close[1]) >= 20 and float(close[2]) < 1e-2 and float(close[3]) < 1e-4, agreement
    assert last == f"wrote {file.name}; use it: retina predict IMAGE -w {file.name}"
    return file


@pytest.fixture(params=["onnx", "openvino"])
def exported(request: pytest.FixtureRequest) -> Path:
    """The run as a file of either program."""
    return request.getfixturevalue(f"{request.param}_file")


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`retina` in this process and in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return retina
