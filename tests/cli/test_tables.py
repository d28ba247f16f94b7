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
    """The parts that stay whole: words, and the parts of paths."""
    return {word for cell in cells for word in cell.replace("/", "/ ").split()}


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
    assert width is None or max(map(len, lines)) <= width


def test_a_pipe_has_one_line_for_a_row(printed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    lines = printed(None, "T" * 300, ("level", "details"), [("error", NOTE * 3), ("warning", "short")])
    assert [NOTE * 3 in line for line in lines].count(True) == 1 and lines[0] == "T" * 300
    assert len(lines) == 7


@pytest.mark.parametrize("width", [23, None])
def test_a_column_is_as_wide_as_the_lines_of_its_name(printed, width):
    assert printed(width, "T", ("value", "paper's\nAP50"), [("0", "49.4")])[2:4] == [
        "\u2503       \u2503 paper's \u2503",
        "\u2503 value \u2503    AP50 \u2503",
    ]


def test_a_narrow_terminal_has_a_line_for_each_cell(printed):
    rows = [ROW], [("", "no detections", "", "", "", "", "")]
    lines = [line.rstrip() for line in printed(36, "Detections", COLUMNS, *rows, text_columns=2)]
    file = ["file  photos of the first", "      day/IMG_20240101_120000.jpg"]
    assert lines[:5] == ["Detections", *file, "class traffic light", "score 0.987"]
    assert lines[-3:] == ["", "class no detections", ""]


def test_a_table_of_numbers_that_is_little_too_wide_has_no_lines(printed):
    columns, row = ("class", "precision", "95 %", "recall"), ("WBC", "0.740", "0.667\u20130.818", "0.851")
    for width in (34, 38):
        assert printed(width, "T", columns, [row]) == [
            "T",
            "class precision        95 % recall",
            "WBC       0.740 0.667\u20130.818  0.851",
        ]
    assert printed(39, "T", columns, [row])[1].startswith("\u250f")
    assert printed(29, "T", columns, [row])[-2:] == [
        "WBC       0.740 0.667\u2013  0.851",
        "                 0.818       ",
    ]


def test_long_paths_break_after_a_slash(printed):
    def cells(path: str) -> list[str]:
        lines = printed(40, "T", ("file", "what is wrong with it"), [(path, "a damaged JPEG")], text_columns=2)
        return [line.split("\u2502")[1].strip() for line in lines if line[0] == "\u2502"]

    assert cells("data/of/2024/a_photo.jpg") == ["data/of/2024/", "a_photo.jpg"]
    assert cells("data\\of\\2024\\a_photo.jpg") == ["data\\of\\2024\\", "a_photo.jpg"]
    assert cells("a/b/c/d images/s") == ["a/b/c/d images/s"]


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
