"""The examples that compare losses without a detector."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LOSSES = ["cross entropy", "balanced cross entropy", "focal loss"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path: Path):
    """Runs an example in this process, as `python NAME.py ARGUMENTS -o figure.png`. Returns: what it prints."""

    def printed(name: str, *arguments: str) -> str:
        monkeypatch.syspath_prepend(str(EXAMPLES))
        importlib.import_module(name).main([*arguments, "-o", str(tmp_path / "figure.png")])
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        return capsys.readouterr().out

    return printed


def rows(printed: str) -> list[list[float]]:
    """The four numbers of each row of each table."""
    found = re.findall(rf"^({'|'.join(LOSSES)})((?: +[\d.]+){{4}})$", printed, re.MULTILINE)
    assert [name for name, _ in found] == LOSSES * (len(found) // 3)
    return [[float(value) for value in values.split()] for _, values in found]


def test_imbalanced_classification(run):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    printed = run("imbalanced_classification", "--repeats", "2", "--steps", "40")
    assert "digit 8: 17 of 828 test samples" in printed
    (precision, *_), *_ = table = rows(printed)
    assert len(table) == 3 and 0.1 < precision <= 1  # at random, 0.02
    assert len(re.findall(r" (?:wins|no winner, .* is first), [\d.]+ \+- [\d.]+ ahead of ", printed)) == 4


def test_multi_label_classification(run, shared_data: Path):
    printed = run("multi_label_classification", str(shared_data / "bccd"), "--repeats", "1", "--steps", "10")
    for line in ("WBC: 71 of 864", "Platelets: 61 of 864", "RBC: 586 of 864"):
        assert f"{line} test samples" in printed
    assert len(rows(printed)) == 9
    assert all(0 <= value <= 1 for row in rows(printed) for value in row)
    assert printed.count("one repeat names no winner") == 12


def test_a_loss_wins_only_by_more_than_its_repeats_scatter(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    verdict = importlib.import_module("loss_comparison").verdict
    first, second = np.array([0.8, 0.6, 0.7]), np.array([0.69, 0.51, 0.6])  # 0.11, 0.09 and 0.1 ahead
    assert verdict("AP", {"a": second, "b": first}) == "AP: b wins, 0.1000 +- 0.0058 ahead of a"
    second = np.array([0.5, 0.9, 0.55])
    assert verdict("AP", {"a": second, "b": first}).startswith("AP: no winner, b is first, 0.0500 +- 0.1803 ahead")


def test_metrics_of_scores_that_can_be_worked_out_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    metrics = importlib.import_module("loss_comparison").metrics
    scores, targets = np.array([0.95, 0.85, 0.75, 0.05]), np.array([1, 0, 1, 0])
    precision, recall, brier, error = metrics(scores, targets)
    assert precision == pytest.approx((1 + 2 / 3) / 2)
    assert recall == 0.5
    assert brier == pytest.approx((0.05**2 + 0.85**2 + 0.25**2 + 0.05**2) / 4)
    assert error == pytest.approx((0.05 + 0.85 + 0.25 + 0.05) / 4)
