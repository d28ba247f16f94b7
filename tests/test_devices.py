"""The choice of a device."""

import pytest

from retinanet.devices import pick_device
from retinanet.errors import ConfigError


@pytest.mark.parametrize(
    "name", ["meta", "hpu", "privateuseone", "xla", "cuda:99", "", "cpu:x", "mtia", "vulkan", "\n"]
)
def test_a_device_that_is_not_here_names_those_that_are(name):
    with pytest.raises(ConfigError, match="^the device .* is not available; expected one of auto, cpu") as error:
        pick_device(name)
    assert "\n" not in str(error.value)


def test_a_cpu_is_always_here():
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda", "mps")
