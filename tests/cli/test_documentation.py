"""The generated pages are what the commands and the config say today, and no page links to a file that is not there."""

import re
import runpy
from pathlib import Path

import pytest

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
