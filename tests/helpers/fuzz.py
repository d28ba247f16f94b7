"""Random inputs for each reader of users' files: it takes them, or raises RetinaNetError.

As a program, `python -m helpers.fuzz READER EXAMPLES` or `python -m helpers.fuzz largest 0` prints by how many MB its
memory grew.
"""

import atexit
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.hostile_input import safetensors
from helpers.support import TINY_MODEL
from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.convert import import_weights
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_from_dict, config_to_dict
from retinanet.config.schema import Config, SplitConfig
from retinanet.config_file import load_config
from retinanet.data.formats.build import build_dataset
from retinanet.data.formats.coco import read_coco
from retinanet.data.formats.recognise import open_split
from retinanet.data.images import format_and_frames, image_size, read_image
from retinanet.dataset_analysis.annotations import in_annotations, in_classes
from retinanet.dataset_analysis.findings import Split
from retinanet.errors import RetinaNetError
from retinanet.inference.threshold_file import load_thresholds
from retinanet.model.retinanet import make_model

MAX_PIXELS = 25_000_000
FOLDER = Path(tempfile.mkdtemp(prefix="retina-battery-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
CONFIG = config_from_dict({"model": yaml.safe_load(TINY_MODEL)}, "the battery")

WORDLESS = re.compile(  # at the end of a message, in place of a reason
    r"(?:weights|image|file|damaged): (\W*|-?\d+|b['\"].*|\w+ index out of range|pop from .*|unpack requires .*"
    r"|.* object has no attribute .*|invalid literal .*|.* unexpected keyword .*)$"
)

numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 2**31, 2**63, -(2**63), 2**70, 1e308, 1e-320])
plain = st.none() | st.booleans() | numbers | st.text(max_size=9) | st.sampled_from(["shapes", "focal", "1e5", "../x"])
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner), max_leaves=9
)


def file(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@contextmanager
def refused() -> Iterator[None]:
    """Takes a RetinaNetError that gives a reason in words, not in Python's."""
    try:
        yield
    except RetinaNetError as error:
        assert not WORDLESS.search(str(error)), str(error)


def any_config(kind: Any = Config) -> st.SearchStrategy:
    """Mappings with known keys and any values, sections included."""
    keys = {}
    for item in fields(kind):
        sample = getattr(kind(), item.name)
        keys[item.name] = any_config(type(sample)) | values if is_dataclass(sample) else values
    return st.fixed_dictionaries({}, optional=keys) | values


@st.composite
def changed(draw: st.DrawFn, documents: Callable[[], list[Any]]) -> Any:
    """One of some JSON documents with up to three places replaced or removed."""
    document = json.loads(json.dumps(draw(st.sampled_from(documents()))))
    for _ in range(draw(st.integers(1, 3))):
        place, key = None, None
        inner = document
        while isinstance(inner, (dict, list)) and inner and (place is None or draw(st.integers(0, 3))):
            place, key = inner, draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner))))
            inner = place[key]
        if place is not None:
            if draw(st.integers(0, 4)):
                place[key] = draw(values)
            else:
                del place[key]
    return document


@st.composite
def spoiled(draw: st.DrawFn, contents: Callable[[], list[bytes]]) -> bytes:
    """One of some files, cut, with bytes or numbers overwritten, or with a part doubled; or any bytes."""
    if not draw(st.integers(0, 9)):
        return draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(contents())))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, min(100, len(content))))
        match draw(st.sampled_from(["cut", "bytes", "number", "double"])):
            case "cut":
                del content[start:]
            case "bytes":
                put = draw(st.binary(min_size=1, max_size=8))
                content[start : start + len(put)] = put
            case "number":
                number = draw(st.sampled_from([0, 1, 255, 5000, 40_000, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1]))
                put = number.to_bytes(4, draw(st.sampled_from(["little", "big"])))
                content[start : start + 4] = put
            case "double":
                content[start:start] = content[start : start + draw(st.integers(1, 64))]
    return bytes(content)


def coco_documents() -> list[Any]:
    images = [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in (3, 7)]
    boxes = [
        {"id": i, "image_id": 3 + 4 * (i % 2), "category_id": 2, "bbox": [1, 2, 3, 4], "area": 7.5} for i in range(4)
    ]
    boxes[1] |= {"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [10, 20]}}
    boxes[2] |= {"segmentation": [[0, 0, 5.5, 0]]}
    unsized = [{"id": image["id"], "file_name": image["file_name"]} for image in images]
    document = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 2, "name": "car"}, {"id": 9, "name": "é"}],
    }
    return [document, document | {"images": unsized}]


