"""Images without annotations, and label files without an image."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from retinanet.data.dataset import Dataset
from retinanet.data.images import SUFFIXES
from retinanet.dataset_analysis.findings import Finding, Split, agreeing, counted, part
from retinanet.dataset_analysis.image_files import files_of, paths_of

START_BYTES = 64  # of a text file: enough to see whether it starts with a class index


def label_files(split: Split) -> Iterator[Finding]:
    """Findings where each image has a label file of its own, as in YOLO's format."""
    data = split.data
    if data.label_files is None:
        return
    wanted = [data.label_files[index] for index in range(len(data))]
    absent = [index for index, file in enumerate(wanted) if not os.path.isfile(file)]
    alone = _without_image(data, wanted)
    if alone:
        files = f"{counted(len(alone), 'label file')} of {split.name} {agreeing('has', len(alone))} no image"
        text = f"{files}; the first: {alone[0]}"
        names = tuple(os.path.basename(file) for file in alone[:5])
        if len(absent) == len(data):
            text = f"{text}; no image has a label file; looked for {wanted[0]}"
            advice = "give the label files the names of their images, and folders that correspond to theirs"
            yield Finding("error", "no-label-matches", split.name, len(alone), "file", (), names, text, advice)
            return
        advice = "restore the images or delete the label files, which are not used"
        yield Finding("warning", "label-without-image", split.name, len(alone), "file", (), names, text, advice)
    if absent:
        text = f"{part(len(absent), len(data), 'image', 'has')} no label file; looked for {wanted[absent[0]]}"
        advice = "nothing to do if they show no objects: training uses them as background"
        yield split.images(absent, "info", "image-without-label", text, advice)


def unlisted_images(splits: Sequence[Dataset]) -> Iterator[Finding]:
    """Images that lie beside those of the splits, but are in none of them."""
    listed = {path for data in splits for path in paths_of(data)}
    found = [
        os.path.join(folder, name)
        for folder in sorted({os.path.dirname(path) for path in listed})
        for name in sorted(files_of(folder))
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    if unlisted := [path for path in found if path not in listed]:
        text = f"{part(len(unlisted), len(found), 'image file', 'is')} in no split; the first: {unlisted[0]}"
        advice = "nothing to do if they are left out on purpose; otherwise they need annotations"
        names = tuple(os.path.basename(path) for path in unlisted[:5])
        yield Finding("info", "unlisted-image", None, len(unlisted), "file", (), names, text, advice)


def _without_image(data: Dataset, wanted: Sequence[str]) -> list[str]:
    """The label files in the folders of `wanted`, one file for each image, that belong to no image file."""
    images = {Path(file).parent: Path(path).parent for file, path in zip(wanted, paths_of(data), strict=True)}
    tops = [folder for folder in images if not any(parent in images for parent in folder.parents)]
    known, alone = set(wanted), []
    for top in sorted(tops):
        for folder, folders, names in os.walk(top):
            if images[top] == Path(os.path.realpath(top)):
                folders.clear()  # label files beside images say nothing about other folders
            beside = images.get(Path(folder), images[top] / Path(folder).relative_to(top))
            stems = {name.rpartition(".")[0] for name in files_of(str(beside)) if name.lower().endswith(SUFFIXES)}
            for name in sorted(names):
                file = os.path.join(folder, name)
                if name.endswith(".txt") and file not in known and name[:-4] not in stems and _is_label(file):
                    alone.append(file)
    return alone


def _is_label(file: str) -> bool:
    """Whether a text file starts with a number, unlike class names and lists of images."""
    if not os.path.isfile(file):  # to open a pipe waits for ever
        return False
    try:
        with open(file, "rb") as content:
            words = content.read(START_BYTES).split()
        return bool(words) and float(words[0]) >= 0
    except (OSError, ValueError):
        return False
