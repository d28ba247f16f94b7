"""Broken and malicious configs, annotations and pictures: each is told in one line, and nothing is written."""

import base64
import io
import json
from pathlib import Path

import pytest
from helpers.hostile_input import (
    COCO,
    MERGES,
    PREDICT,
    TRAIN,
    Case,
    annotation,
    coco,
    image_entry,
    judge,
    pipe,
    png_header,
    sparse,
    text,
)
from PIL import Image

pytestmark = pytest.mark.filterwarnings(
    "error::RuntimeWarning", "error::UserWarning", "ignore::PIL.Image.DecompressionBombWarning"
)

BAD = "train bad.yaml -o out"
LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{letter}: &{letter} [{', '.join(['*' + before] * 9)}]\n"
    for before, letter in zip("abcdefgh", "bcdefghi", strict=True)
)


def bad(what: str, content: str | bytes, words: str) -> Case:
    return Case(f"config: {what}", text("bad.yaml", content), BAD, words)


CONFIGS = [
    bad("empty", "", "bad.yaml: contains nothing, expected a mapping with data, model, train, ..."),
    bad("a list", "- data", "bad.yaml: contains a list"),
    bad("alias bomb", LAUGHS, "100,000 values, with aliases"),
    bad("merge bomb", MERGES, "100,000 values, with aliases"),
    bad("alias bomb in a key", LAUGHS + "loss: {classification: *i}", "100,000 values, with aliases"),
    bad("letters by alias", f"a: &a {'x' * 400_000}\nb: [{'*a, ' * 100}]", "100,000 values, with aliases"),
    bad("alias of itself", "data: &a {train: *a}", "an alias is inside the value that it stands for"),
    bad("merge of itself", "data: &a\n  <<: *a", "an alias is inside the value that it stands for"),
    bad("deep nesting", "[" * 500_000, "it is nested too deeply"),
    bad("deep mappings", "{a: " * 100_000, "it is nested too deeply"),
    bad("many values", "data: [" + "a," * 400_000 + "]", "it has more than 100,000 values"),
    bad("huge hexadecimal", f"train: {{seed: 0x{'f' * 100_000}}}", "a number has 100,002 digits"),
    bad("huge decimal", f"train: {{seed: 1{'0' * 5000}}}", "a number has 5,001 digits"),
    bad("huge base 60", f"train: {{seed: 1{':59' * 100_000}}}", "a number has 300,001 digits"),
    bad("not so huge", f"train: {{seed: 1{'0' * 900}}}", "train.seed is 1000"),
    bad("calls a function", '!!python/object/apply:os.system ["touch outside/ran"]', "could not determine a construct"),
    bad("names a class", "train: {seed: !!python/name:os.system ''}", "could not determine a constructor"),
    bad("odd truth value", "a: !!bool x", "bad.yaml: is not readable YAML: a value is not what its tag, such as"),
    bad("odd integer", "a: !!int ''", "bad.yaml: is not readable YAML: a value is not what its tag, such as"),
    bad("odd date", "a: 2020-13-45", "bad.yaml: is not readable YAML: month must be in 1..12"),
    bad("NUL", b"data: \x00", "special characters are not allowed"),
    bad("no text", b"\xff\xfe\xfa", "bad.yaml: is not readable YAML: "),
    bad("half a letter", 'data: {root: "\\ud800"}', "bad.yaml: is not readable YAML: surrogates not allowed"),
    bad("long key", f"train:\n  ? {'x' * 900_000}\n  : 1", "unknown key train.xxxxx"),
    bad("escapes in a key", 'train: {"\\e[2J": 1}', "unknown key train.\\x1b[2J"),
    bad("escapes in a value", 'loss: {box: "\\e]0;owned\\a"}', "loss.box is '\\x1b]0;owned\\x07'"),
    bad("classes by alias", "data: {classes: [&a [x], *a]}", "data.classes[0] is ['x'], expected text"),
    bad("endless anchors", f"anchors: {{scales: [{'1,' * 2000}]}}", "has 2000 scales and 3 ratios"),
    bad("anchors beyond all", "anchors: {scales: [1e300]}", "anchors.scales is [1e+300], expected 1e-06 to 1,000,000"),
    bad("infinite rate", "train: {lr: .inf}", "train.lr is inf, expected a finite number"),
    bad("no pixels", "data: {max_pixels: 0}", "data.max_pixels is 0, expected 1,024 to 2,147,483,648"),
    bad("trunk by path", "data: shapes\nmodel: {backbone: ../../etc/passwd}", "unknown backbone '../../etc/passwd'"),
    bad(
        "trunk from the web", "data: shapes\nmodel: {backbone: 'timm:hf-hub:me/evil'}", "has no model 'hf-hub:me/evil'"
    ),
    bad("long root", f"data: {{root: {'x' * 5000}, train: a}}", "File name too long"),
    bad("NUL in a root", 'data: {root: "a\\0b", train: a}', "no such folder"),
    bad("long checkpoint", f"data: shapes\ntrain: {{init: {'x' * 5000}}}", "no such file or folder"),
    bad("no checkpoint", "data: shapes\ntrain: {init: outside/secret}", "is not a readable safetensors file"),
    Case("config: too large", sparse("bad.yaml", 2_000_000), BAD, "has 2,000,000 bytes, expected at most 1,000,000"),
    Case("config: a pipe", pipe("bad.yaml"), BAD, "bad.yaml: no such file here"),
    Case("config: a folder", lambda place: (place / "bad.yaml").mkdir(), BAD, "is a folder, expected a YAML file"),
    Case("--set: huge", lambda place: None, f"{TRAIN} --set train.lr=0x{'f' * 5000}", "train.lr is '0xfff"),
    Case("--set: bomb", lambda place: None, f"{TRAIN} --set 'train.lr=[&a [1], {'*a, ' * 9000}]'", "train.lr is ["),
]

