"""Training with 2,000 classes at 256 pixels: `retina train` on drawn images, then a step compared with torchvision's.

Usage: python benchmarks/many_classes.py NEW-FOLDER
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from paired import compare, peak_memory
from torchvision.models.detection import retinanet_resnet50_fpn

from retinanet.config.schema import AnchorConfig, LossConfig, ModelConfig
from retinanet.losses.criterion import Targets, make_criterion
from retinanet.model.retinanet import make_model

CLASSES, SIZE, BATCH, STEPS = 2000, 256, 2, 10
PICTURES, OBJECTS = 24, 6  # images, and objects in each
SHOWN = 8  # classes that occur in the images: few enough to learn something in ten steps
TURNS = 3

CONFIG = f"""\
data: {{root: ., train: train, short_side: {SIZE}, long_side: {SIZE}, workers: 0}}
model: {{backbone: resnet50, pretrained: false}}
train: {{steps: {STEPS}, batch_size: {BATCH}, optimizer: adamw, clip_norm: 1.0, log_every: 1, device: cpu}}
"""


def write_data(folder: Path) -> None:
    """Write images of filled boxes on grey in COCO's format: SHOWN of the 2,000 classes occur, each in its colour."""
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    colors = rng.integers(256, size=(SHOWN, 3)).tolist()
    images: list[dict] = []
    annotations: list[dict] = []
    for i in range(PICTURES):
        picture = np.full((SIZE, SIZE, 3), 128, np.uint8)
        for _ in range(OBJECTS):
            width, height = map(int, rng.integers(20, 120, 2))
            x, y = int(rng.integers(SIZE - width)), int(rng.integers(SIZE - height))
            shown = int(rng.integers(SHOWN))
            cv2.rectangle(picture, (x, y, width, height), colors[shown], -1)
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": i,
                    "category_id": 1 + shown * (CLASSES // SHOWN),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        cv2.imwrite(str(folder / "train" / f"{i}.png"), picture)
        images.append({"id": i, "file_name": f"{i}.png", "width": SIZE, "height": SIZE})
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, 1 + CLASSES)]
    document = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(document))
    (folder / "many.yaml").write_text(CONFIG)


def train(folder: Path) -> None:
    """Print the losses of each step, and the seconds and the peak memory since the line before. Linux only.

    A step appears in the log while the next one runs. The figures of the first line include the start of the program
    and two steps that estimate how long the run will take.
    """
    command = [str(Path(sys.executable).with_name("retina")), "train", "many.yaml", "-o", "run"]
    with open(folder / "messages.txt", "w") as messages:
        process = subprocess.Popen(command, cwd=folder, stdout=messages, stderr=messages)
    log, proc, done = folder / "run" / "metrics.jsonl", Path(f"/proc/{process.pid}"), 0
    last = time.perf_counter()
    while process.poll() is None and done < STEPS:
        lines = [line for line in log.read_text().splitlines() if '"step"' in line] if log.exists() else []
        for line in lines[done:]:
            step = json.loads(line)
            status = (proc / "status").read_text()
            peak = next(int(row.split()[1]) * 1024 for row in status.splitlines() if row.startswith("VmHWM"))
            (proc / "clear_refs").write_text("5")
            losses = f"cls {step['cls']:.3f}, box {step['box']:.3f}"
            seconds, last = time.perf_counter() - last, time.perf_counter()
            print(f"step {step['step']:2}: {losses}, {seconds:.1f} s, {peak / 1e9:.2f} GB resident at most", flush=True)
        done = len(lines)
        time.sleep(0.02)
    if process.wait() != 0:
        sys.exit((folder / "messages.txt").read_text())


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (B, 3, H, W) uint8, and the boxes (M, 4) and labels (M,) of each of them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    corners = 150 * torch.rand(OBJECTS, 2, generator=generator)
    boxes = torch.cat([corners, corners + 20 + 80 * torch.rand(OBJECTS, 2, generator=generator)], dim=1)
    return images, boxes, torch.randint(CLASSES, (OBJECTS,), generator=generator)


def ours() -> Callable[[], object]:
    """A step of `retina train` with SGD and torchvision's settings."""
    torch.manual_seed(0)
    anchors = AnchorConfig(whole_pixels=True, force_best=True)
    model = make_model(ModelConfig(pretrained=False, p6_from="p5"), anchors, CLASSES)
    model = model.to(memory_format=torch.channels_last).train()
    criterion = make_criterion(LossConfig(box="l1"), anchors)
    images, boxes, labels = batch()
    images, sizes = images.to(memory_format=torch.channels_last), torch.full((BATCH, 2), SIZE)

    targets = Targets([boxes] * BATCH, [labels] * BATCH, [torch.zeros(OBJECTS, dtype=torch.bool)] * BATCH)
    return stepper(model, lambda: criterion(model(images, sizes), targets))


def theirs() -> Callable[[], object]:
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=SIZE, max_size=SIZE
    ).train()
    images, boxes, labels = batch()
    pictures, targets = list(images / 255), [{"boxes": boxes, "labels": labels}] * BATCH
    return stepper(model, lambda: model(pictures, targets))


def stepper(model: torch.nn.Module, losses: Callable[[], dict[str, torch.Tensor]]) -> Callable[[], object]:
    """A training step, after a first one that allocates the optimizer's memory."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> float:
        total = sum(losses().values(), torch.zeros(()))
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(total.detach())

    step()
    return step


def main() -> None:
    folder = Path(sys.argv[1])
    write_data(folder)
    train(folder)
    for function in (ours, theirs):
        print(f"peak memory of a step above the model's, {function.__name__}: {peak_memory(function):.0f} MB")
    compare(f"step with {CLASSES} classes", ours(), theirs(), TURNS)


if __name__ == "__main__":
    main()
