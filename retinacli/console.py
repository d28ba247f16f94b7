"""Output of all commands: tables on stdout, messages and progress bars on stderr."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

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


def print_table(
    title: str, columns: Sequence[str], *groups: Iterable[Sequence[object]], text_columns: int = 1, width: int = 100
) -> None:
    """Print a table on stdout: columns of text, then of numbers, and a line between groups of rows.

    width: characters available in a pipe, which has no width of its own.
    """
    made = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < text_columns else "right", overflow="fold")
    for rows in groups:
        for cells in rows:
            made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells))
        made.add_section()
    if out.is_terminal:
        out.print(made)
    else:
        PipedConsole(highlight=False, width=max(width, out.width)).print(made)


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
