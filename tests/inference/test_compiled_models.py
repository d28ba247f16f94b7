"""The cache of models that OpenVINO has compiled."""

import os
import stat
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.support import Result, installed, retina

from retinanet.inference import compiled_models, exported_model
from retinanet.inference.compiled_models import cache_folder, compile_cached, file_stamps
from retinanet.inference.openvino_precision import openvino_hint

HINT = openvino_hint("fp32")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETINA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


class Engine:
    """A model of four weights, and OpenVINO with the calls counted."""

    def __init__(self, place: Path):
        import openvino

        self.openvino, self.files = openvino, (place / "m.xml", place / "m.bin")
        self.core = Mock(wraps=exported_model.openvino_core())

    def save(self, weight: float) -> None:
        ops = self.openvino.opset13
        image = ops.parameter([4], np.float32)
        layer = ops.multiply(image, ops.constant(np.arange(4, dtype=np.float32) + np.float32(weight)))
        self.openvino.save_model(self.openvino.Model([layer], [image], "m"), self.files[0], compress_to_fp16=False)

    def run(self) -> tuple[list[float], str]:
        """The outputs for an input of ones, and how the model came into memory."""
        self.core.reset_mock()
        stamps = file_stamps(self.files)
        model = self.core.read_model(*self.files)
        compiled = compile_cached(self.openvino, self.core, model, self.files, stamps, HINT)
        [output] = compiled(np.ones(4, np.float32)).values()
        tried = [name for name in ("import_model", "compile_model") if getattr(self.core, name).called]
        return output.tolist(), " then ".join(tried)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = Engine(tmp_path)
    made.save(1)
    return made


def test_a_model_is_compiled_once(engine: Engine, folder: Path):
    assert engine.run() == ([1, 2, 3, 4], "compile_model")
    [blob] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    times = [file.stat().st_mtime_ns for file in engine.files]
    assert engine.run() == ([1, 2, 3, 4], "import_model")
    # other weights under the same names and times
    engine.save(5)
    for file, modified in zip(engine.files, times, strict=True):
        os.utime(file, ns=(modified, modified))
    assert engine.run() == ([5, 6, 7, 8], "compile_model")
    assert len(list(folder.iterdir())) == 2 and blob.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-40],
        lambda content: bytes(len(content)),
        lambda content: content.replace(np.float32(3).tobytes(), np.float32(9).tobytes()),
    ],
    ids=["empty", "short", "cut", "zeros", "another weight"],
)
def test_a_damaged_file_is_compiled_anew(engine: Engine, folder: Path, damage):
    engine.run()
    [blob] = folder.iterdir()
    whole = blob.read_bytes()
    assert damage(whole) != whole
    blob.write_bytes(damage(whole))
    assert engine.run() == ([1, 2, 3, 4], "compile_model")
    assert engine.run() == ([1, 2, 3, 4], "import_model")
    assert list(folder.iterdir()) == [blob]


def test_what_the_engine_refuses_is_compiled_anew(engine: Engine, folder: Path):
    engine.run()
    engine.core.import_model.side_effect = RuntimeError("of another processor")
    assert engine.run() == ([1, 2, 3, 4], "import_model then compile_model")
    assert len(list(folder.iterdir())) == 1


def test_the_oldest_make_room(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch):
    engine.run()
    [first] = folder.iterdir()
    left = folder / ".left.0123abcd.tmp"  # of a process that was killed
    left.write_bytes(b"0" * 100)
    for age, file in enumerate((left, first)):
        os.utime(file, (age, age))
    monkeypatch.setattr(compiled_models, "MAX_BYTES", 2 * first.stat().st_size + 50)
    engine.save(2)
    engine.run()
    assert first.exists() and not left.exists()
    engine.save(3)
    engine.run()
    assert not first.exists() and len(list(folder.iterdir())) == 2


def test_a_model_that_is_replaced_after_it_was_read_is_neither_kept_nor_taken(engine: Engine, folder: Path):
    assert engine.run() == ([1, 2, 3, 4], "compile_model")
    [kept] = folder.iterdir()
    former = [file.rename(file.with_name(f"former{file.suffix}")) for file in engine.files]
    engine.save(7)
    stamps, model = file_stamps(engine.files), engine.core.read_model(*engine.files)
    for before, file in zip(former, engine.files, strict=True):
        before.replace(file)  # its compiled model is kept
    compiled = compile_cached(engine.openvino, engine.core, model, engine.files, stamps, HINT)
    [output] = compiled(np.ones(4, np.float32)).values()
    assert output.tolist() == [7, 8, 9, 10] and list(folder.iterdir()) == [kept]


def test_a_folder_that_others_can_write_is_not_used(engine: Engine, folder: Path):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert engine.run() == ([1, 2, 3, 4], "compile_model") and list(folder.iterdir()) == []
    folder.rmdir()
    (folder.parent / "own").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "own")
    assert engine.run() == ([1, 2, 3, 4], "compile_model") and list(folder.iterdir()) == []


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETINA_CACHE_DIR", "")
    assert cache_folder() is None
    monkeypatch.delenv("RETINA_CACHE_DIR")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found = cache_folder()
    assert found is not None and found.is_dir() and found.is_relative_to(tmp_path)
    assert found.parts[-2:] == ("retina", "openvino")


def test_the_command_is_silent_about_its_cache(openvino_file: Path, tiny: Path, tmp_path: Path, monkeypatch):
    arguments = ("predict", tiny / "shapes" / "val", "-w", openvino_file, "--json", "--score", "0.0001")
    without = retina(*arguments)
    assert (without.code, without.err) == (0, "")
    monkeypatch.setenv("RETINA_CACHE_DIR", str(tmp_path / "cache"))
    assert installed(*arguments) == Result(0, without.out, "")
    [blob] = (tmp_path / "cache" / "openvino").iterdir()
    number = blob.stat().st_ino
    assert retina(*arguments) == Result(0, without.out, "") and blob.stat().st_ino == number
    (tmp_path / "file").touch()
    monkeypatch.setenv("RETINA_CACHE_DIR", str(tmp_path / "file"))  # where no folder can be made
    assert retina(*arguments) == Result(0, without.out, "")
