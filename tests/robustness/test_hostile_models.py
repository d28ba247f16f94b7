"""Broken and malicious checkpoints, exported models, foreign weights and thresholds."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.hostile_input import (
    MODEL,
    PREDICT,
    Case,
    checkpoint,
    claim,
    header_of,
    judge,
    metadata,
    pipe,
    put,
    safetensors,
    sparse,
    text,
)

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")


def read_checked_metadata(what: str, spoil: Callable[[Path], object], words: str, command: str = PREDICT) -> Case:
    return Case(f"checkpoint: {what}", spoil, command, words)


def moved(header: dict[str, Any]) -> None:
    """The first tensor's bytes lie beyond the end."""
    name = next(name for name in header if name != "__metadata__")
    header[name]["data_offsets"] = [2**40, 2**40 + 4]


def overlapping(header: dict[str, Any]) -> None:
    first, second = [name for name in header if name != "__metadata__"][:2]
    header[first]["data_offsets"] = header[second]["data_offsets"]


def endless(header: dict[str, Any]) -> None:
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [2**62, 2**62]


def lost(header: dict[str, Any]) -> None:
    """A tensor has another name."""
    header["model.unheard.of"] = header.pop("model.fpn.p7.bias")


def flipped(place: Path) -> None:
    content = bytearray((place / MODEL).read_bytes())
    content[-5] ^= 1
    put(place / MODEL, bytes(content))


def cut(place: Path) -> None:
    put(place / MODEL, (place / MODEL).read_bytes()[:-100])


class Ran:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("outside/ran",)


CODE = pickle.dumps({"model": {"head.cls_score.weight": Ran()}})
LARGE = {"fpn_channels": 4096, "head_channels": 4096, "head_depth": 16}
FIT, DAMAGED, UNREADABLE = (
    "does not fit its own config: ",
    "its metadata is damaged: ",
    f"{MODEL}: is not a readable safetensors file: ",
)


def weights_of_nan(place: Path) -> None:
    """A checkpoint whose checksum holds, with NaN for its classes' bias."""
    from retinanet.checkpoints.checkpoint import load_model, save

    model, told = load_model(place / MODEL)
    model.cls_subnet.predict.bias.data.fill_(float("nan"))
    (place / MODEL).unlink()
    save(place / MODEL, {f"model.{name}": value for name, value in model.state_dict().items()}, told)


NOT_FINITE = f"{MODEL}: its logits or boxes are not finite; its weights may hold NaN"

