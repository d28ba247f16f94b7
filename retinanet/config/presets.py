"""The settings in which the RetinaNets of other projects differ from our defaults."""

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "detectron2": {  # its RetinaNet of 2020, with which the weights of its model zoo were trained
        "data": {"resize": "pil"},
        "anchors": {"force_best": True},
        "loss": {"box": "l1", "normalizer": "exponential"},
        "detect": {"clip_first": False},
    },
    "torchvision": {  # retinanet_resnet50_fpn
        "data": {"resize": "float"},
        "model": {"p6_from": "p5"},
        "anchors": {"force_best": True, "whole_pixels": True},
        "loss": {"box": "l1"},
        "detect": {"max_detections": 300},
    },
    "torchvision_v2": {  # retinanet_resnet50_fpn_v2
        "data": {"resize": "float"},
        "model": {"trunk_norm": "bn", "head_norm": "gn"},
        "anchors": {"force_best": True, "whole_pixels": True},
        "loss": {"box": "giou"},
        "detect": {"max_detections": 300},
    },
}
