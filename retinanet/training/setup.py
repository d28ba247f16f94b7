"""The parts of a run, built from its config."""

from retinanet.checkpoints import checkpoint
from retinanet.config.schema import Config, LossConfig, loss_settings
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.dataset_analysis.check import errors_without_images
from retinanet.errors import CheckpointError, ConfigError, DataError
from retinanet.model.retinanet import RetinaNet


def fine_tune(model: RetinaNet, path: str, classes: tuple[str, ...]) -> list[str]:
    """Take from checkpoint `path` every tensor that fits `model`. Returns: what was taken and what was not."""
    file = checkpoint.resolve(path)
    known = checkpoint.read_metadata(file).classes
    given = checkpoint.model_tensors(checkpoint.read_tensors(file))
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


def open_train_and_val(config: Config, messages: list[str]) -> tuple[Dataset, Dataset | None]:
    """Both splits; `messages` takes what the reader should know.

    Raises: DataError if the data would spoil the run, as far as that can be told without opening an image.
    """
    train = open_dataset(config.data, "train")
    messages.extend(train.notes)
    if not config.data.has_val:
        messages.append("warning: data.val is not set, so no AP is measured and no best checkpoint is kept")
        val = None
    else:
        val = open_dataset(config.data, "val")
        messages.extend(val.notes)
    for fault in errors_without_images(train, val)[:1]:
        raise DataError(f"{fault.text}; {fault.advice}; retina check CONFIG tells all that is at fault")
    return train, val


def check_alpha(loss: LossConfig, classes: int) -> list[str]:
    """Warnings about loss.alpha. Raises: ConfigError if it is a list with another length than `classes`."""
    settings = loss_settings(loss)
    alpha = settings.get("alpha")
    if isinstance(alpha, tuple):
        if len(alpha) != classes:
            raise ConfigError(f"loss.alpha has {len(alpha)} values, expected 1 or {classes} (one for each class)")
        return []
    if settings.get("gamma") == 0 and alpha < 0.5:
        return [
            f"warning: with loss.gamma 0, loss.alpha {alpha:g} gives objects less weight than background; in the paper "
            "(table 1a) AP was 10.8 with alpha 0.25 and 31.1 with alpha 0.75"
        ]
    return []
