"""Shards of a list, detected by independent processes and merged: each image once, whatever was killed in between."""

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.support import installed, retina
from PIL import Image

from retinacli.commands.predict_shards import parse_shard
from retinanet.errors import DataError
from retinanet.inference import shards
from retinanet.inference.predict import Prediction
from retinanet.inference.shards import Names, Shard, merge_shards, write_shard

NO_CLASSES = SimpleNamespace(classes=(), category_ids=())
SETTINGS = {"weights": "w"}


def constant(files: Iterable[Path]) -> Iterator[Prediction]:
    """In place of a network: no detections, and a fault for each file named bad."""
    for file in files:
        yield Prediction(file, size=(1, 1)) if file.name != "bad" else Prediction(file, fault="bad: cannot be read")


def write(names: list[str], index: int, count: int, folder: Path, settings: dict = SETTINGS) -> int:
    return write_shard(Names(names), Shard(index, count), folder, settings, constant, NO_CLASSES)


def merged(folder: Path) -> list[dict]:
    merge_shards(folder, folder / "all.jsonl")
    return [json.loads(line) for line in (folder / "all.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("images", "count"), [(0, 1), (1, 1), (7, 3), (20, 4), (3, 5), (1234, 2)])
def test_all_shards_have_each_image_once(tmp_path: Path, monkeypatch, images: int, count: int):
    monkeypatch.setattr(shards, "PART_IMAGES", 3)
    names = [f"{i % 4}.png" for i in range(images)]  # names repeat: the position is the key
    for index in range(count):
        write(names, index, count, tmp_path)
    if not images:
        with pytest.raises(DataError, match="has no part-I-of-N-K.jsonl"):
            merged(tmp_path)
        return
    lines = merged(tmp_path)
    assert [(line["position"], line["file"]) for line in lines] == list(enumerate(names))


def test_a_restarted_shard_detects_only_what_is_missing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shards, "PART_IMAGES", 2)
    names = [f"{i}.png" for i in range(10)]
    write(names, 0, 2, tmp_path)
    (tmp_path / "part-0-of-2-1.jsonl").unlink()
    seen = []

    def detect(files: Iterable[Path]) -> Iterator[Prediction]:
        for file in files:
            seen.append(file.name)
            yield Prediction(file)

    write_shard(Names(names), Shard(0, 2), tmp_path, SETTINGS, detect, NO_CLASSES)
    assert seen == ["2.png", "3.png"]


def test_a_merge_refuses_what_does_not_belong_together(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shards, "PART_IMAGES", 2)
    names = [f"{i}.png" for i in range(9)]
    for index in (0, 2):
        write(names, index, 3, tmp_path)
    with pytest.raises(DataError, match="part-1-of-3-0.jsonl: is missing; run --shard 1/3 again"):
        merged(tmp_path)
    write(names, 1, 3, tmp_path)
    assert len(merged(tmp_path)) == 9
    with pytest.raises(DataError, match="is of another list or of other settings; choose another folder with -o"):
        write([*names[:8], "x.png"], 1, 3, tmp_path)
    with pytest.raises(DataError, match="is of another list or of other settings"):
        write(names, 1, 3, tmp_path, {"weights": "v"})
    part = tmp_path / "part-1-of-3-0.jsonl"
    lines = part.read_text().splitlines(keepends=True)
    wrong_head = lines[0].replace("9,", "null,")
    swapped = lines[:1] + lines[2:] + lines[1:2]
    for damaged in (lines[:-1], [*lines, lines[-1]], swapped, [], ["{}\n"], ["[]\n"], [wrong_head]):
        part.write_text("".join(damaged))
        with pytest.raises(DataError, match="part-1-of-3-0.jsonl: is damaged; remove it and run its shard again"):
            merged(tmp_path)
    part.write_text("".join(lines))
    (tmp_path / "part-2-of-3-9.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match="part-2-of-3-9.jsonl: is no part of the list; remove it"):
        merged(tmp_path)
    (tmp_path / "part-0-of-4-0.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match="has parts of 3 and 4 shards"):
        merged(tmp_path)


def test_shards_that_fail_at_random_are_whole_in_the_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shards, "PART_IMAGES", 5)
    rng, names, failures = random.Random(0), [f"{i}.png" for i in range(997)], 0

    def detect(files: Iterable[Path]) -> Iterator[Prediction]:
        for file in files:
            if rng.random() < 0.03:
                raise KeyboardInterrupt
            yield Prediction(file)

    for index in range(16):
        while True:
            try:
                write_shard(Names(names), Shard(index, 16), tmp_path, SETTINGS, detect, NO_CLASSES)
                break
            except KeyboardInterrupt:
                failures += 1
    assert [line["file"] for line in merged(tmp_path)] == names
    assert failures > 10 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("0/4", {}, (0, 4)),
        ("3/4", {}, (3, 4)),
        ("env", {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ("env", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "3"}, (2, 3)),
    ],
)
def test_the_shard_is_given_or_in_the_environment(text, environment, shard):
    assert parse_shard(text, environment) == Shard(*shard)


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "0/0", "", "env"])
def test_what_is_no_shard_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        parse_shard(text, {})
    assert capsys.readouterr().err.startswith("retina: --shard")


