"""The splits that a run trains and evaluates on, opened and found sound."""

from retinanet.config import Config
from retinanet.data import open_dataset
from retinanet.data.check import errors_without_images
from retinanet.data.dataset import Dataset
from retinanet.errors import DataError


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
