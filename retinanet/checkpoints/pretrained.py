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
    """The model of a checkpoint or of a run's folder, or one of PUBLISHED, in evaluation mode.

    A model of PUBLISHED is torchvision's, from torch's cache or the web; ./coco is a path. Raises: CheckpointError.
    """
    name = str(name)
    if name not in PUBLISHED:
        return load_model(name)
    from torchvision.models import get_weight

    url = get_weight(f"{PUBLISHED[name]}.COCO_V1").url
    try:
        file = fetch(url)
    except Exception as error:  # no network, no disk space or a wrong hash raise unrelated types
        raise CheckpointError(
            f"the published weights {name} are not available ({one_line(error, 'no answer')}); put "
            f"{cached(url).name} into {cached(url).parent}, or name another checkpoint with -w"
        ) from None
    return import_weights(file, zero_epsilon=name == "coco")