COCO_FILES = [
    Case("COCO: empty", text(COCO, ""), TRAIN, "not JSON: Expecting value"),
    Case("COCO: a list", text(COCO, "[]"), TRAIN, "is a JSON list; expected an object"),
    Case("COCO: deep", text(COCO, '{"images": ' + "[" * 500_000), TRAIN, "nested too deeply"),
    Case("COCO: deep value", image_entry(width=json.loads("[" * 80 + "]" * 80)), TRAIN, "images[0] has width [...]"),
    Case("COCO: huge integer", text(COCO, '{"images": [1' + "0" * 5000 + "]}"), TRAIN, "not JSON: Exceeds the limit"),
    Case("COCO: no text", text(COCO, b"\xff\xff\xff"), TRAIN, "not JSON: "),
    Case("COCO: too large", sparse(COCO, 2**33 + 1), TRAIN, "has 8,589,934,593 bytes, expected at most 8,589,934,592"),
    Case("COCO: a pipe", pipe(COCO), TRAIN, "no split"),
    Case(
        "COCO: entries are numbers", coco(lambda d: d.update(images=[1])), TRAIN, "images[0] is 1; expected an object"
    ),
    Case("COCO: no images", coco(lambda d: d.update(images=[])), TRAIN, '"images" is empty'),
    *(
        Case(f"COCO: file name {name[:20]!r}", image_entry(file_name=name), TRAIN, "expected a path inside the image")
        for name in (
            "/etc/passwd",
            "../outside/secret",
            "a/../../outside/secret",
            "..\\outside\\secret",
            "C:\\secret.png",
            "C:secret.png",
            "\\\\host\\share\\x.png",
            "\\secret",
            "0.png\0.txt",
            "x" * 5000,
            "..",
            "",
        )
    ),
    Case("COCO: half a letter", image_entry(file_name="\ud800.png"), TRAIN, "has file_name"),
    Case("COCO: file name is a number", image_entry(file_name=1), TRAIN, "has file_name 1; expected a string"),
    Case("COCO: escapes in a name", image_entry(file_name="\x1b[2J[red].png"), TRAIN, "\\x1b[2J[red].png"),
    Case("COCO: half a pixel", image_entry(width=0.5), TRAIN, "has width 0.5; expected a number >= 1"),
    Case("COCO: endless width", image_entry(width=1e300), TRAIN, "has width 1e+300"),
    Case("COCO: width NaN", image_entry(width=float("nan")), TRAIN, "has width NaN"),
    Case("COCO: three numbers", annotation(bbox=[1, 2, 3]), TRAIN, "has bbox [1, 2, 3]; expected 4 numbers"),
    Case("COCO: a word in a box", annotation(bbox=[1, 2, 3, "x"]), TRAIN, 'has bbox [1, 2, 3, "x"]'),
    Case("COCO: huge id", annotation(id=2**70), TRAIN, "expected an integer"),
    Case("COCO: id is a list", annotation(image_id=[1]), TRAIN, "has image_id [1]; expected an integer"),
    Case("COCO: unknown image", annotation(image_id=99), TRAIN, 'has image_id 99; "images" has no such id'),
    Case("COCO: odd crowd", annotation(iscrowd=[[]]), TRAIN, "has iscrowd [[]]; expected 0 or 1"),
    Case("COCO: ids repeat", coco(lambda d: d["images"][1].update(id=0)), TRAIN, "ids must differ"),
]

VOC = "train voc.yaml -o out"
PAGE = "voc/Annotations/a.xml"
ENTITIES = (
    '<!DOCTYPE a [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {n} "{f"&{b};" * 9}">' for b, n in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><annotation><filename>&i;</filename></annotation>"
)
FOREIGN = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


