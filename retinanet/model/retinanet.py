"""RetinaNet: a backbone, a feature pyramid and two subnets shared over its levels (paper, section 4)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retinanet.config.schema import AnchorConfig, ModelConfig
from retinanet.model.anchors import PAPER_SHAPES, STRIDES, AnchorShapes, image_anchors
from retinanet.model.backbone import Backbone, float32_on_cpu, group_norm, make_backbone


@dataclass(frozen=True)
class Predictions:
    """Raw outputs, a list over P3..P7 of each: logits (B, R_l, K), deltas (B, R_l, 4), anchors (R_l, 4) xyxy pixels."""

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]

    def finite(self) -> Tensor:
        """Whether all logits and deltas are finite, a bool on their device."""
        return torch.stack([part.isfinite().all() for part in (*self.logits, *self.deltas)]).all()


class FPN(nn.Module):
    """Feature pyramid P3..P7 from C3..C5 (Lin et al. 2017a; P6 and P7: paper, section 4, footnote 2).

    top_down: whether P4 and P3 add the level above, enlarged to their size; if not, P3..P5 come from C3..C5 alone.
    """

    def __init__(
        self, in_channels: tuple[int, ...], channels: int, p6_from: Literal["c5", "p5"] = "c5", top_down: bool = True
    ):
        super().__init__()
        self.p6_from, self.top_down = p6_from, top_down
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.p6 = nn.Conv2d(in_channels[-1] if p6_from == "c5" else channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)  # Detectron's XavierFill
                _zero_bias(conv)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """features: C3..C5, (B, C_l, H_l, W_l). Returns: P3..P7, (B, channels, H_l, W_l)."""
        merged = [lateral(c) for lateral, c in zip(self.lateral, features, strict=True)]
        for level in (1, 0) if self.top_down else ():
            size = merged[level].shape[-2:]
            merged[level] = merged[level] + F.interpolate(merged[level + 1], size=size, mode="nearest")
        pyramid = [output(p) for output, p in zip(self.output, merged, strict=True)]
        p6 = halved(self.p6, features[-1] if self.p6_from == "c5" else pyramid[-1])
        return [*pyramid, p6, halved(self.p7, F.relu(p6))]


class Subnet(nn.Module):
    """3x3 convolutions with ReLU, then one that predicts `outputs` channels (paper, section 4)."""

    def __init__(self, in_channels: int, channels: int, depth: int, outputs: int, norm: Literal["none", "gn"]):
        super().__init__()
        # sigma 0.01 (paper, 4.1) suits 256 channels; in a narrower tower the signal would vanish. He et al. 2015 keeps
        # it, but needs a smaller last sigma: with 0.01 the first logits would vary by 1.9 around the prior's
        wide = channels >= 256
        layers: list[nn.Module] = []
        for i in range(depth):
            conv = nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1)
            fan_in = conv.weight[0].numel()
            nn.init.normal_(conv.weight, std=0.01 if wide else math.sqrt(2 / fan_in))
            _zero_bias(conv)
            layers.append(conv)
            if norm == "gn":
                layers.append(group_norm(channels))
            layers.append(nn.ReLU(inplace=True))
        self.tower = nn.Sequential(*layers)
        self.predict = nn.Conv2d(channels if depth else in_channels, outputs, 3, padding=1)
        nn.init.normal_(self.predict.weight, std=0.01 if wide else 0.001)
        _zero_bias(self.predict)

    def forward(self, x: Tensor) -> Tensor:
        """x: one level of the pyramid, (B, in_channels, H_l, W_l). Returns: (B, outputs, H_l, W_l)."""
        return self.predict(self.tower(x))


class RetinaNet(nn.Module):
    """The detector; `forward` returns `Predictions` both in training and in evaluation.

    classes: K, foreground only. prior: score of every anchor before training; None: 0.5.
    pixel_mean, pixel_std: RGB in 0..255; None: the backbone's own. top_down: see `FPN`.
    level_scales: whether the deltas of each level have a learned factor, as in FCOS (Tian et al. 2019, section 3.2).
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        fpn_channels: int = 256,
        head_channels: int = 256,
        head_depth: int = 4,
        head_norm: Literal["none", "gn"] = "none",
        p6_from: Literal["c5", "p5"] = "c5",
        prior: float | None = 0.01,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
        anchor_shapes: AnchorShapes = PAPER_SHAPES,
        top_down: bool = True,
        level_scales: bool = False,
    ):
        super().__init__()
        self.classes = classes
        self.anchor_shapes = anchor_shapes
        per_cell = anchor_shapes.per_cell
        self.trunk = backbone  # the name of its tensors in checkpoints
        self.fpn = FPN(backbone.channels, fpn_channels, p6_from, top_down)
        self.cls_subnet = Subnet(fpn_channels, head_channels, head_depth, per_cell * classes, head_norm)
        self.box_subnet = Subnet(fpn_channels, head_channels, head_depth, per_cell * 4, head_norm)
        self.box_scales = nn.Parameter(torch.ones(len(STRIDES))) if level_scales else None
        if prior is not None:
            assert self.cls_subnet.predict.bias is not None
            nn.init.constant_(self.cls_subnet.predict.bias, -math.log((1 - prior) / prior))  # paper, 4.1
        mean = torch.tensor(pixel_mean or backbone.mean).reshape(1, 3, 1, 1)
        std = torch.tensor(pixel_std or backbone.std).reshape(1, 3, 1, 1)
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)
        self._anchors: dict[tuple, list[Tensor]] = {}

    @property
    def backbone(self) -> Backbone:
        return self.trunk

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Predictions:
        """Class logits and box deltas of every anchor.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float; H and W multiples of 32.
            sizes: (B, 2) int, height and width of each image without padding; None: no image is padded.
        """
        height, width = images.shape[-2:]
        features = self.backbone(self.normalize(images, sizes))  # C3..C5, (B, C_l, H_l, W_l)
        pyramid = self.fpn(features)  # P3..P7, (B, fpn_channels, H_l, W_l)
        logits = [_rows(self.cls_subnet(p), self.classes) for p in pyramid]  # L of (B, R_l, K)
        deltas = [_rows(self.box_subnet(p), 4) for p in pyramid]  # L of (B, R_l, 4)
        if self.box_scales is not None:
            deltas = [level * scale for level, scale in zip(deltas, self.box_scales, strict=True)]
        return Predictions(logits, deltas, self.anchors((height, width), images.device))

    def keep_classes(self, labels: Sequence[int]) -> None:
        """Predict only the classes `labels`, in this order; their scores do not change."""
        predict = self.cls_subnet.predict
        assert predict.bias is not None
        with torch.no_grad():
            for name in ("weight", "bias"):
                parameter = getattr(predict, name)  # (A * K, ...)
                kept = parameter.unflatten(0, (-1, self.classes))[:, list(labels)].flatten(0, 1)
                setattr(predict, name, nn.Parameter(kept.contiguous(), requires_grad=parameter.requires_grad))
        predict.out_channels = len(predict.bias)
        self.classes = len(labels)

    def normalize(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) pixels -> zero mean, unit standard deviation, zero padding. sizes: as in `forward`."""
        return normalize(images, self.pixel_mean, self.pixel_std, sizes)

    def anchors(self, size: tuple[int, int], device: torch.device | str = "cpu") -> list[Tensor]:
        """Anchors of P3..P7 for images of `size` (height, width), multiples of 32; cached for the last size."""
        key = (size, str(device))
        anchors = self._anchors.get(key)
        if anchors is None:
            with torch.inference_mode(False):  # training may use the cache too
                anchors = image_anchors(size, self.anchor_shapes, device)
            self._anchors = {key: anchors}  # replaced, never changed: other threads may read the cache
        return anchors


def make_model(model: ModelConfig, anchors: AnchorConfig, classes: int, pretrained: bool | None = None) -> RetinaNet:
    """The RetinaNet of a config.

    pretrained: whether to load ImageNet weights, if not as `model.pretrained` says. Raises: as `make_backbone`.
    """
    return RetinaNet(
        configured_backbone(model, model.pretrained if pretrained is None else pretrained),
        classes,
        fpn_channels=model.fpn_channels,
        head_channels=model.head_channels,
        head_depth=model.head_depth,
        head_norm=model.head_norm,
        p6_from=model.p6_from,
        prior=model.prior,
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
        anchor_shapes=AnchorShapes.from_config(anchors),
        top_down=model.pyramid == "fpn",
        level_scales=model.level_scales,
    )


def configured_backbone(model: ModelConfig, pretrained: bool, c2: bool = False) -> Backbone:
    """The backbone of a config. pretrained: whether to load ImageNet weights. c2, errors: as in `make_backbone`."""
    norm = model.trunk_norm or ("frozen_bn" if model.pretrained else "bn")
    frozen = model.freeze_stages if model.freeze_stages is not None else 2 * model.pretrained
    return make_backbone(model.backbone, pretrained, norm, frozen, model.stride_in_1x1, c2)


def normalize(images: Tensor, mean: Tensor, std: Tensor, sizes: Tensor | None = None) -> Tensor:
    """(B, 3, H, W) pixels -> zero mean, unit standard deviation, zero padding. mean, std: (1, 3, 1, 1), RGB in 0..255.

    sizes: (B, 2) int, height and width of each image without padding; None: no image is padded.
    """
    images = (images.to(mean.dtype) - mean) / std
    if sizes is None:
        return images
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[None, :] < sizes[:, :1]  # (B, H)
    columns = torch.arange(width, device=images.device)[None, :] < sizes[:, 1:]  # (B, W)
    return images * (rows[:, None, :, None] & columns[:, None, None, :])


def halved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv`, of stride 2, in float32 where x (B, C, H, W) is a single cell wide or high on a CPU.

    There oneDNN's weight gradient in bf16 contains memory that it never wrote.
    """
    return float32_on_cpu(conv, x) if 1 in x.shape[-2:] else conv(x)


def _zero_bias(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _rows(x: Tensor, columns: int) -> Tensor:
    """(B, A * columns, H, W) -> (B, H * W * A, columns)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)
