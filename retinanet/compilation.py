"""What `torch.compile` would tell a user in its own way."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from retinanet.errors import ConfigError, one_line


@contextmanager
def compiling(asked: bool) -> Iterator[None]:
    """Around a compiled model's forward pass: without warnings of what was compiled how.

    Raises: ConfigError if it cannot be compiled here.
    """
    if not asked:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        yield
    except TorchDynamoException as error:
        raise ConfigError(f"train.compile is true, but torch.compile fails here: {one_line(error)}") from None
