"""torchvision's published weights, and any detector by its name."""

from pathlib import Path

from retinanet.checkpoints.checkpoint import Metadata, load_model
from retinanet.checkpoints.convert import _convert
from retinanet.checkpoints.foreign_files import MAX_BYTES
from retinanet.errors import CheckpointError
from retinanet.io.downloads import cached, fetch
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line
from retinanet.model.retinanet import RetinaNet

PUBLISHED = {"coco": "RetinaNet_ResNet50_FPN_Weights", "coco_v2": "RetinaNet_ResNet50_FPN_V2_Weights"}


def open_model(name: str | Path) -> tuple[RetinaNet, Metadata]:
    """The detector of a checkpoint or a run's folder, or one of PUBLISHED where no file has its name.

    In evaluation mode, on the CPU. Raises: CheckpointError.
    """
    if str(name) in PUBLISHED and not Path(name).exists():
        return published(str(name))
    return load_model(name)


def published(name: str) -> tuple[RetinaNet, Metadata]:
    """torchvision's COCO model `name` of PUBLISHED, from torch's cache, else over https with its hash compared.

    Raises: CheckpointError if it is neither cached nor reachable, or damaged.
    """
    from torchvision.models import get_weight

    weights = get_weight(f"{PUBLISHED[name]}.COCO_V1")
    file = cached(weights.url)
    try:
        fetch(weights.url)
    except Exception as error:  # no network, no space, another hash: each raises a family of its own
        raise CheckpointError(
            f"the published weights {name} are not at hand ({one_line(error)}); lay {file.name} into {file.parent}, or name "
            "another checkpoint with -w"
        ) from None
    return _convert(file, read_bytes(file, MAX_BYTES, CheckpointError), no_epsilon=name == "coco")