def page(**changes: str) -> str:
    values = {"file": "a.jpg", "width": "128", "name": "cell", "xmin": "9"} | changes
    return (
        f"<annotation><filename>{values['file']}</filename><size><width>{values['width']}</width><height>128</height>"
        f"</size><object><name>{values['name']}</name><bndbox><xmin>{values['xmin']}</xmin><ymin>9</ymin><xmax>60</xmax>"
        "<ymax>70</ymax></bndbox></object></annotation>"
    )


VOC_FILES = [
    Case("VOC: entity bomb", text(PAGE, ENTITIES), VOC, "has a DOCTYPE, which annotations do not need"),
    Case("VOC: foreign entity", text(PAGE, FOREIGN), VOC, "has a DOCTYPE"),
    Case("VOC: no XML", text(PAGE, "{}"), VOC, "cannot be read as XML"),
    Case("VOC: unknown encoding", text(PAGE, '<?xml version="1.0" encoding="x"?><a/>'), VOC, "cannot be read as XML"),
    Case("VOC: deep", text(PAGE, "<a>" * 200_000), VOC, "cannot be read as XML"),
    Case("VOC: too large", sparse(PAGE, 10_000_000), VOC, "has 10,000,000 bytes, expected at most 8,388,608"),
    Case("VOC: a pipe", pipe(PAGE), VOC, "is a device or a pipe, expected a file"),
    Case("VOC: absolute", text(PAGE, page(file="/etc/passwd")), VOC, "expected a path inside the image folder"),
    Case("VOC: above", text(PAGE, page(file="../../outside/secret")), VOC, "expected a path inside the image folder"),
    Case("VOC: drive", text(PAGE, page(file="D:\\x.jpg")), VOC, "expected a path inside the image folder"),
    Case("VOC: long name", text(PAGE, page(file="x" * 100_000)), VOC, "expected a path inside the image folder"),
    Case("VOC: endless width", text(PAGE, page(width="1e300")), VOC, "the size has a side of 1e+300 pixels"),
    Case("VOC: width NaN", text(PAGE, page(width="nan")), VOC, "the size has a side of nan pixels"),
    Case("VOC: long number", text(PAGE, page(xmin="x" * 1_000_000)), VOC, 'has xmin "xxx'),
    Case("VOC: no name", text(PAGE, page(name=" ")), VOC, "an object has no name"),
    Case("VOC: split above", text("voc/ImageSets/Main/train.txt", "../../outside/secret"), VOC, "no such file"),
]

YOLO, YAML, LABELS = "train yolo.yaml -o out", "yolo/data.yaml", "yolo/labels/train/a.txt"


def listing(content: str) -> Case:
    def spoil(place: Path) -> None:
        text("yolo/list.txt", content)(place)
        text(YAML, "train: list.txt\nnames: [cell]")(place)

    return Case(f"YOLO: list of {content[:20]!r}", spoil, YOLO, "retina: ")


YOLO_FILES = [
    Case("YOLO: alias bomb", text(YAML, LAUGHS), YOLO, "data.yaml: is not readable YAML: it has more than"),
    Case("YOLO: alias of itself", text(YAML, "names: &a [*a]"), YOLO, "an alias is inside the value"),
    Case("YOLO: deep", text(YAML, "[" * 100_000), YOLO, "it is nested too deeply"),
    Case("YOLO: a list", text(YAML, "- a"), YOLO, "data.yaml: contains a list, expected a mapping with train, val and"),
    Case("YOLO: too large", sparse(YAML, 2_000_000), YOLO, "expected at most 1,000,000"),
    Case("YOLO: names are lists", text(YAML, "train: images/train\nnames: [[a]]"), YOLO, "names has lists or mappings"),
    Case("YOLO: paths are lists", text(YAML, "train: [[a]]\nnames: [a]"), YOLO, "train has lists or mappings"),
    Case("YOLO: absent folder", text(YAML, f"train: {'x' * 5000}\nnames: [a]"), YOLO, "which does not exist"),
    Case("YOLO: class beyond", text(LABELS, "7 0.5 0.5 0.1 0.1"), YOLO, "has class 7; expected 0 to 0"),
    Case("YOLO: words", text(LABELS, "cell " * 100_000), YOLO, 'line 1: has "cell"; expected numbers'),
    Case("YOLO: class NaN", text(LABELS, "nan 0.5 0.5 0.1 0.1"), YOLO, "has class nan"),
    Case("YOLO: too few", text(LABELS, "0 1"), YOLO, "has 2 values; expected class cx cy w h"),
    Case("YOLO: labels too large", sparse(LABELS, 2**29), YOLO, "expected at most 268,435,456"),
    *map(listing, ("/", "..", "/etc/passwd", "a\0b.jpg", "x" * 5000 + ".jpg", "\x1b[2J.jpg", "images/gone.jpg")),
]


