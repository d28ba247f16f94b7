"""How a command fails."""

import sys
from pathlib import Path
from typing import NoReturn

LONGEST = 2000  # characters of a message, which may quote a user's file


def fail(message: str, code: int) -> NoReturn:
    """Print one line on stderr and exit; of several processes that fail, only the first prints.

    code: 1 a file or the data is invalid, 2 wrong usage, 3 a required check fails, 130 or 143 interrupted.
    """
    from retinanet.distributed import current_processes
    from retinanet.messages import printable

    if not current_processes().first_to_report():
        raise SystemExit(code)
    line = printable(message)
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    if sys.stderr is not None:  # None if it was closed at the start
        print(f"retina: {line}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def check_writable(file: Path) -> None:
    """Fail early if `file` clearly cannot be written."""
    from retinanet.io.atomic import fault_of_folder, is_stream

    try:
        fault = "" if is_stream(file) else fault_of_folder(file.parent)
    except OSError as error:
        fault = error.strerror or str(error)
    if fault:
        fail(f"{file}: cannot be written: {fault}", 1)
