"""The program `retina`: its commands and exit codes."""

import atexit
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, TextIO, cast

import typer

from retinacli.commands.ablate import ablate_command
from retinacli.commands.anchors import anchors_command
from retinacli.commands.bench import bench_command
from retinacli.commands.check import check_command
from retinacli.commands.config import config_command
from retinacli.commands.evaluate import eval_command
from retinacli.commands.export import export_command
from retinacli.commands.import_weights import import_command
from retinacli.commands.init import init_command
from retinacli.commands.loss_plot import loss_plot_command
from retinacli.commands.predict import predict_command
from retinacli.commands.train import train_command
from retinacli.failure import fail
from retinacli.many_values import ManyValues
from retinacli.stop_signals import end_children, stoppable

app = typer.Typer(
    name="retina",
    help="Train, measure and use RetinaNet with the focal loss.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LESS_MEMORY = {  # what to change in a command that ran out of memory
    "train": "fewer data.workers, a smaller train.batch_size or data.short_side need less",
    "ablate": "fewer data.workers, a smaller train.batch_size or data.short_side need less",
    "eval": "a smaller --batch-size, --set data.short_side=N or fewer data.workers need less",
    "predict": "a smaller --batch-size or smaller images need less",
    "check": "fewer data.workers, smaller images (data.max_pixels) or --fast need less",
    "bench": "a smaller --size or --scale needs less",
    "loss-plot": "--set data.short_side=N or fewer data.workers need less",
}


def show_version(wanted: bool) -> None:
    if wanted:
        from retinanet import __version__

        print(f"retina {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    try:
        os.getcwd()
    except FileNotFoundError:  # the libraries below torch would end the program in their own words
        fail("the working folder no longer exists; change to one that does", 1)


app.command(name="train", cls=ManyValues)(train_command)
app.command(name="eval", cls=ManyValues)(eval_command)
app.command(name="predict")(predict_command)
app.command(name="anchors", cls=ManyValues)(anchors_command)
app.command(name="loss-plot", cls=ManyValues)(loss_plot_command)
app.command(name="ablate", cls=ManyValues)(ablate_command)
app.command(name="import")(import_command)
app.command(name="export", cls=ManyValues)(export_command)
app.command(name="check", cls=ManyValues)(check_command)
app.command(name="config")(config_command)
app.command(name="init")(init_command)
app.command(name="bench", cls=ManyValues)(bench_command)


def main() -> None:
    """Run the command line. An error in a user's file gives one line and exit code 1, never a traceback."""
    from retinanet.errors import OtherProcessError, RetinaNetError, system_error
    from retinanet.messages import one_line

    prepare_streams()
    silence_libraries()
    collect_garbage_rarely()
    stdout = sys.stdout
    with lossy_stderr(), stoppable() as stop:
        try:
            try:
                app()
            finally:
                flush_output(stdout)
        except OtherProcessError:
            sys.exit(1)
        except RetinaNetError as error:
            end_children()
            fail(str(error), 1)
        except (KeyboardInterrupt, SystemExit) as error:  # typer turns an interrupt into an exit
            if isinstance(error, SystemExit) and not stop():
                raise
            fail(stop.name, stop.code)
        except Exception as error:
            end_children()
            if text := system_error(error, LESS_MEMORY.get("".join(sys.argv[1:2]), "end other programs")):
                fail(text, 1)
            if isinstance(error, OSError):
                reason = one_line(error, "a file cannot be read or written")
                fail(f"{error.filename}: {reason}" if error.filename else reason, 1)
            raise


def prepare_streams() -> None:
    """Open what the caller has closed of stdin, stdout and stderr, and let no character fail that cannot be encoded.

    A file that is opened later would otherwise take the place of a closed one, and receive its messages.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(lowest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence_libraries() -> None:
    """Keep the warnings of other packages from the terminal, unless python -W or PYTHONWARNINGS asks for them."""
    if not sys.warnoptions:
        warnings.showwarning = lambda *_, **__: None  # the filters stay, and with them those that raise
        logging.disable(logging.WARNING)


def collect_garbage_rarely() -> None:
    """Search less often for objects that only refer to each other, and not at all at exit.

    The libraries make 380,000 objects, which all stay. With Python's defaults, the search of them again and again takes
    1.3 of the 3.4 seconds of processor time for a prediction on one small image.
    """
    gc.set_threshold(50_000, 10, 10)
    atexit.register(gc.freeze)


class LossyStream:
    """A text stream that drops what its file does not take: nobody reads the pipe any more, or the disk is full."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def lossy_stderr() -> Iterator[None]:
    """Within the context, messages that cannot be written are dropped, so that they end no training."""
    before = sys.stderr
    if before is None:  # it was closed at the start
        yield
        return
    sys.stderr = cast(TextIO, LossyStream(before))
    try:
        yield
    finally:
        sys.stderr = before
        try:
            before.flush()
        except OSError:  # Python would try again at exit, and change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def flush_output(before: TextIO | None) -> None:
    """Write what stdout still holds, here, since at exit Python would complain of an error in its own words.

    before: sys.stdout at the start. Ends the program with 141 if the reader of a pipe has ended, and with 1 on another
    error, such as a full disk.
    """
    try:
        if sys.stdout is not before:  # typer replaces it after it has met a broken pipe
            raise BrokenPipeError
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        fail(f"standard output: {error.strerror}", 1)
