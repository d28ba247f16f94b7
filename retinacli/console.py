"""Output of all commands: tables on stdout, messages and progress bars on stderr."""

import json
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


class PipedConsole(Console):
    """A console that ends the program with 141, as the shell expects, if the reader of its pipe has ended."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # with 1
            super().on_broken_pipe()
        raise SystemExit(141)


out = PipedConsole(highlight=False)
err = Console(stderr=True, highlight=False)


def message(text: str) -> None:
    """Print one line on stderr."""
    err.print(Text(printable(text)), soft_wrap=True)


def print_json(document: Any) -> None:
    """Print a document on stdout in one line. Raises: ValueError for a number that JSON does not have, such as NaN."""
    print(json.dumps(document, allow_nan=False))


def print_table(title: str, columns: Sequence[str], *groups: Iterable[Sequence[object]], text_columns: int = 1) -> None:
    """Print a table on stdout: columns of text, then of numbers, and a line between groups of rows.

    On a terminal, cells wrap between words. If even that is too wide, each row becomes lines of a column's name and its
    cell. In a pipe, which has no width, nothing wraps.
    """
    made = [[_texts(row) for row in rows] for rows in groups]
    cells = list(zip(map(Text, columns), *(row for rows in made for row in rows), strict=True))  # of each column
    most = [max(cell_len(line) for cell in column for line in cell.plain.split("\n")) for column in cells]
    out.print(Text(printable(title), style="bold"), soft_wrap=True)
    if not out.is_terminal:
        grid = _grid(columns, most, made, text_columns)
        PipedConsole(highlight=False, width=sum(most) + 3 * len(most) + 1, file=out.file).print(grid)
        return
    least = [max((cell_len(word) for cell in column for word in cell.plain.split()), default=0) for column in cells]
    room = out.width - 3 * len(columns) - 1  # beside the lines and the spaces at their sides
    if sum(least) <= room:
        out.print(_grid(columns, column_widths(least, most, room), made, text_columns))
        return
    heads = [" ".join(column.split()) for column in columns]
    for row in (row for rows in made for row in rows):
        for head, cell in zip(heads, row, strict=True):
            if cell:
                out.print(Text(f"{head:{max(map(cell_len, heads))}}  ").append_text(cell), soft_wrap=True)
        out.print()


def _texts(cells: Iterable[object]) -> list[Text]:
    return [cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells]


def _grid(columns: Sequence[str], widths: Sequence[int], groups: Iterable[Any], text_columns: int) -> Table:
    """widths: of the columns, in characters."""
    made = Table()
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        made.add_column(Text(column), justify="left" if index < text_columns else "right", width=width)
    for rows in groups:
        for cells in rows:
            made.add_row(*cells)
        made.add_section()
    return made


def column_widths(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths between `least` and `most` that add up to at most `room`; the narrowest columns get theirs first."""
    widths, spare = list(least), room - sum(least)
    order = sorted(range(len(widths)), key=lambda index: most[index] - least[index])
    for done, index in enumerate(order):
        more = min(most[index] - least[index], spare // (len(order) - done))
        widths[index] += more
        spare -= more
    return widths


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
