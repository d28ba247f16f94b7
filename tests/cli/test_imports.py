"""What is loaded when."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "program",
    [
        "import retinanet",
        "import retinanet; retinanet.load_config; retinanet.RetinaNetError",
        "import contextlib, sys; sys.argv = ['retina', '--help']; from retinacli.app import main\n"
        "with contextlib.suppress(SystemExit): main()",
        "import contextlib, sys; sys.argv = ['retina', 'train', '--help']; from retinacli.app import main\n"
        "with contextlib.suppress(SystemExit): main()",
    ],
)
def test_torch_is_loaded_only_when_it_is_needed(program):
    check = "\nimport sys; assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", program + check], check=True, capture_output=True)


def test_every_public_name_is_there():
    import retinanet

    for name in retinanet.__all__:
        assert getattr(retinanet, name) is not None
    with pytest.raises(AttributeError, match="module 'retinanet' has no attribute 'detekt'"):
        retinanet.detekt  # noqa: B018
