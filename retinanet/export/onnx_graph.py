"""The ONNX graph of a detector: the network as torch exports it, then `detect` in standard operators."""

import copy
import types
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retinanet.config.schema import DetectConfig
from retinanet.data.transforms import PAD_MULTIPLE
from retinanet.model.anchors import STRIDES, cell_anchors
from retinanet.model.batchnorm_folding import fold_for_inference
from retinanet.model.boxes import MAX_LOG_SCALE
from retinanet.model.retinanet import RetinaNet

OPSET = 20
TAIL = "detect"  # begins the names of the operators after the network
NOWHERE = np.float32(-1)  # score of a candidate that is none


def make_graph(model: RetinaNet, settings: DetectConfig, pixels: torch.dtype) -> ir.Model:
    """The whole detector; `retinanet.export.export` says what it takes and gives. pixels: of `images`, uint8 or float32."""
    network = _Network(_with_fixed_padding(model)).eval()
    # P7 has 3 x 4 cells: the exporter would hold sides of 1 for fixed, and equal ones for one
    example = torch.zeros(2, 9 * PAD_MULTIPLE, 14 * PAD_MULTIPLE, 3, dtype=pixels), torch.full((2, 2), 288)
    batch, rows, columns = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "rows", "columns"))
    shapes = ({0: batch, 1: PAD_MULTIPLE * rows, 2: PAD_MULTIPLE * columns}, {0: batch})
    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=["images", "sizes"],
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    graph = program.model.graph
    levels = len(STRIDES)
    logits, deltas = graph.outputs[:levels], graph.outputs[levels:]
    _append_detection(graph, list(logits), list(deltas), model, settings)
    return program.model


class _Network(nn.Module):
    """(B, H, W, 3) pixels and (B, 2) sizes -> logits, then deltas, of P3 to P7."""

    def __init__(self, model: RetinaNet):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        predictions = self.model(images.permute(0, 3, 1, 2), sizes)
        return [*predictions.logits, *predictions.deltas]


def _with_fixed_padding(model: RetinaNet) -> RetinaNet:
    """A copy whose trunk pads as TensorFlow does by numbers: sides are even wherever a stride is 2."""
    model = fold_for_inference(copy.deepcopy(model))
    model.anchors = types.MethodType(lambda *_: [], model)  # type: ignore[method-assign]
    for module in model.trunk.modules():
        if type(module).__name__ == "Conv2dSame":  # timm's
            assert isinstance(module, nn.Conv2d)
            module.forward = types.MethodType(_padded_by_numbers, module)  # type: ignore[method-assign]
    return model


