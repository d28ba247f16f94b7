"""The steps of `retinanet.model.postprocess.detect`, for a batch, in standard ONNX operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from retinanet.config.schema import DetectConfig
from retinanet.model.anchors import STRIDES, cell_anchors
from retinanet.model.boxes import MAX_LOG_SCALE
from retinanet.model.retinanet import RetinaNet

TAIL = "detect"  # the names of these operators begin with it
NO_SCORE = np.float32(-1)  # the score of a row that is below the threshold, suppressed or without area


@dataclass(frozen=True)
class _Rows:
    """boxes: (B, N, 4) xyxy pixels. scores: (B, N), NO_SCORE for a row that does not count. labels: (B, N)."""

    boxes: ir.Value
    scores: ir.Value
    labels: ir.Value


def append_detection(
    graph: ir.Graph,
    logits: Sequence[ir.Value],
    deltas: Sequence[ir.Value],
    model: RetinaNet,
    settings: DetectConfig,
) -> None:
    """Append the operators from raw predictions to detections, and set the inputs and outputs of the whole graph.

    Args:
        graph: its inputs are images (B, H, W, 3) and sizes (B, 2).
        logits, deltas: values of the graph, (B, R_l, K) and (B, R_l, 4) of P3 to P7. model: gives the anchors and K.
        settings: gives top_k and clip_first; the other settings are inputs of the graph.
    """
    op = _Operators(graph)
    images, sizes = graph.inputs
    assert sizes.shape is not None
    batch = sizes.shape[0]
    original_sizes = _input("original_sizes", ir.DataType.INT64, [batch, 2])
    threshold = _input("score_threshold", ir.DataType.FLOAT, ["classes"])
    iou = _input("iou_threshold", ir.DataType.FLOAT, [1])
    limit = _input("max_detections", ir.DataType.INT64, [1])
    graph.inputs.extend([original_sizes, threshold, iou, limit])
    resized_corner, original_corner = _corner(op, sizes), _corner(op, original_sizes)

    image_size = op("Slice", op("Shape", images), [1], [3])  # (2,): height, width
    anchor_shapes = cell_anchors(model.anchor_shapes)  # L tensors (A, 4)
    levels = []
    for level, stride in enumerate(STRIDES):
        cells = op("Div", op("Add", image_size, [stride - 1]), [stride])  # convolutions round up
        strides = op("Div", image_size, cells) if model.anchor_shapes.whole_pixels else op.constant([stride, stride])
        scores, labels, anchor_rows = _candidates(op, logits[level], threshold, settings.top_k)  # (B, c)
        level_deltas = op.pick(deltas[level], anchor_rows)
        anchors = _anchors(op, anchor_rows, cells, strides, anchor_shapes[level].numpy())
        boxes = _decode(op, level_deltas, anchors)
        if settings.clip_first:
            boxes = op("Min", op("Max", boxes, np.float32(0)), resized_corner)
        levels.append((boxes, scores, labels))
    rows = _Rows(*(op("Concat", *parts, axis=1) for parts in zip(*levels, strict=True)))

    rows = _suppress(op, rows, model.classes, iou, limit)
    most = op("Min", limit, op("Shape", rows.scores, start=1, end=2))
    rows = _best(op, rows, most)
    scaled = op("Mul", rows.boxes, op("Div", original_corner, resized_corner))
    rows = _Rows(op("Min", op("Max", scaled, np.float32(0)), original_corner), rows.scores, rows.labels)
    if not settings.clip_first:
        rows = _best(op, _without_empty_boxes(op, rows), most)
    _set_outputs(op, rows, batch)


class _Operators:
    """Appends operators to a graph; numbers and arrays become constants."""

    def __init__(self, graph: ir.Graph):
        self.graph, self.tape, self.count = graph, ir.tape.Tape(graph), 0

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


def _candidates(
    op: _Operators, logits: ir.Value, threshold: ir.Value, top_k: int
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Scores, labels and rows of the anchors, (B, c) each, of the `top_k` best pairs of anchor and class of a level.

    The k best pairs lie within the k anchors of the best highest scores.
    """
    score = op("Sigmoid", logits)  # (B, R, K)
    score = op("Where", op("Greater", score, threshold), score, NO_SCORE)
    highest = op("ReduceMax", score, [2], keepdims=0)  # (B, R)
    _, rows = op.many("TopK", highest, op("Min", [top_k], op("Shape", highest, start=1, end=2)), outputs=2, axis=1)
    pairs = op("Reshape", op.pick(score, rows), [0, -1])  # (B, r * K)
    most = op("Min", [top_k], op("Shape", pairs, start=1, end=2))
    best, order = op.many("TopK", pairs, most, outputs=2, axis=1)  # (B, c)
    classes = op("Shape", score, start=2, end=3)
    return best, op("Mod", order, classes), op("GatherElements", rows, op("Div", order, classes), axis=1)


