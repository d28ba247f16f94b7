"""Names that give orders to a terminal or a browser, outputs that are links, inputs of one name."""

import json
import os
import shlex
from pathlib import Path

import pytest
from helpers.hostile_input import MODEL, coco, metadata, snapshot

ORDERS = "\x1b[2J\x1b]0;owned\x07[red]x[/red]<script>alert(1)</script>\u202e\n\x9b1m"
SEEN = "\\x1b[2J\\x1b]0;owned\\x07[red]x[/red]<script>alert(1)</script>\\u202e\\n\\x9b1m"
LOW = "--score 0.0001 --max-detections 2"


@pytest.mark.parametrize("name", [ORDERS.replace("/", ":"), "-rf", "[link=file:x]y", "%s{0}$(id)`id`", "\u202egnp"])
def test_a_file_name_is_seen_and_not_obeyed(name: str, place: Path, in_process):
    (place / "photos" / "a.png").rename(place / "photos" / f"{name}.png")
    (place / "photos" / f"{name}.jpg").write_bytes(b"")
    result = in_process("predict", "photos", "-w", MODEL, "--vis", "-o", "out", *LOW.split())
    assert result.code == 1
    seen = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert f"photos/{seen}.jpg: is empty\n" in result.err and f"photos/{seen}.png"[:40] in result.out
    assert all(letter.isprintable() or letter == "\n" for letter in result.out + result.err)
    assert os.listdir(place / "out") == [f"{name}.png"]


def test_a_file_name_that_is_no_text(place: Path, in_process):
    os.rename(place / "photos" / "a.png", os.fsencode(place) + b"/photos/\xff\xfe.png")
    result = in_process("predict", "photos", "-w", MODEL, "--vis", "-o", "out", "--save-coco", "c.json", *LOW.split())
    assert result.code == 0, result.err
    assert "photos/\\udcff\\udcfe.png" in result.out
    assert os.listdir(os.fsencode(place / "out")) == [b"\xff\xfe.png"]
    assert json.loads((place / "c.json").read_text())[0]["file_name"] == "photos/\udcff\udcfe.png"


@pytest.fixture
def class_of_orders(place: Path, in_process) -> None:
    """Data and a checkpoint in which a class has such a name."""
    from safetensors.torch import load_file

    from retinanet.checkpoints import checkpoint

    for split in ("train", "val"):
        file = place / "coco" / "annotations" / f"instances_{split}.json"
        document = json.loads(file.read_text())
        document["categories"][0]["name"] = ORDERS
        file.write_text(json.dumps(document))
    names = [entry["name"] for entry in document["categories"]]
    metadata(classes=json.dumps(names))(place)
    checkpoint.save(
        place / MODEL, load_file(place / MODEL), checkpoint.read_metadata(place / MODEL)
    )  # a right checksum


COMMANDS = (
    f"eval {MODEL} --data coco.yaml --diagnose --thresholds t.yaml --report report",
    f"eval {MODEL} {MODEL} --data coco.yaml --compare",
    f"predict photos -w {MODEL} --vis {LOW}",
    "check coco.yaml",
    "anchors coco.yaml --vis coco/train/0.png",
)


@pytest.mark.usefixtures("class_of_orders")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_class_name_is_seen_and_not_obeyed(command: str, place: Path, in_process):
    result = in_process(*shlex.split(command))
    assert "Traceback" not in result.err
    assert all(letter.isprintable() or letter == "\n" for letter in result.out + result.err)
    if not command.startswith("anchors"):
        assert SEEN[:20] in result.out or "predict" in command
    if "--report" in command:
        page = (place / "report" / "index.html").read_text()
        assert "<script" not in page and "&lt;script&gt;" in page
        assert "\x1b" not in page and "\u202e" not in page
        again = in_process("predict", "photos", "-w", MODEL, "--thresholds", "t.yaml")
        assert again.code == 0, again.err


@pytest.mark.usefixtures("class_of_orders")
def test_an_unknown_class_is_told_in_one_line(place: Path, in_process):
    result = in_process("predict", "photos", "-w", MODEL, "--classes", "\x1b[2J")
    assert (result.code, result.err.count("\n")) == (2, 1) and "\x1b" not in result.err


