"""The README's help blocks are those of the commands; `python tests/test_readme.py` writes them anew."""

import os
import subprocess
from pathlib import Path

from helpers.support import RETINA

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- help -->", "<!-- /help -->"


def help_of(*command: str) -> str:
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
    done = subprocess.run([RETINA, *command, "--help"], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.rstrip()


def commands() -> list[str]:
    listed = help_of().split("Commands:")[1]
    return [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]


def blocks() -> str:
    return "\n\n".join(f"```\n{help_of(command).strip()}\n```" for command in commands())


def test_every_command_is_documented():
    text = README.read_text(encoding="utf-8")
    assert " ".join(commands()) == "train eval predict anchors loss-plot ablate import export check bench"
    assert text.split(START)[1].split(END)[0].strip() == blocks()


if __name__ == "__main__":
    before, after = README.read_text(encoding="utf-8").split(START)[0], README.read_text(encoding="utf-8").split(END)[1]
    README.write_text(f"{before}{START}\n{blocks()}\n{END}{after}", encoding="utf-8")
