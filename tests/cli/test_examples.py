"""The examples that are programs."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_imbalanced_classification(tmp_path: Path):
    program = [sys.executable, str(EXAMPLES / "imbalanced_classification.py")]
    options = ["--samples", "5000", "--steps", "30", "-o", "figure.png"]
    done = subprocess.run([*program, *options], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "5 of them positive" in done.stdout
    rows = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()[2:5]]
    assert [name for name, _, _ in rows] == ["cross entropy", "balanced, alpha 0.75", "focal, gamma 2, alpha 0.25"]
    assert all(0 <= float(value) <= 1 for _, *values in rows for value in values)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