def _anchors(op: _Operators, rows: ir.Value, cells: ir.Value, strides: ir.Value, of_cell: np.ndarray) -> ir.Value:
    """Rows (B, c) of a level's anchors -> (B, c, 4) xyxy pixels.

    cells, strides: (2,), of height and width. of_cell: (A, 4) xyxy pixels, the anchors of the first cell.
    """
    cell = op("Div", rows, len(of_cell))
    columns = op("Slice", cells, [1], [2])
    y, x = op("Div", cell, columns), op("Mod", cell, columns)
    place = op("Concat", op("Unsqueeze", x, [2]), op("Unsqueeze", y, [2]), axis=2)  # (B, c, 2)
    shift = op("Cast", op("Mul", place, op("Gather", strides, [1, 0], axis=0)), to=ir.DataType.FLOAT)
    return op("Add", op("Concat", shift, shift, axis=2), op("Gather", of_cell, op("Mod", rows, len(of_cell)), axis=0))


def _decode(op: _Operators, deltas: ir.Value, anchors: ir.Value) -> ir.Value:
    """`retinanet.model.boxes.decode`, (B, c, 4)."""
    low, high = op.many("Split", anchors, outputs=2, axis=2, num_outputs=2)
    move, grow = op.many("Split", deltas, outputs=2, axis=2, num_outputs=2)
    half = np.float32(0.5)
    size = op("Sub", high, low)
    center = op("Add", op("Add", low, op("Mul", size, half)), op("Mul", move, size))
    side = op("Mul", op("Mul", size, half), op("Exp", op("Min", grow, np.float32(MAX_LOG_SCALE))))
    return op("Concat", op("Sub", center, side), op("Add", center, side), axis=2)


def _suppress(op: _Operators, rows: _Rows, classes: int, iou: ir.Value, limit: ir.Value) -> _Rows:
    """Non-maximum suppression within each class; at most `limit` rows of a class keep their score."""
    of_class = np.arange(classes)[None, :, None]  # (1, K, 1)
    is_of_class = op("Equal", op("Unsqueeze", rows.labels, [1]), of_class)  # (B, K, N)
    apart = op("Where", is_of_class, op("Unsqueeze", rows.scores, [1]), NO_SCORE)
    kept = op("NonMaxSuppression", rows.boxes, apart, limit, iou, np.array([0], np.float32))  # (n, 3)
    places = op("Gather", kept, [0, 2], axis=1)  # image and row, without the class between them
    no_scores = op("ConstantOfShape", op("Shape", rows.scores), value=ir.tensor(np.array([NO_SCORE])))
    scores = op("ScatterND", no_scores, places, op("GatherND", rows.scores, places))
    return _Rows(rows.boxes, scores, rows.labels)


def _best(op: _Operators, rows: _Rows, most: ir.Value) -> _Rows:
    """The `most` (1,) rows of the highest scores of each image, best first."""
    scores, order = op.many("TopK", rows.scores, most, outputs=2, axis=1)
    return _Rows(op.pick(rows.boxes, order), scores, op("GatherElements", rows.labels, order, axis=1))


def _without_empty_boxes(op: _Operators, rows: _Rows) -> _Rows:
    """NO_SCORE for boxes that have no area inside the image."""
    left, top, right, bottom = op.many("Split", rows.boxes, outputs=4, axis=2, num_outputs=4)
    area = op("Mul", op("Sub", right, left), op("Sub", bottom, top))
    scores = op("Where", op("Greater", op("Squeeze", area, [2]), np.float32(0)), rows.scores, NO_SCORE)
    return _Rows(rows.boxes, scores, rows.labels)


def _set_outputs(op: _Operators, rows: _Rows, batch: Any) -> None:
    """Make `rows` and the number of those that count the outputs of the graph; the others become 0, 0 and -1."""
    real = op("Greater", rows.scores, np.float32(0))
    count = op("ReduceSum", op("Cast", real, to=ir.DataType.INT64), [1], keepdims=0)
    boxes = op("Where", op("Unsqueeze", real, [2]), rows.boxes, np.float32(0))
    scores, labels = op("Where", real, rows.scores, np.float32(0)), op("Where", real, rows.labels, np.int64(-1))
    op.graph.outputs.clear()
    for name, value, kind, shape in (
        ("boxes", boxes, ir.DataType.FLOAT, [batch, "detections", 4]),
        ("scores", scores, ir.DataType.FLOAT, [batch, "detections"]),
        ("labels", labels, ir.DataType.INT64, [batch, "detections"]),
        ("count", count, ir.DataType.INT64, [batch]),
    ):
        value.name, value.type, value.shape = name, ir.TensorType(kind), ir.Shape(shape)
        op.graph.outputs.append(value)
