"""The generated pages are what the program says today, no link is dead, and the code of the library's page runs."""

import re
import runpy
import shutil
from pathlib import Path

import pytest

import retinanet

ROOT = Path(__file__).parents[2]
PAGES = [page for folder in (".", "docs", "examples", "benchmarks") for page in (ROOT / folder).glob("*.md")]
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_every_command_is_documented():
    names = "train eval predict anchors loss-plot ablate import export check config init bench"
    assert " ".join(GENERATED["command_names"]()) == names
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == GENERATED["commands_page"](), "`make docs` writes docs/commands.md anew"


def test_every_key_is_documented():
    written = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert written == GENERATED["config_page"](), "`make docs` writes docs/config.md anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    targets = [target for target in targets if not target.startswith(("http:", "https:"))]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_exist(page: Path):
    if page.name == "CHANGELOG.md":  # it tells of files that later versions moved
        return
    names = re.findall(
        r"`((?:retinanet|retinacli|tests|docs|examples|benchmarks)/[\w./]*)`", page.read_text(encoding="utf-8")
    )
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_code_of_the_pages_runs_and_prints_what_it_says(tiny: Path, tmp_path: Path, monkeypatch, capsys):
    """The blocks run in order, with the names of those before; a comment after `print(...)` is the line printed."""
    config = (tiny / "tiny.yaml").read_text().replace("root: shapes", f"root: {tiny / 'shapes'}")
    (tmp_path / "cells.yaml").write_text(config)
    shutil.copy(tiny / "shapes" / "val" / "0.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for name, least in (("docs/library.md", 9), ("README.md", 1)):
        page = (ROOT / name).read_text(encoding="utf-8")
        blocks = list(re.finditer(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
        assert len(blocks) >= least
        for block in blocks:
            before = page[: block.start(1)].count("\n")  # so that a traceback names the line of the page
            exec(compile("\n" * before + block[1], name, "exec"), names)
            printed, expected = capsys.readouterr().out.splitlines(), re.findall(r"print\(.*\)  # (.*)", block[1])
            assert [line for line in expected if line not in printed] == []
    assert names["done"].best_epoch is not None


def test_every_public_name_is_on_the_librarys_page():
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    names = [name for name in retinanet.__all__ if name not in ("__version__", "Config")]
    assert [name for name in names if f"retinanet.{name}(" not in code and f"except retinanet.{name}" not in code] == []
    assert [name for name in (*names, "Config") if f"`{name}`" not in page] == []
