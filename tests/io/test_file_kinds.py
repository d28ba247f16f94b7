"""What a file is that was given as weights."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.support import retina
from PIL import Image

from retinanet.io.file_kinds import WHOLE_MODEL, file_kind


def picture(format_: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (8, 8)).save(made, format_)
    return made.getvalue()


def saved(held: object, **options: object) -> bytes:
    made = io.BytesIO()
    torch.save(held, made, **options)
    return made.getvalue()


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", "text")
    return made.getvalue()


def onnx() -> bytes:
    from onnx import helper

    return helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    ).SerializeToString()


NET = torch.nn.Linear(1, 1)
KINDS = {
    "an empty file": lambda: b"",
    "a PNG picture": lambda: picture("PNG"),
    "a JPEG picture": lambda: picture("JPEG"),
    "a GIF picture": lambda: picture("GIF"),
    "a TIFF picture": lambda: picture("TIFF"),
    "a WebP picture": lambda: picture("WEBP"),
    "a zip archive": zipped,
    "a damaged zip archive": lambda: zipped()[:30],
    "text": lambda: "epochs: 12\nname: é\n".encode(),
    "a web page; the download failed": lambda: b"<!DOCTYPE html><html>",
    "an ONNX model, whose name must end in .onnx": onnx,
    "an OpenVINO model, whose name must end in .xml": lambda: b'<?xml version="1.0"?>\n<net name="x" version="11"/>',
    WHOLE_MODEL: lambda: saved({"model": NET}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_none_are_named(kind: str, tmp_path: Path):
    file = tmp_path / "a.pth"
    file.write_bytes(KINDS[kind]())
    for command, words in (
        (("predict", "x.jpg", "-w"), "is not a readable safetensors file"),
        (("eval",), "is not a readable safetensors file"),
        (("export", "--to", "onnx"), "is not a readable safetensors file"),
        (("import",), "cannot be read as weights"),
    ):
        result = retina(*command, "a.pth", cwd=tmp_path)
        assert (result.code, result.out, result.err) == (1, "", f"retina: a.pth: {words}: it is {kind}\n")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (saved(NET.state_dict()), "a file of PyTorch"),
        (
            saved(NET.state_dict(), _use_new_zipfile_serialization=False),
            "a file of PyTorch before 1.6; save it again with a newer one",
        ),
        (saved(NET, _use_new_zipfile_serialization=False), WHOLE_MODEL),
        (pickle.dumps({"a": np.zeros(1)}), "a pickle"),
        (b"\x00" * 100, None),
        (b"\xff", None),
        (b"\x80", None),
        (b"\x08", None),
    ],
)
def test_files_of_torch_and_unknown_ones(content: bytes, kind: str | None, tmp_path: Path):
    (tmp_path / "a").write_bytes(content)
    assert file_kind(tmp_path / "a") == kind


def test_an_exported_model_that_is_none(tmp_path: Path):
    for name, words in (("a.onnx", "ONNX file"), ("a.xml", "OpenVINO model")):
        (tmp_path / name).write_bytes(picture("PNG"))
        (tmp_path / "a.bin").write_bytes(b"x")
        result = retina("predict", "x.jpg", "-w", name, cwd=tmp_path)
        assert result.err == f"retina: {name}: is not a readable {words}: it is a PNG picture\n"


def test_a_checkpoint_that_is_imported_and_names_that_are_near(tiny_run: Path, tmp_path: Path):
    shutil.copy(tiny_run / "best.safetensors", tmp_path / "shapes.safetensors")
    (tmp_path / "net.xml").write_text("<net/>")
    (tmp_path / "net.bin").write_bytes(b"x")
    expected = "expected weights of torchvision (.pth) or detectron2 (.pkl, .pth)"
    safetensors = "is not a readable safetensors file: it is"
    for command, message in (
        (
            ("import", "shapes.safetensors"),
            "cannot be read as weights: it is already a checkpoint of retina and needs no import",
        ),
        (("import", tiny_run), f"is a folder, {expected}"),
        (("import", "shape.safetensors"), f"no such file; {expected}; did you mean shapes.safetensors?"),
        (
            ("predict", "x.jpg", "-w", "shape.safetensors"),
            "no such file or folder; expected a checkpoint or the folder of a retina run; "
            "did you mean shapes.safetensors?",
        ),
        (("eval", "nett.xml"), "no such file; expected a model that retina export wrote; did you mean net.xml?"),
        (("eval", "net.bin"), f"{safetensors} the weights of an OpenVINO model; did you mean net.xml?"),
    ):
        result = retina(*command, cwd=tmp_path)
        assert (result.code, result.out, result.err) == (1, "", f"retina: {command[-1]}: {message}\n")
