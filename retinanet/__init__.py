"""RetinaNet and the focal loss (Lin et al., "Focal Loss for Dense Object Detection", 2017)."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {  # name -> module; the module is imported at the first use of the name, so that torch loads late
    "RetinaNet": "model.retinanet",
    "Config": "config.schema",
    "load_config": "config_file",
    "make_anchors": "model.anchors",
    "match": "losses.matching",
    "sigmoid_focal_loss": "losses.elementwise",
    "softmax_focal_loss": "losses.softmax",
    "anchor_focal_loss": "losses.focal",
    "detection_loss": "losses.criterion",
    "detect": "model.postprocess",
    "train": "training.train",
    "training_events": "training.train",
    "evaluate": "evaluation.evaluate",
    "predict": "inference.predict",
    "load": "inference.detector",
    "RetinaNetError": "errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"retinanet.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'retinanet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