CHECKPOINTS = [
    *(
        Case(f"checkpoint: NaN, to {command.split()[0]}", weights_of_nan, command, NOT_FINITE)
        for command in (f"{PREDICT} --json", f"eval {MODEL} --data coco.yaml --report out")
    ),
    *(
        read_checked_metadata(f"{what}", text(MODEL, content), UNREADABLE)
        for what, content in {
            "no bytes": b"",
            "seven bytes": b"x" * 7,
            "text": b"epochs: 12\n" * 20,
            "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
            "a header beyond its end": struct.pack("<Q", 10_000) + b"{}",
            "a header of 99 MB of nothing": struct.pack("<Q", 99_000_000) + b"{}",
            "a header that is a list": safetensors([], b""),
            "a header without end": safetensors(b"{" * 100, b""),
            "a deep header": safetensors(b'{"a":' + b"[" * 100_000, b""),
            "a pickle that runs code": CODE,
            "no text": b"\xff" * 100,
        }.items()
    ),
    read_checked_metadata("cut", cut, UNREADABLE),
    read_checked_metadata("offsets beyond its end", checkpoint(moved), UNREADABLE),
    read_checked_metadata("overlapping tensors", checkpoint(overlapping), UNREADABLE),
    read_checked_metadata("an endless shape", checkpoint(endless), UNREADABLE),
    read_checked_metadata("too large", sparse(MODEL, 2**35 + 1), "expected at most 34,359,738,368"),
    read_checked_metadata("a pipe", pipe(MODEL), "no such file or folder"),
    read_checked_metadata("another program's", metadata(format="pt"), "is a safetensors file of another program"),
    read_checked_metadata("a later version", metadata(version="2" * 1000), "has format version 222"),
    read_checked_metadata(
        "without metadata", checkpoint(lambda header: header.pop("__metadata__")), "of another program"
    ),
    read_checked_metadata("config of 19 GB", claim("model", **LARGE), FIT),
    read_checked_metadata("config of a larger trunk", claim("model", backbone="resnet152"), FIT),
    read_checked_metadata("config of 1000 anchors", claim("anchors", scales=[1.0] * 333), FIT),
    read_checked_metadata(
        "config of another trunk", claim("model", backbone="resnet19"), "unknown backbone 'resnet19'"
    ),
    read_checked_metadata("classes without end", metadata(classes=json.dumps(["x"] * 10**6)), DAMAGED),
    read_checked_metadata(
        "a million classes",
        metadata(classes=json.dumps(["x"] * 10**6), category_ids=json.dumps(list(range(10**6)))),
        FIT,
    ),
    read_checked_metadata("a lost tensor", checkpoint(lost), f"{FIT}fpn.p7.bias is missing, expected (16,)"),
    read_checked_metadata("a flipped bit", flipped, "is damaged: its checksum differs"),
    read_checked_metadata("no classes", metadata(classes="[]", category_ids="[]"), DAMAGED),
    read_checked_metadata(
        "classes that are a number", metadata(classes="7"), f"{MODEL}: {DAMAGED}a value is of another kind"
    ),
    read_checked_metadata("half a letter", metadata(classes='["\\ud800", "b", "c", "d", "e", "f"]'), DAMAGED),
    read_checked_metadata("infinite ids", metadata(category_ids="[Infinity, 1, 2, 3, 4, 5]"), DAMAGED),
    read_checked_metadata("ids that repeat", metadata(category_ids="[1, 1, 2, 3, 4, 5]"), DAMAGED),
    read_checked_metadata("ids of 70 bits", metadata(category_ids=f"[{2**70}, 1, 2, 3, 4, 5]"), DAMAGED),
    read_checked_metadata("no config", metadata(config=None), f"{MODEL}: {DAMAGED}it has no config"),
    read_checked_metadata("config that is no JSON", metadata(config="{"), DAMAGED),
    read_checked_metadata("a deep config", metadata(config="[" * 100_000), DAMAGED),
    read_checked_metadata("config that is a list", metadata(config="[]"), f"{MODEL}: its config is not valid: "),
    read_checked_metadata(
        "images of a billion pixels", claim("data", short_side=10**9), "data.short_side is 1000000000, expected"
    ),
    read_checked_metadata("to be measured", claim("model", **LARGE), FIT, f"eval {MODEL} --report out"),
    read_checked_metadata("to be exported", claim("model", **LARGE), FIT, f"export {MODEL} --to onnx"),
    read_checked_metadata("to be drawn", claim("model", **LARGE), FIT, f"loss-plot --cdf {MODEL}"),
    read_checked_metadata(
        "to begin with", claim("model", **LARGE), FIT, f"train coco.yaml -o out --set train.init={MODEL}"
    ),
    read_checked_metadata("to be timed", flipped, "its checksum differs", f"bench {MODEL}"),
    read_checked_metadata(
        "to be imported", lambda place: None, "cannot be read as weights: ", f"import {MODEL} -o new.safetensors"
    ),
]