def test_the_command_detects_in_shards_what_it_detects_at_once(tiny_run: Path, tmp_path: Path):
    pictures = sorted((tiny_run.parent / "shapes" / "train").glob("*.png"))
    (tmp_path / "names").write_text("".join(f"{picture}\n" for picture in [*pictures, "missing.png", pictures[0]]))
    options = ["-w", tiny_run, "--score", "0.0001"]
    for index, command in enumerate((installed, retina, retina)):
        done = command("predict", "--list", "names", "--shard", f"{index}/3", "-o", "parts", *options, cwd=tmp_path)
        assert done.code == 0, done.err
        assert f"shard {index}/3 is whole after" in done.err
    done = retina("predict", "parts", "--merge", "-o", "all.jsonl", cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err == "wrote all.jsonl: 10 images, each once; 1 cannot be read\n"
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    at_once = json.loads(retina("predict", *pictures, "--json", *options, cwd=tmp_path).out)["images"]
    assert [{k: v for k, v in line.items() if k != "position"} for line in lines[:8]] == at_once
    assert lines[8]["file"] == "missing.png" and "fault" in lines[8]
    assert any(line["detections"] for line in lines[:8])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no images are named; name files, folders or patterns, or a file that lists them with --list"),
        (["x.png", "--list", "names"], "--list FILE names the images; leave out SOURCE"),
        (["x.png", "--shard", "0/2", "--json"], "--shard writes parts to the folder -o; leave out --vis, --save-coco"),
        (["parts", "--merge"], "--merge takes one folder of parts, and writes the file that -o names"),
    ],
)
def test_options_that_exclude_each_other(arguments: list[str], message: str):
    result = retina("predict", *arguments)
    assert result.code == 2 and result.err.startswith(f"retina: {message}")


MILLION = """
from pathlib import Path
from types import SimpleNamespace
from retinanet.data.images import read_image
from retinanet.detections import NO_DETECTIONS
from retinanet.inference.predict import predict
from retinanet.inference.shards import Names, Shard, merge_shards, write_shard
detector = SimpleNamespace(
    classes=(), category_ids=(), read=read_image,
    predict_batch=lambda images, labels=None: [NO_DETECTIONS] * len(images),
)
def peak():  # ru_maxrss would begin with that of the process that started this one
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024
before = peak()
write_shard(Names(Path("names")), Shard(0, 1), Path("parts"), {}, lambda files: predict(detector, files), detector)
print(*merge_shards(Path("parts"), Path("all.jsonl")), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_million_names_take_little_memory(tmp_path: Path):
    for i in range(3):
        Image.new("RGB", (1, 1)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    names = 1_000_000
    (tmp_path / "names").write_text("".join(f"{i % 4}.png\n" for i in range(names)))
    done = subprocess.run([sys.executable, "-c", MILLION], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images, faults, megabytes = map(float, done.stdout.split())
    assert (images, faults) == (names, names / 4)
    print(f"memory above the imports for {names:,} names: {megabytes:.0f} MB")
    assert megabytes < 200
