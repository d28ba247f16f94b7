"""What the tables of hostile inputs are made of: a row, ways to spoil a sound folder, and the judgement."""

import json
import os
import shlex
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.support import Result

Spoil = Callable[[Path], object]
COCO, MODEL = "coco/annotations/instances_train.json", "model.safetensors"
TRAIN, PREDICT = "train coco.yaml -o out", "predict photos/a.png -w model.safetensors"


MERGES = "a: &a {k: v}\n" + "".join(
    f"{letter}: &{letter}\n  <<: [{', '.join(['*' + before] * 9)}]\n"
    for before, letter in zip("abcdefgh", "bcdefghi", strict=True)
)


@dataclass(frozen=True)
class Case:
    """spoil: makes the input. command: of `retina`. words: of its one line. code: how it ends.

    per_file: the line is about one file, and the others go on.
    """

    what: str
    spoil: Spoil
    command: str
    words: str
    code: int = 1
    per_file: bool = False

    def __repr__(self) -> str:
        return self.what


def judge(case: Case, place: Path, run: Callable[..., Result]) -> None:
    """The command ends as it must, says one line, and leaves every file as it was."""
    case.spoil(place)
    before = snapshot(place)
    result = run(*shlex.split(case.command))
    assert "Traceback" not in result.out + result.err
    assert result.code == case.code, result
    assert case.words in result.err, result.err
    assert result.err.count("\n") == 1 and len(result.err) < 2100, result.err
    assert result.err.isascii() or result.err.rstrip("\n").isprintable()
    if not case.per_file:
        assert result.err.startswith("retina: ") and result.out == ""
    assert snapshot(place) == before


def snapshot(folder: Path) -> dict[str, object]:
    """What lies in `folder`: the bytes of files, the targets of links."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes() if path.stat().st_size < 2**20 else path.stat().st_mtime_ns
        else:
            found[name] = None
    return found


def text(file: str, content: str | bytes) -> Spoil:
    """Writes `file`."""

    def spoil(place: Path) -> None:
        put(place / file, content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return spoil


def put(path: Path, content: bytes) -> None:
    """Writes a new file, since the old one may be another test's too."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def sparse(file: str, size: int) -> Spoil:
    """Makes `file` so large, of zeros that take no space."""

    def spoil(place: Path) -> None:
        (place / file).unlink(missing_ok=True)
        with (place / file).open("wb") as opened:
            opened.truncate(size)

    return spoil


def pipe(file: str) -> Spoil:
    """Puts a pipe in the place of `file`: to open it waits for ever."""

    def spoil(place: Path) -> None:
        (place / file).unlink(missing_ok=True)
        os.mkfifo(place / file)

    return spoil


def coco(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Changes the training annotations."""

    def spoil(place: Path) -> None:
        document = json.loads((place / COCO).read_text())
        change(document)
        (place / COCO).write_text(json.dumps(document))

    return spoil


def image_entry(**values: object) -> Spoil:
    return coco(lambda document: document["images"][0].update(values))


def annotation(**values: object) -> Spoil:
    return coco(lambda document: document["annotations"][0].update(values))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    )


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its tensors' bytes."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def safetensors(header: Any, tensors: bytes) -> bytes:
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(told).to_bytes(8, "little") + told + tensors


def checkpoint(change: Callable[[dict[str, Any]], object], file: str = MODEL) -> Spoil:
    """Changes the header of the checkpoint."""

    def spoil(place: Path) -> None:
        header, tensors = header_of((place / MODEL).read_bytes())
        change(header)
        put(place / file, safetensors(header, tensors))

    return spoil


def metadata(**values: object) -> Spoil:
    """Changes the metadata of the checkpoint; None deletes."""

    def change(header: dict[str, Any]) -> None:
        told = header["__metadata__"] | {key: str(value) for key, value in values.items()}
        header["__metadata__"] = {key: value for key, value in told.items() if values.get(key, "") is not None}

    return checkpoint(change)


def claim(section: str, **values: object) -> Spoil:
    """Changes the config that travels in the checkpoint."""

    def change(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        config[section] |= values
        header["__metadata__"]["config"] = json.dumps(config)

    return checkpoint(change)
