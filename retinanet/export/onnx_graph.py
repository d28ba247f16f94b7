"""The ONNX graph of a whole detector: torch exports the network, `append_detection` adds what follows it."""

import copy
import types

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retinanet.config.schema import DetectConfig
from retinanet.data.transforms import PAD_MULTIPLE
from retinanet.export.onnx_detection import append_detection
from retinanet.model.anchors import STRIDES
from retinanet.model.batchnorm_folding import fold_for_inference
from retinanet.model.retinanet import RetinaNet

OPSET = 20


def make_graph(model: RetinaNet, settings: DetectConfig, pixels: torch.dtype) -> ir.Model:
    """The graph of a detector, with the inputs and outputs that `retinanet.export.export` describes.

    pixels: the type of `images`, uint8 or float32.
    """
    network = _Network(_with_fixed_padding(model)).eval()
    # P7 has 3 x 4 cells: the exporter would treat sides of 1 as constant, and equal sides as the same one
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
    append_detection(graph, graph.outputs[:levels], graph.outputs[levels:], model, settings)
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
    """A copy, folded and without anchors, whose backbone pads as TensorFlow does by constant amounts.

    Sides are multiples of 32, so they are even wherever a stride is 2, and the amounts do not depend on them.
    """
    model = fold_for_inference(copy.deepcopy(model))
    model.anchors = types.MethodType(lambda *_: [], model)  # type: ignore[method-assign]
    for module in model.backbone.modules():
        if type(module).__name__ == "Conv2dSame":  # timm's
            assert isinstance(module, nn.Conv2d)
            module.forward = types.MethodType(_conv_with_fixed_padding, module)  # type: ignore[method-assign]
    return model


def _conv_with_fixed_padding(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The forward pass of `conv` on x (B, C, H, W) of even sides."""
    padding: list[int] = []
    for kernel, stride, dilation in zip(conv.kernel_size, conv.stride, conv.dilation, strict=True):
        whole = max(0, (kernel - 1) * dilation + 1 - stride)
        padding = [whole // 2, whole - whole // 2, *padding]  # the last axis comes first
    return F.conv2d(F.pad(x, padding), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
