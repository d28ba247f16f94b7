"""Output that all commands share."""

import json
from pathlib import Path

import pytest

import retinacli
from retinacli.console import print_json


def test_json_has_no_nan(capsys):
    print_json({"AP": 0.5})
    assert json.loads(capsys.readouterr().out) == {"AP": 0.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"AP": float("nan")})
    assert capsys.readouterr().out == ""


def test_all_commands_print_json_in_one_way():
    for file in Path(retinacli.__file__).parent.rglob("*.py"):
        assert "print(json.dumps" not in file.read_text() or file.name == "console.py", file
