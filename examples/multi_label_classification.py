"""The focal loss without a detector: which kinds of cells a part of a microscope picture holds, several at once.

    python multi_label_classification.py FOLDER-OF-BCCD [-o FIGURE] [--repeats N] [--steps N]

A whole picture of BCCD almost always holds red and white cells, so that there is little to learn. Each picture is cut
into 4 x 3 parts of 160 pixels; a part holds a kind if the centre of such a cell is in it. A small network trains with
three losses on the official training and validation pictures and is tested on the official test pictures.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from loss_comparison import Repeat, Samples, compare
from torch import nn

from retinanet import RetinaNetError
from retinanet.config.schema import SplitConfig
from retinanet.data.formats.recognise import open_split

CLASSES = ["WBC", "Platelets", "RBC"]
COLUMNS, ROWS, SIDE = 4, 3, 40  # parts of a picture, and pixels of a part after resizing


def make_network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels, out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, len(CLASSES)))


def read_parts(folder: Path, split: str) -> Samples:
    """The parts of all pictures: (N, 3, SIDE, SIDE) in -1..1 and (N, K)."""
    dataset = open_split(folder, SplitConfig(split), classes=CLASSES)
    size = COLUMNS * SIDE, ROWS * SIDE
    images = np.stack([cv2.resize(dataset.image(i), size, interpolation=cv2.INTER_AREA) for i in range(len(dataset))])
    targets = np.zeros((len(dataset), ROWS, COLUMNS, len(CLASSES)), np.float32)
    x, y, w, h = dataset.boxes.T
    height, width = dataset.sizes[dataset.image_index].T
    column, row = ((x + w / 2) / width * COLUMNS).astype(int), ((y + h / 2) / height * ROWS).astype(int)
    targets[dataset.image_index, row.clip(0, ROWS - 1), column.clip(0, COLUMNS - 1), dataset.labels] = 1
    parts = images.reshape(-1, ROWS, SIDE, COLUMNS, SIDE, 3).transpose(0, 1, 3, 5, 2, 4)
    inputs = torch.tensor(parts.reshape(-1, 3, SIDE, SIDE) / 127.5 - 1, dtype=torch.float32)
    return Samples(inputs, torch.from_numpy(targets).flatten(0, 2))


def repeats(folder: Path, count: int) -> Iterator[Repeat]:
    train, test = read_parts(folder, "trainval"), read_parts(folder, "test")
    for seed in range(count):
        yield Repeat(seed, train, test, make_network)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Three losses on the kinds of cells in parts of pictures.")
    parser.add_argument("folder", type=Path, help="the folder BCCD of https://github.com/Shenggan/BCCD_Dataset")
    parser.add_argument("-o", "--output", default="multi_label_classification.png", help="file of the figure")
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each loss, with other seeds")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args(arguments)
    try:
        compare(repeats(given.folder, given.repeats), CLASSES, given.steps, 64, given.output)
    except RetinaNetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
