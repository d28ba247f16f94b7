"""Standard streams that are closed, full, broken or of another encoding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.support import RETINA

from retinanet.checkpoints.checkpoint import LAST, read_metadata

# PYTHONUNBUFFERED would hide what Python says at its exit
PLAIN = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "PYTHONIOENCODING")}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = f'retina() {{ "{RETINA}" "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=PLAIN | environment, timeout=120)


@pytest.mark.parametrize("command", ["--version", "config", "config train.lr --json"])
def test_a_pipe_that_ends_early_ends_the_command_in_silence(command):
    done = shell(f"retina {command} | (exec <&-; true)")
    assert (done.returncode, done.stderr) in [(141, ""), (0, "")]  # 0: all was written before the reader ended


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("retina --version > /dev/full", 1, "retina: standard output: No space left on device\n"),
        ("retina config --json > /dev/full", 1, "retina: No space left on device\n"),
        ("retina train nope 2> /dev/full", 1, ""),
        ("retina train nope 2> >(exec <&-; true)", 1, ""),
        ("retina train nope 2>&-", 1, ""),
        ("retina config >&-", 0, ""),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
def test_a_stream_that_takes_nothing(line, code, error):
    done = shell(line)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
@pytest.mark.parametrize("end", ["2> /dev/full", "2> >(head -n 1 > /dev/null)", "2>&-"])
def test_a_run_goes_on_without_a_reader_of_its_messages(tiny: Path, tmp_path: Path, end):
    done = shell(f"cd {tiny}; retina train tiny.yaml --epochs 1 -o {tmp_path}/run --json {end}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert json.loads(done.stdout)["steps"] == 2
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert read_metadata(tmp_path / "run" / LAST).progress["step"] == 2


def test_a_terminal_that_is_gone_ends_no_run(tiny: Path, tmp_path: Path):
    main, terminal = os.openpty()
    command = [RETINA, "train", "tiny.yaml", "--epochs", "1", "-o", tmp_path / "run", "--json"]
    with subprocess.Popen(command, cwd=tiny, env=PLAIN, stderr=terminal, stdout=subprocess.PIPE) as process:
        os.close(terminal)
        os.read(main, 1)
        os.close(main)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["steps"] == 2
        assert process.wait(timeout=60) == 0


def test_an_encoding_without_a_character_gets_an_escape():
    done = shell("retina train $'\\xc3\\xa9'; retina train $'\\xff'", PYTHONIOENCODING="ascii")
    first, second = done.stderr.splitlines()
    assert first.startswith("retina: \\xe9: no such file") and second.startswith("retina: \\udcff: no such file")


def test_a_closed_stream_is_not_taken_by_a_file(tmp_path: Path):
    script = "import os, sys; from retinacli.app import prepare_streams; prepare_streams(); "
    script += f"sys.exit(os.open({str(tmp_path / 'x')!r}, os.O_CREAT) <= 2)"
    assert shell(f'"{sys.executable}" -c "{script}" <&- >&- 2>&-').returncode == 0
