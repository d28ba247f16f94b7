"""Counts the operators for which the host of a GPU waits."""

from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "nms")


class Waits(TorchDispatchMode):
    """Collects the operators whose result the host must know."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in WAITS:
            self.names.append(name)
        return function(*args, **(kwargs or {}))
