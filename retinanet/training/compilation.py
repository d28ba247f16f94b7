"""`torch.compile`, and what it would tell a user in its own way."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from retinanet.errors import ConfigError
from retinanet.messages import one_line
from retinanet.model.retinanet import RetinaNet


def compile_network(model: RetinaNet) -> None:
    """In place. Copies of the model are as it was."""
    # anchors are kept by size: each new size would be compiled anew
    model.anchors = torch.compiler.disable(model.anchors)  # type: ignore[method-assign]
    model.compile()


@contextmanager
def compiling(asked: bool) -> Iterator[None]:
    """Around what a compiled model does, if it is one: without warnings of what was compiled how.

    Raises: ConfigError if it cannot be compiled here.
    """
    if not asked:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except TorchDynamoException as error:
        raise ConfigError(f"train.compile is true, but torch.compile fails here: {one_line(error)}") from None
    finally:
        logger.setLevel(before)