def onnx_file(inputs: tuple[str, ...], outputs: tuple[str, ...], ours: bool, external: bool = False) -> Callable:
    """A model that hands numbers through, with the metadata of the checkpoint or without."""

    def spoil(place: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*inputs, *outputs)]
        nodes = [helper.make_node("Identity", [inputs[0]], [name]) for name in outputs]
        weights = []
        if external:
            tensor = helper.make_tensor("w", TensorProto.UINT8, [9], bytes(9), raw=True)
            onnx.external_data_helper.set_external_data(tensor, "../outside/secret")
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            weights.append(tensor)
            nodes[0] = helper.make_node("Identity", ["w"], [outputs[0]])
        graph = helper.make_graph(nodes, "g", ends[: len(inputs)], ends[len(inputs) :], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        if ours:
            header, _ = header_of((place / MODEL).read_bytes())
            helper.set_model_props(model, header["__metadata__"])
        (place / "sub").mkdir()
        (place / "sub" / "bad.onnx").write_bytes(model.SerializeToString())

    return spoil


RANKS = {"images": 4, "sizes": 2, "original_sizes": 2}  # of the inputs with more axes than one


def lying(file: str, **changed: Any) -> Callable:
    """A model with the metadata of the checkpoint whose outputs are always the same: one detection, but for `changed`.

    file: bad.onnx, or bad.xml.
    """
    told = {"boxes": np.ones((1, 1, 4), np.float32), "scores": np.ones((1, 1), np.float32)}
    told |= {"labels": np.zeros((1, 1), np.int64), "count": np.ones(1, np.int64)}
    told |= {name: np.array(value, told[name].dtype) for name, value in changed.items()}

    def in_onnx(place: Path) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        kinds = dict.fromkeys(INPUTS, TensorProto.INT64) | {"images": TensorProto.UINT8}
        kinds |= dict.fromkeys(("score_threshold", "iou_threshold"), TensorProto.FLOAT)
        given = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
        made = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in told.items()
        ]
        weights = [numpy_helper.from_array(value, f"{name}-value") for name, value in told.items()]
        nodes = [helper.make_node("Identity", [f"{name}-value"], [name]) for name in told]
        graph = helper.make_graph(nodes, "g", given, made, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        helper.set_model_props(model, header_of((place / MODEL).read_bytes())[0]["__metadata__"])
        onnx.save(model, place / file)

    def in_openvino(place: Path) -> None:
        import openvino
        from openvino import opset13

        kinds = dict.fromkeys(INPUTS, np.int64) | {"images": np.uint8}
        kinds |= dict.fromkeys(("score_threshold", "iou_threshold"), np.float32)
        given = [opset13.parameter([-1] * RANKS.get(name, 1), kind, name) for name, kind in kinds.items()]
        made = [opset13.result(opset13.constant(value)) for value in told.values()]
        for node, name in zip((*given, *made), (*kinds, *told), strict=True):
            node.output(0).set_names({name})
        model = openvino.Model(made, given, "m")
        for key, value in header_of((place / MODEL).read_bytes())[0]["__metadata__"].items():
            model.set_rt_info(value, ["retina", key])
        openvino.save_model(model, place / file, compress_to_fp16=False)

    return in_onnx if file.endswith(".onnx") else in_openvino


def openvino_file(ours: bool) -> Callable:
    def spoil(place: Path) -> None:
        import openvino
        from openvino import opset13

        given = opset13.parameter([1, 3], np.float32, "images")
        model = openvino.Model([opset13.relu(given)], [given], "m")
        if ours:
            for key, value in header_of((place / MODEL).read_bytes())[0]["__metadata__"].items():
                model.set_rt_info(value, ["retina", key])
        openvino.save_model(model, place / "bad.xml")
        (place / "bad.bin").write_bytes((place / "bad.bin").read_bytes() or b"\0")

    return spoil


def xml(content: bytes) -> Callable:
    def spoil(place: Path) -> None:
        (place / "bad.xml").write_bytes(content)
        (place / "bad.bin").write_bytes(b"\0" * 64)

    return spoil


INPUTS = ("images", "sizes", "original_sizes", "score_threshold", "iou_threshold", "max_detections")
OUTPUTS = ("boxes", "scores", "labels", "count")
ONNX, OPENVINO = "predict photos/a.png -w sub/bad.onnx", "predict photos/a.png -w bad.xml"
LIES: dict[str, tuple[dict[str, Any], str]] = {
    "boxes of another rank": (
        {"boxes": [[1, 1, 1, 1]]},
        "its boxes are float32 of shape (1, 4), expected real numbers",
    ),
    "boxes of three numbers": ({"boxes": [[[1, 1, 1]]]}, "its boxes are float32 of shape (1, 1, 3), expected"),
    "scores that are one number": ({"scores": 1}, "its boxes are float32 of shape (1, 1, 4), expected real numbers of"),
    "two images": ({"count": [1, 1]}, "its count are int64 of shape (2,), expected integers of shape (1,)"),
    "a count of nine": ({"count": [9]}, "its count is 9, expected 0 to 1"),
    "a count below zero": ({"count": [-1]}, "its count is -1, expected 0 to 1"),
    "boxes of NaN": ({"boxes": [[[1, 1, np.nan, 1]]]}, "its boxes or scores are not finite"),
    "boxes without end": ({"boxes": [[[1, 1, np.inf, 1]]]}, "its boxes or scores are not finite"),
    "scores of NaN": ({"scores": [[np.nan]]}, "its boxes or scores are not finite"),
    "a score of 2": ({"scores": [[2]]}, "a score lies outside 0 to 1"),
    "a label of 99": ({"labels": [[99]]}, "a label lies outside 0 to 5"),
}
BOMB = b'<!DOCTYPE a [<!ENTITY a "ha">' + b'<!ENTITY b "&a;&a;&a;">' * 9 + b"]><net>&b;</net>"

EXPORTED = [
    Case("ONNX: absent", lambda place: None, ONNX, "no such file; expected a model that retina export wrote"),
    *(
        Case(f"ONNX: {what}", text("bad.onnx", content), "predict photos/a.png -w bad.onnx", "is not a readable ONNX")
        for what, content in {"no bytes": b"", "text": b"text" * 99, "no text": b"\xff" * 99}.items()
    ),
    Case("ONNX: another program's", onnx_file(INPUTS, OUTPUTS, False), ONNX, "is a model of another program"),
    Case("ONNX: other names", onnx_file(("x",), ("y",), True), ONNX, "has no boxes, count, images, iou_threshold"),
    Case("ONNX: other numbers", onnx_file(INPUTS, OUTPUTS, True), ONNX, "does not run as a model of retina export"),
    Case("ONNX: reads outside", onnx_file(INPUTS, OUTPUTS, True, True), ONNX, "is not a readable ONNX file"),
    Case("ONNX: too large", sparse("bad.onnx", 2**31 + 1), "predict photos/a.png -w bad.onnx", "expected at most"),
    *(
        Case(f"{engine}: {what}", lying(file, **changed), f"predict photos/a.png -w {file} {options}", words)
        for what, (changed, words) in LIES.items()
        for engine, file, options in (("ONNX", "bad.onnx", "--json"), ("OpenVINO", "bad.xml", ""))
    ),
    Case("OpenVINO: alone", text("bad.xml", "<net/>"), OPENVINO, "its weights, bad.bin, are not in the same folder"),
    Case("OpenVINO: no XML", xml(b"{}"), OPENVINO, "is not a readable OpenVINO model"),
    Case("OpenVINO: entity bomb", xml(BOMB), OPENVINO, "is not a readable OpenVINO model"),
    Case("OpenVINO: no net", xml(b'<net name="x" version="11"/>'), OPENVINO, "bad.xml: is "),
    Case("OpenVINO: another program's", openvino_file(False), OPENVINO, "is a model of another program"),
    Case("OpenVINO: other names", openvino_file(True), OPENVINO, "bad.xml: has no boxes, count"),
]


def zipped(method: int) -> bytes:
    """What torch takes for its own, with a part of 64 MB in some 60 KB."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + bytes(2**26))
    return made.getvalue()


def of_torch(held: Callable[[], object]) -> Callable:
    def spoil(place: Path) -> None:
        import torch

        torch.save(held(), place / "bad.pth")

    return spoil


def heads(**tensors: object) -> dict[str, object]:
    return {"head.classification_head.cls_logits.weight": tensors["weight"], **tensors}


def foreign(what: str, spoil: Callable[[Path], object], words: str, name: str = "bad.pth") -> Case:
    return Case(f"weights: {what}", spoil, f"import {name} -o new.safetensors", words)


def wide() -> object:
    import torch

    return heads(weight=torch.zeros(1).expand(10**9, 10**3))


def flat() -> object:
    import torch

    return heads(weight=torch.tensor(1.0)) | {"head.classification_head.cls_logits.bias": torch.tensor(1.0)}


READ = "cannot be read as weights: "
FOREIGN = [
    foreign("code in a pickle", text("bad.pkl", CODE), READ, "bad.pkl"),
    foreign("code in torch's archive", of_torch(Ran), READ),
    foreign("a memo of 60 GB", text("bad.pkl", b"\x80\x02Nr\xff\xff\xff\xff."), "it contains NoneType", "bad.pkl"),
    foreign("text of 16 EB", text("bad.pkl", b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f."), READ, "bad.pkl"),
    foreign("numbers of 2 GB", text("bad.pkl", b"\x80\x02\x8b\xff\xff\xff\x7f."), READ, "bad.pkl"),
    foreign(
        "a frame of 1 EB", text("bad.pkl", b"\x80\x04\x95" + b"\0" * 7 + b"\x10N."), "it contains NoneType", "bad.pkl"
    ),
    foreign("a packed archive", text("bad.pth", zipped(zipfile.ZIP_DEFLATED)), "it claims 67,108,868 bytes in a file"),
    foreign("an archive of another kind", text("bad.pth", zipped(zipfile.ZIP_STORED)), READ),
    foreign("a start of an archive", text("bad.pth", b"PK\x03\x04" + b"\0" * 100), READ),
    foreign("views of 4 TB", of_torch(wide), "it claims 8,000,000,000,000 bytes in a file of"),
    foreign("numbers without shape", of_torch(flat), "is not a supported RetinaNet"),
    foreign("text", text("bad.pth", "no weights"), READ),
    foreign("too large", sparse("bad.pth", 2**32 + 1), "expected at most 4,294,967,296"),
    foreign("a pipe", pipe("bad.pth"), "no such file; expected weights of"),
    foreign("escapes in a name", of_torch(lambda: {"\x1b[2J\n": np.zeros(1)}), READ),
]

CUT = f"{PREDICT} --thresholds thresholds.yaml"
THRESHOLDS = [
    Case(f"thresholds: {what}", text("thresholds.yaml", content), CUT, words)
    for what, content, words in (
        ("empty", "", "contains nothing, expected a mapping with a list `classes`"),
        ("alias bomb", "a: &a [1]\n" + f"b: &b [{'*a, ' * 900}]\nc: &c [{'*b, ' * 900}]", "more than 100,000 values"),
        ("alias of itself", "classes: &a [*a]", "an alias is inside the value that it stands for"),
        ("huge", f"classes: [{{label: red circle, threshold: 0x{'f' * 5000}}}]", "a number has 5,002 digits"),
        ("NaN", "classes: [{label: red circle, threshold: .nan}]", "threshold is nan, expected a number in 0..1"),
        ("escapes", 'classes: [{label: "\\e[2J", threshold: 1}]', "unknown class '\\x1b[2J'"),
        ("no text", b"\xff\xfe\xfa", "is not readable YAML"),
        ("one class", "classes: [{label: red circle, threshold: 1}]", "has no threshold for blue circle"),
    )
] + [
    Case("thresholds: too large", sparse("thresholds.yaml", 2_000_000), CUT, "expected at most 1,000,000"),
    Case("thresholds: a pipe", pipe("thresholds.yaml"), CUT, "is a device or a pipe, expected a file"),
]


@pytest.mark.parametrize("case", [*CHECKPOINTS, *EXPORTED, *FOREIGN, *THRESHOLDS], ids=repr)
def test_one_line(case: Case, place: Path, in_process):
    if case.what.startswith("ONNX"):
        pytest.importorskip("onnxruntime")
    if case.what.startswith("OpenVINO"):
        pytest.importorskip("openvino")
    judge(case, place, in_process)
