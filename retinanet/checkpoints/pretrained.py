"""Opens a model by its path, or torchvision's published weights by their name."""

from pathlib import Path

from retinanet.checkpoints.checkpoint import load_model
from retinanet.checkpoints.convert import import_weights
from retinanet.checkpoints.metadata import Metadata
from retinanet.errors import CheckpointError
from retinanet.io.downloads import cached, fetch
from retinanet.messages import one_line
from retinanet.model.retinanet import RetinaNet

PUBLISHED = {"coco": "RetinaNet_ResNet50_FPN_Weights", "coco_v2": "RetinaNet_ResNet50_FPN_V2_Weights"}


def open_model(name: str | Path) -> tuple[RetinaNet, Metadata]:
    """The model of a checkpoint or of a run's folder, or one of PUBLISHED if no file has its name, in evaluation mode.

    Raises: CheckpointError.
    """
    if str(name) in PUBLISHED and not Path(name).exists():
        return published(str(name))
    return load_model(name)


def published(name: str) -> tuple[RetinaNet, Metadata]:
    """torchvision's COCO model `name`, one of PUBLISHED, from torch's cache or the web.

    Raises: CheckpointError if it is neither cached nor reachable, or if its checksum is wrong.
    """
    from torchvision.models import get_weight

    weights = get_weight(f"{PUBLISHED[name]}.COCO_V1")
    file = cached(weights.url)
    try:
        fetch(weights.url)
    except Exception as error:  # no network, no disk space or a wrong hash raise unrelated types
        raise CheckpointError(
            f"the published weights {name} are not available ({one_line(error)}); put {file.name} into {file.parent}, "
            "or name another checkpoint with -w"
        ) from None
    return import_weights(file, zero_epsilon=name == "coco")