def saved(kind: str, cut: float = 1.0, mode: str = "L") -> bytes:
    made = io.BytesIO()
    Image.effect_noise((90, 60), 50).convert(mode).save(made, kind)
    return made.getvalue()[: int(len(made.getvalue()) * cut)]


def picture(what: str, content: bytes, words: str, name: str = "bad.jpg") -> Case:
    return Case(
        f"picture: {what}",
        text(f"photos/{name}", content),
        f"predict photos/{name} -w model.safetensors --vis -o out --json",
        f"photos/{name}: {words}",
        per_file=True,
    )


def circle(place: Path) -> None:
    """A folder with nothing but a link to itself."""
    (place / "photos" / "a.png").unlink()
    (place / "photos" / "link.png").symlink_to("link.png")


PICTURES = [
    picture("no bytes", b"", "is empty"),
    picture("text", b"a plain\ntext", 'not an image but text: "a plain text"'),
    picture("a web page", b"<!DOCTYPE html>\n<html>404</html>", 'not an image but text: "<!DOCTYPE html> <html>404'),
    picture("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image but text"),
    picture("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "not an image, or of an unknown format (14 bytes)"),
    picture("an icon", base64.b64decode("AAABAAEAAQEAAAEAIAAwAAAAFgAAAA=="), "not an image, or of an unknown format"),
    *(picture(f"half a {kind}", saved(kind, 0.5), "") for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")),
    *(picture(f"a start of {kind}", saved(kind, 0.0)[:9] + b"\0" * 9, "") for kind in ("PNG", "JPEG", "GIF", "WEBP")),
    picture("PNG bomb", png_header(60_000, 60_000), "has more than 2,147,483,648 pixels"),
    picture("smaller PNG bomb", png_header(20_000, 20_000), "has 20000 x 20000 = 400,000,000 pixels; data.max_pixels"),
    picture("GIF bomb", saved("GIF")[:6] + b"\xff" * 4 + saved("GIF")[10:], "has more than 2,147,483,648 pixels"),
    picture("BMP bomb", saved("BMP")[:18] + b"\x40\x9c\0\0\x40\x9c\0\0" + saved("BMP")[26:], "has 40000 x 40000"),
    picture("PPM bomb", b"P6 20000 20000 255\n", "has 20000 x 20000"),
    picture("PPM without end", b"P6 " + b"9" * 9999, "cannot be read as an image"),
    picture("floating point", saved("TIFF", mode="F"), "has floating-point pixels", "bad.tif"),
    picture("endless TIFF", b"II*\0\x08\0\0\0\xff\xff" + b"\x01" * 40, "", "bad.tif"),
    Case(
        "picture: a pipe", pipe("photos/a.png"), PREDICT, "photos/a.png: is a folder, a device or a pipe", per_file=True
    ),
    Case(
        "picture: in a circle",
        circle,
        "predict photos -w model.safetensors --vis -o out",
        "link.png: cannot be read as",
        per_file=True,
    ),
]


def results(what: str, content: str | bytes, words: str) -> Case:
    return Case(f"results: {what}", text("r.json", content), EVAL, words)


EVAL = "eval r.json --data coco.yaml --split train"
RESULTS = [
    results("empty", "", "r.json: is not JSON: Expecting value"),
    results("an object", "{}", "r.json: is a mapping; expected a list of detections"),
    results("deep", "[" * 500_000, "r.json: is nested too deeply"),
    results(
        "a deep value", f'[{{"image_id": {"[" * 80}{"]" * 80}}}]', "1 of 1 detections have no bbox of four numbers"
    ),
    results("huge integer", "[1" + "0" * 5000 + "]", "r.json: is not JSON: Exceeds the limit"),
    results("no text", b"\xff\xff\xff", "r.json: is not JSON: "),
    results("numbers", "[1, 2]", "2 of 2 detections are no objects, such as 1 in [0]"),
    results(
        "escapes in a name",
        '[{"image_id": "\\u001b[2J", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
        r"are of no image of the data, such as image_id '\x1b[2J' in [0]",
    ),
    results(
        "half a letter",
        '[{"image_id": "\\ud800", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
        r"such as image_id '\ud800' in [0]",
    ),
    Case("results: too large", sparse("r.json", 2**32 + 1), EVAL, "has 4,294,967,297 bytes, expected at most 4,294,"),
    Case("results: a pipe", pipe("r.json"), EVAL, "r.json: is a device or a pipe, expected a file"),
]


@pytest.mark.parametrize("case", [*CONFIGS, *COCO_FILES, *VOC_FILES, *YOLO_FILES, *PICTURES, *RESULTS], ids=repr)
def test_one_line(case: Case, place: Path, in_process):
    judge(case, place, in_process)
