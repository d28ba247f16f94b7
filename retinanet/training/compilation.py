"""`torch.compile` for a run, with one-line errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from retinanet.errors import ConfigError
from retinanet.messages import one_line
from retinanet.model.retinanet import RetinaNet


def compile_network(model: nn.Module) -> None:
    """Compile a RetinaNet in place. Copies of the model are not compiled."""
    assert isinstance(model, RetinaNet)
    # without the anchors, which depend on the image size: each new size would trigger a recompilation
    model.anchors = torch.compiler.disable(model.anchors)  # type: ignore[method-assign]
    model.compile()


@contextmanager
def compiling(enabled: bool) -> Iterator[None]:
    """Silence torch's warnings. enabled: train.compile. Raises: ConfigError if this machine cannot compile."""
    if not enabled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except TorchDynamoException as error:
        raise ConfigError(
            f"train.compile is true, but torch.compile fails on this machine: {one_line(error, type(error).__name__)}"
        ) from None
    finally:
        logger.setLevel(before)
