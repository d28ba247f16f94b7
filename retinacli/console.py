"""Output of all commands: tables on stdout, messages and progress bars on stderr."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from retinanet.messages import printable

DASH = "\u2013"  # in place of a missing number
LONGEST_WHOLE = 10  # characters of a path; "images/s" stays whole
WORD, PARTS = re.compile(r"\S+"), re.compile(r"[^/\\\u2013]*[/\\\u2013]+|[^/\\\u2013]+")


class PipedConsole(Console):
    """A console that ends the program with 141, as the shell expects, if the reader of its pipe has ended."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # with 1
            super().on_broken_pipe()
        raise SystemExit(141)


out = PipedConsole(highlight=False)
err = Console(stderr=True, highlight=False)


def silence() -> None:
    """Print no tables, messages or progress, in a process whose results another process prints."""
    out.quiet = err.quiet = True


def message(text: str) -> None:
    """Print one line on stderr."""
    err.print(Text(printable(text)), soft_wrap=True)


def print_json(document: Any) -> None:
    """Print a document on stdout in one line. Raises: ValueError for a number that JSON does not have, such as NaN."""
    if not out.quiet:
        print(json.dumps(document, allow_nan=False))


def print_table(title: str, columns: Sequence[str], *groups: Iterable[Sequence[object]], text_columns: int = 1) -> None:
    """Print a table on stdout: columns of text, then of numbers, and a line between groups of rows.

    In a pipe, which has no width, no cell wraps. On a terminal, cells wrap between words, and within long paths and
    ranges after a slash or dash. A table that is still too wide has no lines between its columns; one that is too wide
    without them has a line for each cell.
    """
    if out.quiet:
        return
    made = [[_texts(row) for row in rows] for rows in groups]
    cells = list(zip(map(Text, columns), *(row for rows in made for row in rows), strict=True))  # of each column
    most = [max(cell_len(line) for cell in column for line in cell.plain.split("\n")) for column in cells]
    out.print(Text(printable(title), style="bold"), soft_wrap=True)
    if not out.is_terminal:
        wide = PipedConsole(highlight=False, width=sum(most) + 3 * len(most) + 1, file=out.file)
        wide.print(_grid(columns, most, made, text_columns))
        return
    least = [max(map(_longest_part, column)) for column in cells]
    room = out.width - 3 * len(columns) - 1  # beside the lines and the spaces at their sides
    room_without_lines = out.width - len(columns) + 1
    if sum(least) <= room:
        out.print(_grid(columns, column_widths(least, most, room), made, text_columns))
    elif sum(least) <= room_without_lines:
        out.print(_grid(columns, column_widths(least, most, room_without_lines), made, text_columns, lines=False))
    else:
        names = [Text(" ".join(column.split())) for column in columns]
        for row in (row for rows in made for row in rows):
            named = [(name, cell) for name, cell in zip(names, row, strict=True) if cell]
            first = max(cell_len(name.plain) for name in names)
            out.print(_grid(("", ""), (first, max(1, out.width - first - 1)), [named], 2, lines=False))
            out.print()


def _texts(cells: Iterable[object]) -> list[Text]:
    return [cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells]


def _grid(
    columns: Sequence[str], widths: Sequence[int], groups: Iterable[Any], text_columns: int, lines: bool = True
) -> Table:
    """A table of Text. widths: of the columns, in characters. lines: between the columns, else one space."""
    made = Table() if lines else Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=any(columns))
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        made.add_column(Text(column), justify="left" if index < text_columns else "right", width=width, overflow="fold")
    for rows in groups:
        for cells in rows:
            made.add_row(*(_broken(cell, width) for cell, width in zip(cells, widths, strict=True)))
        made.add_section()
    return made


def _parts(word: str) -> list[str]:
    """The parts of a word that stay whole: those of a long path or range, with their slash or dash; else the word."""
    return PARTS.findall(word) if len(word) > LONGEST_WHOLE else [word]


def _longest_part(text: Text) -> int:
    return max((cell_len(part) for word in text.plain.split() for part in _parts(word)), default=0)


def _broken(text: Text, width: int) -> Text:
    """The text with line breaks in the paths and ranges that are wider than `width`."""

    def lines(word: str) -> str:
        made = [""]
        for part in _parts(word):
            if made[-1] and cell_len(made[-1] + part) > width:
                made.append("")
            made[-1] += part
        return "\n".join(made)

    return Text(WORD.sub(lambda found: lines(found[0]), text.plain), style=text.style)


def column_widths(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths between `least` and `most` that add up to at most `room`; the narrowest columns get theirs first."""
    widths, spare = list(least), room - sum(least)
    order = sorted(range(len(widths)), key=lambda index: most[index] - least[index])
    for done, index in enumerate(order):
        more = min(most[index] - least[index], spare // (len(order) - done))
        widths[index] += more
        spare -= more
    return widths


def in_precision(precision: str | None) -> str:
    """The end of a title that names the precision, if it is known."""
    return "" if precision is None else f" in {precision}"


def headed(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Iterator[Sequence[object]]:
    """`rows` with more cells in front: those of `head` in the first row, empty ones in the others."""
    for cells in rows:
        yield (*head, *cells)
        head = [""] * len(head)


@contextmanager
def counter(unit: str) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere. Yields: a function (done, total) that advances it."""
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
