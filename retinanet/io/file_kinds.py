"""What a file is, by its first bytes, for messages about a file that is not what was expected."""

import codecs
import os
import struct
import zipfile
from pathlib import Path

from retinanet.messages import did_you_mean

HEAD = 2**20  # bytes
WHOLE_MODEL = "a whole pickled model; save its state_dict() with torch.save"
PYTORCH, PICKLE = "a file of PyTorch", "a pickle"
CHECKPOINT, SAFETENSORS = "already a checkpoint of retina and needs no import", "a safetensors file"
ONNX, OPENVINO = "an ONNX model", "an OpenVINO model"
SIGNATURES = (
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes"),
    (b"version https://git-lfs", "the pointer to a file in Git LFS; git lfs pull fetches the file"),
    (b"<!doctype html", "a web page; the download failed"),
    (b"<html", "a web page; the download failed"),
)
ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"  # of ModelProto, after ir_version
TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def file_kind(path: Path) -> str | None:
    """What the file is, such as "a PNG picture", perhaps with what to do; None if it is not known or not readable."""
    try:
        with path.open("rb") as file:
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
    except (OSError, ValueError):
        return None
    if not head:
        return "an empty file"
    if path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file():
        return f"the weights of an OpenVINO model; did you mean {path.with_suffix('.xml').name}?"
    for start, kind in SIGNATURES:
        if head[: len(start)].lower() == start.lower():
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture"
    return _container(path, head, size)


def similar_file(path: Path) -> str:
    """A question that names the file beside `path` whose name is most similar, or ""."""
    try:
        names = [name for name in os.listdir(path.parent) if name != path.name]
    except (OSError, ValueError):
        return ""
    question = did_you_mean(path.name, names)
    return f"; {question}" if question else ""


def _container(path: Path, head: bytes, size: int) -> str | None:
    """The kind of a file that holds weights or text."""
    if head[:2] == b"PK":
        return _archive(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        if b"torch.nn.modules" in head:
            return WHOLE_MODEL
        return f"{PYTORCH} before 1.6; save it again with a newer one" if head.startswith(TORCH_BEFORE_1_6) else PICKLE
    if len(head) > 8 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] <= size - 8:
        return CHECKPOINT if b'"format":"retina"' in head else SAFETENSORS
    if len(head) > 2 and head[0] == 8 and head[1] < 32 and head[2] in ONNX_FIELDS:
        return ONNX if path.suffix.lower() == ".onnx" else f"{ONNX}, whose name must end in .onnx"
    if b"<net " in head[:1000]:
        return OPENVINO if path.suffix.lower() == ".xml" else f"{OPENVINO}, whose name must end in .xml"
    return "text" if _is_text(head[:1000]) else None


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = next((name for name in names if name.endswith("data.pkl")), None)
            if pickled is None:
                return "a zip archive"
            if any(name.endswith("constants.pkl") for name in names):
                return "a TorchScript model; save the state_dict() of the model with torch.save"
            with archive.open(pickled) as file:
                return WHOLE_MODEL if b"torch.nn.modules" in file.read(HEAD) else PYTORCH
    except Exception:  # a damaged or hostile archive can raise anything
        return "a damaged zip archive"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a letter may be cut at the end
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\r\n\t" for c in text)
