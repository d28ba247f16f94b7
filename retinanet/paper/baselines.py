"""The detectors that the paper's table 2 compares RetinaNet with: torchvision's, on one of our backbones."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from retinanet.config.schema import Config, DetectConfig
from retinanet.data.transforms import padded
from retinanet.losses.criterion import Targets
from retinanet.model.backbone import Backbone
from retinanet.model.retinanet import configured_backbone, halved, normalize

# SSD300 (Liu et al. 2016, section 2.2): sides of the default boxes relative to the image, the last only for the
# additional box of the level before; and aspect ratios beside 1, with their inverses
SSD_SCALES = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
SSD_RATIOS = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
SSD_RMS = 20 / 512**0.5  # over the channels of a normalised map: norm 20 over the 512 of conv4_3 (section 3.1)
SSD_EXTRA_CHANNELS = (512, 256, 256)  # of the maps after C5; SSD300's conv8_2 to conv10_2


class BaselineNetwork(nn.Module):
    """A detector of torchvision that takes our batches and returns the two losses of our training loop.

    backbone: also the backbone of `detector`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, detector: FasterRCNN | SSD, backbone: Backbone, config: Config):
        super().__init__()
        self.detector = detector
        detector.transform = _Prepared()
        heads = (detector.rpn.head, detector.roi_heads.box_predictor) if has_proposals(detector) else (detector.head,)
        for head in heads:
            head.register_forward_hook(lambda module, inputs, output: _at_least_float32(output))
        mean = torch.tensor(config.model.pixel_mean or backbone.mean).reshape(1, 3, 1, 1)
        std = torch.tensor(config.model.pixel_std or backbone.std).reshape(1, 3, 1, 1)
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)

    def forward(self, images: Tensor, sizes: Tensor, targets: Targets) -> dict[str, Tensor]:
        """torchvision's losses, summed: {"cls", "box"}, scalars. Only in training mode; crowds count as background.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float; H and W multiples of 32.
            sizes: (B, 2) int, height and width of each image without padding.
        """
        losses = self.detector(self._unpadded(images, sizes), torchvision_targets(targets))
        if has_proposals(self.detector):
            return {
                "cls": losses["loss_objectness"] + losses["loss_classifier"],
                "box": losses["loss_rpn_box_reg"] + losses["loss_box_reg"],
            }
        return {"cls": losses["classification"], "box": losses["bbox_regression"]}

    def detect(self, images: Tensor, sizes: Tensor, settings: DetectConfig) -> list[dict[str, Tensor]]:
        """Detections in each image, best first: boxes (D, 4) in its pixels, scores (D,), labels (D,) in 0..K-1.

        Only in evaluation mode. images, sizes: as in `forward`. settings: its `top_k` limits the boxes of an SSD for
        each class, and the proposals of Faster R-CNN are limited as in its paper.
        """
        last: Any = self.detector.roi_heads if has_proposals(self.detector) else self.detector
        last.score_thresh, last.nms_thresh = settings.score_threshold, settings.nms_iou
        last.detections_per_img = settings.max_detections
        if not has_proposals(self.detector):
            last.topk_candidates = settings.top_k
        found = self.detector(self._unpadded(images, sizes))
        return [each | {"labels": each["labels"] - 1} for each in found]

    def inputs(self, images: Tensor, sizes: Tensor) -> ImageList:
        """What `detector.backbone` takes: the normalised images, padded. images, sizes: as in `forward`."""
        return self.detector.transform(self._unpadded(images, sizes))[0]

    def _unpadded(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """The normalised images, (3, h, w) each."""
        normalised = normalize(images, self.pixel_mean, self.pixel_std)
        return [image[:, :height, :width] for image, (height, width) in zip(normalised, sizes.tolist(), strict=True)]


def torchvision_targets(targets: Targets) -> list[dict[str, Tensor]]:
    """The objects of each image as torchvision's detectors take them: {"boxes", "labels"}, without crowds."""
    return [
        {"boxes": boxes[~crowd], "labels": labels[~crowd] + 1}  # 0 is the background
        for boxes, labels, crowd in zip(targets.boxes, targets.labels, targets.crowd, strict=True)
    ]


def has_proposals(detector: nn.Module) -> bool:
    """Whether it is a two-stage detector, whose second stage classifies the proposals of the first."""
    return isinstance(detector, FasterRCNN)


def make_faster_rcnn(config: Config, classes: int, pretrained: bool) -> BaselineNetwork:
    """Faster R-CNN on a feature pyramid P2 to P6 (Ren et al. 2015; Lin et al. 2017a, "Feature Pyramid Networks").

    Anchors of one scale per level, with the sizes and ratios of `config.anchors`; RoIAlign on P2 to P5.
    pretrained: whether to load ImageNet weights. Raises: as `make_backbone`.
    """
    backbone = configured_backbone(config.model, pretrained, c2=True)
    anchors = config.anchors
    detector = FasterRCNN(
        _PyramidFeatures(backbone, config.model.fpn_channels),
        classes + 1,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in anchors.sizes), (anchors.ratios,) * 5),
    )
    return BaselineNetwork(detector, backbone, config)


