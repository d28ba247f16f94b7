"""Time from an image to its detections: torchvision's RetinaNet compared with ours, on torch and on OpenVINO.

ResNet-50-FPN, 80 classes, 800 x 1088 pixels; random weights, equal on both sides, with many detections. OpenVINO runs
in fp32, bf16 and int8.

Usage: python benchmarks/detection.py FOLDER CONFIG [KEY=VALUE ...]
The models are written to FOLDER. int8 is calibrated on the training images of CONFIG, whose classes must be among
COCO's 80.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from paired import compare
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from retinanet.checkpoints.checkpoint import MODEL, save
from retinanet.checkpoints.convert import import_weights
from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.detections import Detections
from retinanet.export.export import export
from retinanet.inference.detector import load

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.torchvision_models import random_model

HEIGHT, WIDTH = 800, 1088
THRESHOLD = 0.05
VARIANTS: dict[str, tuple[str, Literal["fp32", "bf16"]]] = {  # name -> file, precision of the arithmetic
    "torch fp32": ("r50.safetensors", "fp32"),
    "OpenVINO fp32": ("fp32.xml", "fp32"),
    "OpenVINO bf16": ("fp32.xml", "bf16"),
    "OpenVINO int8": ("int8.xml", "fp32"),
}


def prepare(folder: Path, data: str, overrides: list[str]) -> RetinaNet:
    """torchvision's model, whose weights are written to `folder` as a checkpoint and as exported files."""
    theirs = random_model(v2=False, num_classes=80, min_size=HEIGHT, max_size=1333)
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    model, metadata = import_weights(folder / "theirs.pth")
    save(folder / "r50.safetensors", {MODEL + name: tensor for name, tensor in model.state_dict().items()}, metadata)
    for precision in ("fp32", "int8"):
        if not (folder / f"{precision}.xml").exists():
            export(folder / "r50.safetensors", "openvino", folder / f"{precision}.xml", precision, data, overrides)
    return theirs


def picture(data: str, overrides: list[str]) -> np.ndarray:
    """A training image, cut or repeated to (HEIGHT, WIDTH, 3)."""
    image = open_dataset(load_config(data, overrides).data, "train").image(0)
    return np.tile(image, (HEIGHT // image.shape[0] + 1, WIDTH // image.shape[1] + 1, 1))[:HEIGHT, :WIDTH].copy()


def differences(ours: Detections, theirs: dict[str, np.ndarray]) -> str:
    """The largest differences between two lists of detections.

    Each detection is compared with the nearest one of its label, since the order of equal scores may differ.
    """
    assert len(ours) == len(theirs["scores"])
    moved = np.abs(ours.boxes[:, None] - theirs["boxes"]).max(axis=2)
    changed = np.abs(ours.scores[:, None] - theirs["scores"])
    pair = np.where(ours.labels[:, None] == theirs["labels"], moved + changed, np.inf).argmin(axis=1)
    rows = np.arange(len(pair))
    assert len(set(pair.tolist())) == len(pair)
    return (
        f"largest differences {moved[rows, pair].max():.1e} pixels in a box, {changed[rows, pair].max():.1e} in score"
    )


def main(folder: str, data: str, *overrides: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    theirs = prepare(Path(folder), data, list(overrides))
    image = picture(data, list(overrides))
    tensor = torch.from_numpy(image).permute(2, 0, 1) / 255
    scores = torch.zeros(0)

    def keep(module: nn.Module, inputs: object, output: dict[str, Tensor]) -> None:
        nonlocal scores
        scores = output["cls_logits"].sigmoid()

    handle = theirs.head.register_forward_hook(keep)
    with torch.inference_mode():
        [reference] = theirs([tensor])
    handle.remove()
    print(f"{int((scores > THRESHOLD).sum()):,} scores above {THRESHOLD}, {len(reference['scores'])} detections")

    @torch.inference_mode()
    def run_theirs() -> list[dict[str, Tensor]]:
        return theirs([tensor])

    for name, (file, precision) in VARIANTS.items():
        detector = load(Path(folder) / file, precision=precision)
        detections = detector.predict(image)
        if precision == "fp32" and "int8" not in file:
            print(f"{name}: {differences(detections, {key: value.numpy() for key, value in reference.items()})}")
        compare(name, partial(detector.predict, image), run_theirs)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
