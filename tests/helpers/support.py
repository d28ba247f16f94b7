"""What several tests share: the command, in this process or installed, and a small data set."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TextIO
from unittest.mock import patch

import pytest

if TYPE_CHECKING:
    import torch

RETINA = str(Path(sys.executable).with_name("retina"))


def skip_if_kernels_are_limited() -> None:
    """Skip a test of OpenVINO, which asks the processor, not its own kernels, what they can do."""
    if limit := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        pytest.skip(f"under ONEDNN_MAX_CPU_ISA={limit} OpenVINO may choose instructions that its kernels lack, and end")


def openvino_has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor; elsewhere it computes in fp32 what is asked for in bf16."""
    from retinanet.inference.exported_model import openvino_core

    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def installed(*arguments: object, cwd: Path | None = None) -> Result:
    """The installed command in a process of its own, its output in pipes."""
    command = [RETINA, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800, stdin=subprocess.DEVNULL)
    return Result(done.returncode, done.stdout, done.stderr)


def retina(*arguments: object, cwd: Path | None = None) -> Result:
    """The command in this process, which loads torch once for many tests; a process of its own takes seconds."""
    from retinacli.app import main

    with (
        output_of(1) as out,
        output_of(2) as err,
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
        patch.object(sys, "argv", ["retina", *map(str, arguments)]),
        chdir(cwd or "."),
    ):
        for hidden in (DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", hidden)
        level = logging.root.manager.disable
        with pytest.raises(SystemExit) as end:
            main()
        logging.disable(level)  # which the command changes
        return Result(end.value.code or 0, *map(read, (out, err)))


@contextmanager
def output_of(descriptor: int) -> Iterator[TextIO]:
    """A file that takes what this process writes to 1 (stdout) or 2 (stderr), by C libraries too."""
    before = os.dup(descriptor)
    try:
        with tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8") as file:
            os.dup2(file.fileno(), descriptor)
            yield file
    finally:
        os.dup2(before, descriptor)
        os.close(before)


def read(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def publish(file: Path) -> SimpleNamespace:
    """Rename a file of weights as torchvision would, by its hash. Returns: a stand-in for torchvision's entry of it."""
    name = f"{file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(file.with_name(name))
    return SimpleNamespace(url=f"https://download.pytorch.org/models/{name}", file=file.with_name(name))


# a checkpoint of 3 MB; with an average and the state of AdamW, one of resnet18 has 180
TINY_MODEL = "{backbone: timm:lcnet_035, pretrained: false, fpn_channels: 16, head_channels: 16, head_depth: 1}"


def write_coco(folder: Path, split: str, images: int) -> None:
    """The first pictures of `shapes` as a COCO data set with gaps in its category ids: 10, 20, ..."""
    from PIL import Image

    from retinanet.data.shapes import open_shapes

    shapes = open_shapes(split)
    (folder / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    objects = int(shapes.first_object[images])
    owners = [i for i in range(images) for _ in range(shapes.first_object[i + 1] - shapes.first_object[i])]
    for i in range(images):
        Image.fromarray(shapes.image(i)).save(folder / split / f"{i}.png")
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 128, "height": 128} for i in range(images)],
        "categories": [{"id": 10 * k, "name": name} for k, name in enumerate(shapes.classes, 1)],
        "annotations": [
            {
                "id": i + 1,
                "image_id": owners[i],
                "category_id": 10 * (int(shapes.labels[i]) + 1),
                "bbox": shapes.boxes[i].tolist(),
                "area": float(shapes.areas[i]),
                "iscrowd": 0,
            }
            for i in range(objects)
        ],
    }
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))


def write_training(config: Path, train: int, val: int, workers: int, sections: str) -> Path:
    """A data set of so many images beside the file `config`, which trains on it. Returns: their folder.

    sections: the lines of the config after `data`.
    """
    write_coco(config.parent / "shapes", "train", train)
    write_coco(config.parent / "shapes", "val", val)
    data = f"data: {{root: shapes, train: train, val: val, short_side: 64, workers: {workers}}}\n"
    config.write_text(data + sections)
    return config.parent


def model_weights(folder: Path) -> "torch.Tensor":
    """All weights of the last checkpoint of a run, in one vector."""
    import torch

    from retinanet.checkpoints.checkpoint import LAST, MODEL, read_tensors

    tensors = read_tensors(folder / LAST)
    return torch.cat([tensors[name].flatten() for name in sorted(tensors) if name.startswith(MODEL)])


def same_run(one: Path, other: Path) -> None:
    """Two runs' folders hold the same weights to the last bit, and the same log but for times, speed and memory."""
    from retinanet.checkpoints.checkpoint import BEST, LAST, read_tensors

    for name in (LAST, BEST):
        a, b = read_tensors(one / name), read_tensors(other / name)
        assert a.keys() == b.keys()
        differ = [key for key in a if not a[key].equal(b[key])]
        assert not differ, (name, differ)
    logs = []
    for folder in (one, other):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        logs.append([{k: v for k, v in line.items() if k not in ("images_per_second", "memory")} for line in lines])
    assert logs[0] == logs[1]
