"""Tables and progress in terminals of several widths, and in pipes."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from retinacli import console
from retinacli.console import PipedConsole, column_widths, print_table
from retinacli.render.train import _progress_texts
from retinanet.training.events import Progress

COLUMNS = ("file", "class", "score", "x1", "y1", "x2", "y2")
FILE = "photos of the first day/IMG_20240101_120000.jpg"
ROW = (FILE, "traffic light", "0.987", "1234.5", "678.9", "2345.6", "789.0")
NOTE = (
    "a sentence of many words that says what to do about a fault, and that goes on for longer than a terminal is wide"
)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The lines of a table in a terminal of a width; None: in a pipe."""

    def lines(width: int | None, *table: object, **options: object) -> list[str]:
        written = io.StringIO()
        out = PipedConsole(
            file=written, highlight=False, width=width, force_terminal=width is not None, color_system=None
        )
        monkeypatch.setattr(console, "out", out)
        print_table(*table, **options)
        return written.getvalue().splitlines()

    return lines


def words(*cells: str) -> set[str]:
    return {word for cell in cells for word in cell.split()}


@pytest.mark.parametrize("width", [40, 80, 120, 200, None])
@pytest.mark.parametrize(
    ("columns", "row"), [(COLUMNS, ROW), (("level", "finding", "details"), ("error", "not-an-image", NOTE))]
)
def test_words_and_numbers_stay_whole(printed, width, columns, row, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = printed(width, "A title of several words", columns, [row], [row], text_columns=2)
    assert lines[0] == "A title of several words"
    seen = words(*(line.translate(str.maketrans("│┃", "  ")) for line in lines))
    assert words(*row, *columns) <= seen
    if width is not None:
        assert all(len(line) <= width for line in lines if NOTE not in line and FILE not in line), lines


def test_a_pipe_has_one_line_for_a_row(printed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    lines = printed(None, "T" * 300, ("level", "details"), [("error", NOTE * 3), ("warning", "short")])
    assert [NOTE * 3 in line for line in lines].count(True) == 1 and lines[0] == "T" * 300
    assert len(lines) == 7


def test_a_narrow_terminal_has_a_line_for_each_cell(printed):
    lines = printed(40, "Detections", COLUMNS, [ROW], [("", "no detections", "", "", "", "", "")], text_columns=2)
    assert lines[:4] == ["Detections", f"file   {FILE}", "class  traffic light", "score  0.987"]
    assert lines[-3:] == ["", "class  no detections", ""]


def test_widths_of_columns():
    assert column_widths([4, 5], [4, 30], 100) == [4, 30]
    assert column_widths([4, 5, 5], [4, 30, 90], 60) == [4, 28, 28]
    assert column_widths([4, 5, 5], [4, 10, 90], 60) == [4, 10, 46]
    assert column_widths([4, 5], [9, 9], 9) == [4, 5]


PROGRESS = Progress(
    **dict.fromkeys(Progress.__dataclass_fields__, 0)
    | {"epoch": 12, "epochs": 12, "step": 89_999, "steps": 90_000, "cls": 0.1234, "box": 0.5678, "lr": 0.00125}
    | {"images_per_second": 123.4, "memory": 2**33, "last_ap": 0.361, "best_ap": 0.364, "seconds_left": 11_100}
)


@pytest.mark.parametrize(
    ("room", "tail"),
    [
        (None, "cls 0.123 box 0.568 lr 0.0013 123.4 images/s 8.0 GiB AP 0.361 best 0.364 3 h 05 min left"),
        (200, "cls 0.123 box 0.568 lr 0.0013 123.4 images/s 8.0 GiB AP 0.361 best 0.364 3 h 05 min left"),
        (98, "cls 0.123 box 0.568 AP 0.361 best 0.364 3 h 05 min left"),
        (78, "cls 0.123 box 0.568 3 h 05 min left"),
        (20, "cls 0.123 box 0.568 3 h 05 min left"),
    ],
)
def test_the_progress_keeps_epoch_step_losses_and_the_time_left(room, tail):
    head = "epoch 12/12 step 89999/90000"
    assert _progress_texts(PROGRESS, room) == (head, tail)
    assert _progress_texts(replace(PROGRESS, last_ap=None), None)[1].endswith("8.0 GiB 3 h 05 min left")
