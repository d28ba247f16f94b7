"""A new run from an old one's weights."""

from retinanet import checkpoint
from retinanet.errors import CheckpointError
from retinanet.model import RetinaNet


def fine_tune(model: RetinaNet, path: str, classes: tuple[str, ...]) -> list[str]:
    """Take from checkpoint `path` every tensor that fits `model`. Returns: what was taken and what was not."""
    file = checkpoint.resolve(path)
    known = checkpoint.read_metadata(file).classes
    given = checkpoint.weights(checkpoint.read_tensors(file))
    own = model.state_dict()
    # the class scores fit by shape alone when the number of classes is equal; they are right only for the same classes
    fits = {
        name: tensor
        for name, tensor in given.items()
        if name in own
        and own[name].shape == tensor.shape
        and (known == classes or not name.startswith("cls_subnet.predict"))
    }
    if not fits:
        raise CheckpointError(f"{file}: none of its {len(given)} tensors fits this model")
    model.load_state_dict(own | fits)
    left = [name for name in own if name not in fits]
    message = f"fine-tuning from {file}: {len(fits)} of {len(own)} tensors taken"
    return [f"{message}; fresh: {', '.join(left[:8])}{', ...' if len(left) > 8 else ''}" if left else message]
