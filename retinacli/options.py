"""Options that several commands share, and how a command ends."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as train.lr=0.005; repeatable.")
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Images at once.")]
SaveCoco = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the detections in COCO's results format.")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout and nothing else.")]


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, then exit `code`: 1 a file's fault, 2 usage, 130 interrupted."""
    from retinacli.render import shown

    print(f"retina: {shown(message)}", file=sys.stderr)
    raise SystemExit(code)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def show_version(asked: bool) -> None:
    if asked:
        from retinanet import __version__

        print(f"retina {__version__}")
        raise typer.Exit


def class_labels(names: Sequence[str] | None, classes: Sequence[str]) -> list[int] | None:
    """Labels of the classes asked for; None: all. A name may itself hold commas if it is a class as it stands."""
    if not names:
        return None
    wanted = [part for name in names for part in ([name] if name in classes else name.split(","))]
    labels = []
    for name in wanted:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, 1)
            hint = f"did you mean {near[0]}?" if near else f"the model knows {', '.join(classes[:10])}"
            fail(f"--classes: unknown class {name!r}; {hint}", 2)
        labels.append(classes.index(name))
    return labels
