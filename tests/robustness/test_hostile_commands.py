"""A few of the hostile inputs through the installed command, in a process that may take 12 GB of addresses."""

import subprocess
from pathlib import Path

import pytest
from helpers.hostile_input import MERGES, PREDICT, Case, claim, judge, png_header, text
from helpers.support import RETINA, Result

CASES = [
    Case("merge bomb", text("bad.yaml", MERGES), "check bad.yaml", "it has more than 100,000 values"),
    Case(
        "config of 19 GB", claim("model", fpn_channels=4096, head_channels=4096, head_depth=16), PREDICT, "not fit its"
    ),
    Case("PNG bomb", text("photos/a.png", png_header(40_000, 40_000)), PREDICT, "40000 x 40000", per_file=True),
]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_one_line(case: Case, place: Path):
    def run(*arguments: str) -> Result:
        command = ["sh", "-c", 'ulimit -v 12000000; exec "$0" "$@"', RETINA, *arguments]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)
        return Result(done.returncode, done.stdout if not case.per_file else "", done.stderr)

    judge(case, place, run)
