"""Warnings of other packages stay away from the terminal."""

import logging
import os
import sys
import warnings
from pathlib import Path

import pytest

from retinacli.app import silence_libraries
from retinanet.inference.exported_model import require

LOUD = """
import logging, os, sys, warnings
os.write(2, b"from C\\n")
warnings.warn("from Python")
logging.getLogger("loud").warning("from a log")
"""


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package that complains when it is imported."""
    (tmp_path / "loud_package.py").write_text(LOUD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loud_package", raising=False)
    return "loud_package"


def test_a_runtime_that_complains_at_its_import(loud: str, capfd: pytest.CaptureFixture[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require(loud, "onnx")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_warnings_and_logs_are_not_shown(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    before = logging.root.manager.disable
    try:
        for asked, shown in (([], False), (["default"], True)):
            monkeypatch.setattr(sys, "warnoptions", asked)
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
                logging.disable(logging.NOTSET)
                silence_libraries()
                warnings.warn("a warning of a library", stacklevel=1)
                assert logging.getLogger("a library").isEnabledFor(logging.WARNING) is shown
            assert ("a warning of a library" in capfd.readouterr().err) is shown
    finally:
        logging.disable(before)
