"""Time from a JPEG file to the flipped image of short side 800, compared with torchvision's pipeline, on one core.

Usage: python benchmarks/loading.py FOLDER-OF-JPEGS
"""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import torch
from paired import compare
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from retinanet.data.dataset import blank_sample
from retinanet.data.images import read_image
from retinanet.data.transforms import Resizing, flip, resize

IMAGES = 32


def main() -> None:
    files = sorted(Path(sys.argv[1]).glob("*.jpg"))[:IMAGES]
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    # torchvision's references/detection/presets.py with hflip and backend pil, then the transform of its model
    preset = v2.Compose([v2.RandomHorizontalFlip(1), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)])
    transform = GeneralizedRCNNTransform(800, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    def ours() -> None:
        for file in files:
            resize(flip(replace(blank_sample(0, ""), image=read_image(file)), axis=1), Resizing())

    def theirs() -> None:
        for file in files:
            image = preset(Image.open(file).convert("RGB"))
            transform.resize(transform.normalize(image))

    print(f"{len(files)} images")
    compare("loading", ours, theirs)


if __name__ == "__main__":
    main()
