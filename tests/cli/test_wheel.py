"""What is installed from a wheel, far from the repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_an_installed_wheel_finds_the_examples(tmp_path: Path):
    repository = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "--quiet"]
    wheels = tmp_path / "wheels"
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(repository)]
    subprocess.run(build, check=True)
    (wheel,) = wheels.iterdir()
    assert wheel.name.startswith("retina_detector-")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    assert all((tmp_path / "site" / package / "py.typed").is_file() for package in ("retinacli", "retinanet"))
    assert {file.suffix for file in (tmp_path / "site/retinanet/report").iterdir()} >= {".py", ".jinja", ".css"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # -P and PYTHONPATH: the wheel's modules stand before the repository's
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-P", "-m", "retinacli", "train", "coco.yaml"]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"retina: {elsewhere}/coco: no such folder; data.root (--set data.root=DIR) must ")
    assert "https://cocodataset.org/#download" in done.stderr and done.stderr.count("\n") == 1
    where = [
        sys.executable,
        "-P",
        "-c",
        "import retinanet.config_file as c; print(c.__file__, *c.shipped_examples().values())",
    ]
    told = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True).stdout
    assert len(told.split()) == 1 + len(list((repository / "examples").glob("*.yaml")))
    assert all(Path(path).is_relative_to(tmp_path / "site") for path in told.split())