def _padded_by_numbers(conv: nn.Conv2d, x: Tensor) -> Tensor:
    padding: list[int] = []
    for kernel, stride, dilation in zip(conv.kernel_size, conv.stride, conv.dilation, strict=True):
        whole = max(0, (kernel - 1) * dilation + 1 - stride)
        padding = [whole // 2, whole - whole // 2, *padding]  # the last axis comes first
    return F.conv2d(F.pad(x, padding), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _append_detection(
    graph: ir.Graph, logits: list[ir.Value], deltas: list[ir.Value], model: RetinaNet, settings: DetectConfig
) -> None:
    """What `retinanet.model.postprocess.detect` does, for a batch; a candidate below its threshold stays, with score NOWHERE."""
    op = _Operators(graph)
    images, sizes = graph.inputs
    assert sizes.shape is not None
    batch = sizes.shape[0]
    original_sizes = _input("original_sizes", ir.DataType.INT64, [batch, 2])
    threshold = _input("score_threshold", ir.DataType.FLOAT, ["classes"])
    iou = _input("iou_threshold", ir.DataType.FLOAT, [1])
    limit = _input("max_detections", ir.DataType.INT64, [1])
    graph.inputs.extend([original_sizes, threshold, iou, limit])
    inside, outside = _corner(op, sizes), _corner(op, original_sizes)  # (B, 1, 4): w, h, w, h

    size = op("Slice", op("Shape", images), [1], [3])  # (2,): height, width
    shapes = cell_anchors(model.anchor_shapes)  # L of (A, 4)
    found = []
    for level, stride in enumerate(STRIDES):
        cells = op("Div", op("Add", size, [stride - 1]), [stride])  # convolutions round up
        strides = op("Div", size, cells) if model.anchor_shapes.whole_pixels else op.constant([stride, stride])
        score, label, row = _best(op, logits[level], threshold, settings.top_k)  # (B, c)
        box = _decode(op, op.pick(deltas[level], row), _anchors(op, row, cells, strides, shapes[level].numpy()))
        found.append((op("Min", op("Max", box, np.float32(0)), inside) if settings.clip_first else box, score, label))
    boxes, scores, labels = (op("Concat", *parts, axis=1) for parts in zip(*found, strict=True))  # (B, C, ...)

    scores = _suppress(op, boxes, scores, labels, model.classes, iou, limit)
    most = op("Min", limit, op("Shape", scores, start=1, end=2))
    scores, order = op.many("TopK", scores, most, outputs=2, axis=1)  # (B, D)
    boxes, labels = op.pick(boxes, order), op("GatherElements", labels, order, axis=1)
    boxes = op("Min", op("Max", op("Mul", boxes, op("Div", outside, inside)), np.float32(0)), outside)
    if not settings.clip_first:
        left, top, right, bottom = op.many("Split", boxes, outputs=4, axis=2, num_outputs=4)
        area = op("Mul", op("Sub", right, left), op("Sub", bottom, top))
        scores = op("Where", op("Greater", op("Squeeze", area, [2]), np.float32(0)), scores, NOWHERE)
        scores, order = op.many("TopK", scores, most, outputs=2, axis=1)
        boxes, labels = op.pick(boxes, order), op("GatherElements", labels, order, axis=1)

    real = op("Greater", scores, np.float32(0))
    count = op("ReduceSum", op("Cast", real, to=ir.DataType.INT64), [1], keepdims=0)
    boxes = op("Where", op("Unsqueeze", real, [2]), boxes, np.float32(0))
    scores, labels = op("Where", real, scores, np.float32(0)), op("Where", real, labels, np.int64(-1))
    graph.outputs.clear()
    for name, value, kind, shape in (
        ("boxes", boxes, ir.DataType.FLOAT, [batch, "detections", 4]),
        ("scores", scores, ir.DataType.FLOAT, [batch, "detections"]),
        ("labels", labels, ir.DataType.INT64, [batch, "detections"]),
        ("count", count, ir.DataType.INT64, [batch]),
    ):
        value.name, value.type, value.shape = name, ir.TensorType(kind), ir.Shape(shape)
        graph.outputs.append(value)


class _Operators:
    """Appends operators to a graph; numbers and arrays become constants."""

    def __init__(self, graph: ir.Graph):
        self.tape, self.count = ir.tape.Tape(graph), 0

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> ir.Value:
        [value] = self.many(kind, *inputs, **attributes)
        return value

    def many(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> list[ir.Value]:
        values = [value if isinstance(value, ir.Value) else self.constant(value) for value in inputs]
        self.count += 1
        name = f"{TAIL}/{kind}_{self.count}"
        made = self.tape.op_multi_out(kind, values, attributes, num_outputs=outputs, name=name)
        for i, value in enumerate(made):
            value.name = f"{name}.{i}"
        return list(made)

    def constant(self, value: Any) -> ir.Value:
        self.count += 1
        return self.tape.initializer(ir.tensor(np.asarray(value)), name=f"{TAIL}/constant_{self.count}")

    def pick(self, values: ir.Value, rows: ir.Value) -> ir.Value:
        """values (B, N, M), rows (B, n) -> (B, n, M)."""
        return self("GatherND", values, self("Unsqueeze", rows, [2]), batch_dims=1)


def _input(name: str, kind: ir.DataType, shape: list[Any]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape))


def _corner(op: _Operators, sizes: ir.Value) -> ir.Value:
    """(B, 2) height, width -> (B, 1, 4) float32 width, height, width, height."""
    return op("Unsqueeze", op("Cast", op("Gather", sizes, [1, 0, 1, 0], axis=1), to=ir.DataType.FLOAT), [1])


def _best(op: _Operators, logits: ir.Value, threshold: ir.Value, top_k: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Scores, labels and anchors' rows (B, c) of the `top_k` best pairs of anchor and class of a level.

    The k best pairs lie within the k anchors of the best highest scores.
    """
    score = op("Sigmoid", logits)  # (B, R, K)
    score = op("Where", op("Greater", score, threshold), score, NOWHERE)
    highest = op("ReduceMax", score, [2], keepdims=0)  # (B, R)
    _, rows = op.many("TopK", highest, op("Min", [top_k], op("Shape", highest, start=1, end=2)), outputs=2, axis=1)
    pairs = op("Reshape", op.pick(score, rows), [0, -1])  # (B, r * K)
    most = op("Min", [top_k], op("Shape", pairs, start=1, end=2))
    best, order = op.many("TopK", pairs, most, outputs=2, axis=1)  # (B, c)
    classes = op("Shape", score, start=2, end=3)
    return best, op("Mod", order, classes), op("GatherElements", rows, op("Div", order, classes), axis=1)


def _anchors(op: _Operators, row: ir.Value, cells: ir.Value, strides: ir.Value, of_cell: np.ndarray) -> ir.Value:
    """Rows (B, c) of a level's anchors -> (B, c, 4). cells, strides: (2,), of height and width."""
    cell = op("Div", row, len(of_cell))
    columns = op("Slice", cells, [1], [2])
    y, x = op("Div", cell, columns), op("Mod", cell, columns)
    place = op("Concat", op("Unsqueeze", x, [2]), op("Unsqueeze", y, [2]), axis=2)  # (B, c, 2)
    shift = op("Cast", op("Mul", place, op("Gather", strides, [1, 0], axis=0)), to=ir.DataType.FLOAT)
    return op("Add", op("Concat", shift, shift, axis=2), op("Gather", of_cell, op("Mod", row, len(of_cell)), axis=0))


def _decode(op: _Operators, deltas: ir.Value, anchors: ir.Value) -> ir.Value:
    """`retinanet.model.boxes.decode`, (B, c, 4)."""
    low, high = op.many("Split", anchors, outputs=2, axis=2, num_outputs=2)
    move, grow = op.many("Split", deltas, outputs=2, axis=2, num_outputs=2)
    half = np.float32(0.5)
    size = op("Sub", high, low)
    center = op("Add", op("Add", low, op("Mul", size, half)), op("Mul", move, size))
    side = op("Mul", op("Mul", size, half), op("Exp", op("Min", grow, np.float32(MAX_LOG_SCALE))))
    return op("Concat", op("Sub", center, side), op("Add", center, side), axis=2)


def _suppress(
    op: _Operators,
    boxes: ir.Value,
    scores: ir.Value,
    labels: ir.Value,
    classes: int,
    iou: ir.Value,
    limit: ir.Value,
) -> ir.Value:
    """Scores (B, C), NOWHERE for what another box of its class suppresses; at most `limit` of a class are left."""
    of_class = np.arange(classes)[None, :, None]  # (1, K, 1)
    apart = op("Where", op("Equal", op("Unsqueeze", labels, [1]), of_class), op("Unsqueeze", scores, [1]), NOWHERE)
    kept = op("NonMaxSuppression", boxes, apart, limit, iou, np.array([0], np.float32))  # (N, 3): image, class, box
    places = op("Gather", kept, [0, 2], axis=1)
    nowhere = op("ConstantOfShape", op("Shape", scores), value=ir.tensor(np.array([NOWHERE])))
    return op("ScatterND", nowhere, places, op("GatherND", scores, places))