@cache
def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (9, 14, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (9, 14)).astype(np.uint16))
    made = []
    for kind, picture, options in [
        *((kind, colour, {}) for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")),
        *(("PNG", colour.convert(mode), {}) for mode in ("L", "P", "1", "RGBA", "LA")),
        ("PNG", deep, {}),
        ("TIFF", deep, {}),
        ("JPEG", colour, {"progressive": True, "exif": _turned()}),
        ("JPEG", colour.convert("CMYK"), {}),
        ("WEBP", colour, {"lossless": True}),
        *(("TIFF", colour, {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        *(
            (kind, colour, {"save_all": True, "append_images": [colour.rotate(180)]})
            for kind in ("GIF", "PNG", "TIFF", "MPO")
        ),
    ]:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return made


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@cache
def sound_checkpoint() -> tuple[bytes, bytes]:
    """Its header with the length before it, and its tensors."""
    model = make_model(CONFIG.model, CONFIG.anchors, 2)
    tensors = {checkpoint.MODEL + name: tensor for name, tensor in model.state_dict().items()}
    checkpoint.save(FOLDER / "sound.safetensors", tensors, Metadata(CONFIG, ("a", "b"), (1, 2)))
    content = (FOLDER / "sound.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return content[:start], content[start:]


@cache
def foreign() -> list[bytes]:
    held = {
        "model": {"head.cls_score.weight": np.zeros((9, 4)), "backbone.bottom_up.stem.conv1.weight": np.zeros((4, 3))}
    }
    buffer = io.BytesIO()
    torch.save({"head.classification_head.cls_logits.weight": torch.zeros(9, 4), "x": [torch.zeros(2)]}, buffer)
    return [*(pickle.dumps(held, protocol) for protocol in (2, 4)), buffer.getvalue()]


def read_config(given: Any) -> None:
    with suppress(RetinaNetError):
        config = config_from_dict(given, "the battery")
        assert config_from_dict(json.loads(json.dumps(config_to_dict(config))), "again") == config
    with suppress(RetinaNetError, yaml.YAMLError):
        load_config(file("c.yaml", yaml.safe_dump(given, allow_unicode=True).encode("utf-8", "ignore")))


def read_yaml(content: bytes) -> None:
    with suppress(RetinaNetError):
        load_config(file("c.yaml", content))
    with suppress(RetinaNetError):
        load_thresholds(file("c.yaml", content), ("a", "b"), (1, 2))


def read_annotations(given: Any) -> None:
    for name in ("3.png", "7.png"):
        if not (FOLDER / "images" / name).exists():
            file(f"images/{name}", pictures()[1])
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    with suppress(RetinaNetError):
        split = Split("train", build_dataset(read_coco(FOLDER / "images", file("a.json", content)), None))
        assert list(in_annotations(split)) is not None and list(in_classes(split, split.data)) is not None
        for index in range(len(split.data)):
            with suppress(RetinaNetError):
                sample = split.data[index]
                assert np.isfinite(sample.boxes).all() and sample.boxes.max(initial=0) <= 20


def read_page(content: bytes) -> None:
    file("voc/JPEGImages/a.png", pictures()[1])
    file("voc/ImageSets/Main/train.txt", b"a")
    file("voc/Annotations/a.xml", content)
    with suppress(RetinaNetError):
        open_split(FOLDER / "voc", SplitConfig("train"))


def read_labels(content: bytes) -> None:
    half = len(content) // 2
    file("yolo/images/train/a.png", pictures()[1])
    file("yolo/labels/train/a.txt", content)
    file("yolo/list.txt", content[:half])
    file("yolo/data.yaml", b"names: [a, b]\nval: list.txt\n" + content[half:] * (half % 2))
    for name in ("train", "val"):
        with suppress(RetinaNetError):
            open_split(FOLDER / "yolo", SplitConfig(name))


def read_picture(content: bytes) -> None:
    path = file("a.jpg", content)
    with refused():
        format_and_frames(path)
    with refused():
        size = image_size(path, max_pixels=MAX_PIXELS)
        with refused():
            image = read_image(path, max_pixels=MAX_PIXELS)
            assert (
                image.dtype == np.uint8 and image.shape == (*size, 3) and image.shape[0] * image.shape[1] <= MAX_PIXELS
            )


def read_checkpoint(header: bytes) -> None:
    for content in (header, header + sound_checkpoint()[1]):
        path = file("a.safetensors", content)
        for read in (checkpoint.read_metadata, checkpoint.load_model):
            with refused():
                read(path)


def read_header(header: Any) -> None:
    read_checkpoint(safetensors(header, b""))


def headers() -> list[Any]:
    return [json.loads(sound_checkpoint()[0][8:])]


def read_foreign(content: bytes) -> None:
    with refused():
        import_weights(file("a.pth", content))


def texts() -> list[bytes]:
    return [b"train: {lr: 1e-3, epochs: !!int 3}\na: &a [1, 2]\nb: {<<: {c: *a}, d: 0x1f, e: 1:30, f: 2020-01-02}\n"]


def pages() -> list[bytes]:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>7</ymax></bndbox>"
    size = "<size><width>14</width><height>9</height></size>"
    return [f"<annotation><filename>a.png</filename>{size}<object><name>c</name>{box}</object></annotation>".encode()]


def lines() -> list[bytes]:
    return [b"0 0.5 0.5 0.25 0.25\n1 .1 .2 .3 .4 .5 .6\nimages/train/a.png\n./images/train/a.png\n"]


READERS: dict[str, tuple[st.SearchStrategy, Callable[[Any], None]]] = {
    "config": (any_config(), read_config),
    "YAML": (spoiled(texts), read_yaml),
    "COCO": (values | changed(coco_documents), read_annotations),
    "COCO as bytes": (
        spoiled(lambda: [json.dumps(document).encode() for document in coco_documents()]),
        read_annotations,
    ),
    "VOC": (spoiled(pages), read_page),
    "YOLO": (spoiled(lines), read_labels),
    "picture": (spoiled(pictures), read_picture),
    "checkpoint": (spoiled(lambda: [sound_checkpoint()[0]]), read_checkpoint),
    "checkpoint's header": (changed(headers), read_header),
    "foreign weights": (spoiled(foreign), read_foreign),
}


def run(reader: str, examples: int) -> None:
    """So many random inputs, the same each time. Raises: what the reader must not."""
    strategy, read = READERS[reader]
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=checks,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )(given(strategy)(read))()


LARGEST = [
    *((mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    *((mode, "TIFF") for mode in ("RGB", "CMYK", "I;16", "RGBA")),
    *(("RGB", kind) for kind in ("JPEG", "GIF", "BMP", "WEBP", "PPM")),
    ("CMYK", "JPEG"),
    ("RGBA", "WEBP"),
]
SAVE = """
import sys
from PIL import Image
exif = Image.Exif()
exif[0x0112] = 6
for pair in sys.argv[2:]:
    mode, kind = pair.split(",")
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {"exif": exif} if kind == "JPEG" else {}
    for height in (5000, 5001):
        Image.new(mode, (5000, height)).save(f"{sys.argv[1]}/{mode.replace(';', '')}{height}.{kind}", kind, **options)
"""


def read_largest() -> None:
    """Pictures of each kind, of the largest size and a row larger. Another process makes them: only reading counts."""
    subprocess.run([sys.executable, "-c", SAVE, FOLDER, *(",".join(pair) for pair in LARGEST)], check=True)
    for mode, kind in LARGEST:
        name = f"{mode.replace(';', '')}5000.{kind}"
        assert read_image(FOLDER / name, max_pixels=MAX_PIXELS).shape == (5000, 5000, 3)
        with pytest.raises(RetinaNetError, match="= 25,005,000 pixels"):
            read_image(FOLDER / name.replace("5000", "5001"), max_pixels=MAX_PIXELS)


def memory(field: str) -> int:
    """Bytes of this process, as Linux tells: VmRSS now, VmHWM at the most. getrusage would count its parent's too."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    warnings.filterwarnings("error", category=RuntimeWarning, module="retinanet")
    reader, examples = sys.argv[1], int(sys.argv[2])
    sound_checkpoint(), pictures(), foreign(), run("config", 2)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    if reader == "largest":
        read_largest()
    else:
        run(reader, examples)
    print((memory("VmHWM") - before) // 1_000_000)
