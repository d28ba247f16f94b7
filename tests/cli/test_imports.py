"""What is loaded when."""

import subprocess
import sys

import pytest

HELP = """
import contextlib, sys
from retinacli.app import app, main
for command in ([], *([each.name] for each in app.registered_commands)):
    sys.argv = ["retina", *command, "--help"]
    with contextlib.suppress(SystemExit):
        main()
"""


@pytest.mark.parametrize(
    "program",
    ["import retinanet", "import retinanet; retinanet.load_config; retinanet.RetinaNetError", HELP],
)
def test_torch_is_loaded_only_when_it_is_needed(program):
    check = "\nimport sys; assert not {'torch', 'cv2', 'matplotlib', 'rich.progress'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program + check], check=True, capture_output=True, text=True)
    assert done.stdout.count("Usage: ") == (13 if program == HELP else 0)


def test_every_public_name_is_there():
    import retinanet

    for name in retinanet.__all__:
        assert getattr(retinanet, name) is not None
    with pytest.raises(AttributeError, match="module 'retinanet' has no attribute 'detekt'"):
        retinanet.detekt  # noqa: B018