LINKS = {
    f"predict photos -w {MODEL} --vis -o out": "out/a.png",
    f"predict photos -w {MODEL} --save-coco out/c.json": "out/c.json",
    f"eval {MODEL} --save-coco out/c.json": "out/c.json",
    f"eval {MODEL} --thresholds out/t.yaml": "out/t.yaml",
    f"eval {MODEL} --report out": "out/index.html",
    "anchors --vis coco/val/1.png -o out/anchors.png": "out/anchors.png",
    "loss-plot -o out/loss.svg": "out/loss.svg",
    f"loss-plot --cdf {MODEL} -o out/cdf.png": "out/cdf.png",
}


@pytest.mark.parametrize("target", ["../outside/secret", "../photos/a.png"])
@pytest.mark.parametrize("command", LINKS)
def test_a_link_is_replaced_and_not_written_through(command: str, target: str, place: Path, in_process):
    (place / "out").mkdir()
    link = place / LINKS[command]
    link.symlink_to(target)
    before = {name: held for name, held in snapshot(place).items() if not name.startswith("out")}
    result = in_process(*command.split())
    assert result.code == 0, result.err
    after = {name: held for name, held in snapshot(place).items() if not name.startswith("out")}
    assert after == before
    written = link if not link.is_symlink() else place / "out" / "a-1.png"  # a copy of the input is named otherwise
    assert written.is_file() and not written.is_symlink()


@pytest.mark.parametrize("command", LINKS)
def test_a_pipe_is_refused_before_the_work(command: str, place: Path, in_process):
    (place / "out").mkdir()
    os.mkfifo(place / LINKS[command])
    result = in_process(*command.split())
    told = f"retina: {LINKS[command]}: cannot be written: it is a pipe or a device, expected a file\n"
    assert (result.code, result.out, result.err) == (1, "", told)


def test_a_file_in_the_place_of_a_folder_is_named_before_the_work(place: Path, in_process):
    for arguments in (("ablate", "coco.yaml"), ("predict", "photos", "-w", MODEL, "--vis"), ("train", "coco.yaml")):
        result = in_process(*arguments, "-o", "thresholds.yaml/x")
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        assert ": cannot be written: " in result.err and result.err.endswith("thresholds.yaml is a file\n")


def test_a_checkpoint_is_not_imported_over_what_a_link_names(place: Path, in_process):
    (place / "new.safetensors").symlink_to("outside/secret")
    before = snapshot(place)
    result = in_process("import", MODEL, "-o", "new.safetensors")
    assert (result.code, result.err) == (1, "retina: new.safetensors: already exists; choose another file with -o\n")
    assert snapshot(place) == before


def test_copies_of_one_name_do_not_overwrite_each_other(place: Path, in_process):
    photo = (place / "photos" / "a.png").read_bytes()
    files = ["a/x.png", "b/x.png", "b/x.jpg", "b/x.bmp", "c/x-1.png", "out/x.png"]
    for name in files:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(photo)
    result = in_process("predict", *files, "-w", MODEL, "--vis", "-o", "out", *LOW.split())
    assert (result.code, result.err) == (0, "wrote 6 annotated images to out\n")
    assert len(os.listdir(place / "out")) == 7
    assert (place / "out" / "x.png").read_bytes() == photo


def test_a_picture_of_another_format_than_its_name_is_read(place: Path, in_process):
    (place / "photos" / "a.png").rename(place / "photos" / "a.jpg")
    assert in_process("predict", "photos", "-w", MODEL).code == 0
    (place / "coco" / "train" / "0.png").rename(place / "coco" / "train" / "0.jpg")
    coco(lambda document: document["images"][0].update(file_name="0.jpg"))(place)
    assert '"0.jpg" is PNG' in " ".join(in_process("check", "coco.yaml").out.split())


def test_the_limit_of_pixels_holds_in_each_command(place: Path, in_process):
    limit = "data.max_pixels=16383"  # a picture has 16384
    told = "has 128 x 128 = 16,384 pixels; data.max_pixels is 16,383"
    assert told in in_process("check", "coco.yaml", "--json", "--set", limit).out
    assert told in in_process("check", "coco.yaml", "--json", "--fast", "--set", limit).out
    assert told in in_process("train", "coco.yaml", "-o", "out", "--set", limit).err
    assert told in in_process("eval", MODEL, "--set", limit).err
    assert told in in_process("anchors", "coco.yaml", "--vis", "photos/a.png", "--set", limit).err