def make_ssd(config: Config, classes: int, pretrained: bool) -> BaselineNetwork:
    """SSD (Liu et al. 2016) on C3 to C5, each L2-normalised, and three more maps of strides 64 to 256.

    The default boxes are SSD300's. They are relative to the width and the height of the padded image, as in the
    original, which stretches every image to a square. pretrained, errors: as in `make_faster_rcnn`.
    """
    backbone = configured_backbone(config.model, pretrained)
    features = _SSDFeatures(backbone)
    boxes = DefaultBoxGenerator(SSD_RATIOS, scales=SSD_SCALES)
    head = SSDHead([*backbone.channels, *SSD_EXTRA_CHANNELS], boxes.num_anchors_per_location(), classes + 1)
    size = (config.data.short_side,) * 2  # of the transform that `BaselineNetwork` replaces
    return BaselineNetwork(SSD(features, boxes, size, classes + 1, head=head), backbone, config)


class _PyramidFeatures(nn.Module):
    """Images -> P2 to P6, (B, channels, H_l, W_l) each, under the names that torchvision's RoIAlign expects."""

    def __init__(self, backbone: Backbone, channels: int):
        super().__init__()
        self.trunk, self.out_channels = backbone, channels
        self.fpn = FeaturePyramidNetwork(list(backbone.channels), channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict((str(level), c) for level, c in enumerate(self.trunk(images))))


class _SSDFeatures(nn.Module):
    """Images -> C3 to C5, L2-normalised at each cell and scaled, and three maps of half the size of the one before.

    SSD300 normalises only the first of VGG's maps. On the embedded data set, 300 steps with one seed gave AP 7.0
    without it, 22.8 with C3 and 54.0 with C3 to C5 normalised.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.trunk = backbone
        self.scales = nn.ParameterList(nn.Parameter(torch.full((c,), SSD_RMS * c**0.5)) for c in backbone.channels)
        self.squeeze, self.halve = nn.ModuleList(), nn.ModuleList()
        for before, channels in pairwise((backbone.channels[-1], *SSD_EXTRA_CHANNELS)):
            self.squeeze.append(nn.Conv2d(before, channels // 2, 1))
            self.halve.append(nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1))
        for conv in (*self.squeeze, *self.halve):
            nn.init.xavier_uniform_(conv.weight)  # SSD, section 3
            nn.init.zeros_(conv.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = zip(self.trunk(images), self.scales, strict=True)
        features = [F.normalize(_at_least_float32(c), dim=1) * scale[:, None, None] for c, scale in maps]
        for squeeze, halve in zip(self.squeeze, self.halve, strict=True):
            assert isinstance(halve, nn.Conv2d)
            features.append(F.relu(halved(halve, F.relu(squeeze(features[-1])))))
        return OrderedDict((str(level), feature) for level, feature in enumerate(features))


class _Prepared(nn.Module):
    """In place of torchvision's transform: the images are resized and normalised already, and are only padded."""

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (padded(max(sides)) for sides in zip(*sizes, strict=True))
        batch = [F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images]
        return ImageList(torch.stack(batch).contiguous(memory_format=torch.channels_last), sizes), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        return found


def _at_least_float32(output: Any) -> Any:
    """The outputs of a head, not in bf16: torchvision decodes boxes in their type, and bf16 has steps of 4 at 800."""
    if isinstance(output, Tensor):
        return output.to(torch.promote_types(output.dtype, torch.float32))
    if isinstance(output, dict):
        return {name: _at_least_float32(value) for name, value in output.items()}
    return type(output)(_at_least_float32(value) for value in output)
