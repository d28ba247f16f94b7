"""Output of all commands: tables on stdout, messages and progress bars on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from retinanet.messages import printable

DASH = "\u2013"  # in place of a missing number

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def message(text: str) -> None:
    """Print one line on stderr."""
    err.print(Text(printable(text)), soft_wrap=True)


def table(title: str, *columns: str, text_columns: int = 1) -> Table:
    """A table with `text_columns` columns of text, then columns of numbers."""
    made = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < text_columns else "right", overflow="fold")
    return made


def row(to: Table, *cells: object) -> None:
    """Add a row to a table."""
    to.add_row(*(Text(printable(cell)) for cell in cells))


def print_table(made: Table, width: int = 100) -> None:
    """Print on stdout. width: characters available in a pipe, which has no width of its own."""
    if out.is_terminal:
        out.print(made)
    else:
        Console(highlight=False, width=max(width, out.width)).print(made)


@contextmanager
def counter(unit: str) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere. Yields: a function (done, total) that advances it."""
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
