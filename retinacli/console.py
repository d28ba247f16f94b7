"""What people see: tables on stdout, progress and messages on stderr."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from retinacli.stop_signals import Stop
from retinanet.messages import printable

if TYPE_CHECKING:
    from retinanet.evaluation.evaluate import Evaluation
    from retinanet.inference.predict import Prediction
    from retinanet.training import events as records

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def message(text: str) -> None:
    """One line on stderr."""
    err.print(Text(printable(text)), soft_wrap=True)


def table(title: str, *columns: str, text_columns: int = 1) -> Table:
    """A table whose first `text_columns` columns are text and the rest numbers."""
    made = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < text_columns else "right", overflow="fold")
    return made


def row(to: Table, *cells: object) -> None:
    to.add_row(*(Text(printable(cell)) for cell in cells))


def print_table(made: Table, width: int = 100) -> None:
    """In a pipe nothing is cut to a terminal's width, but to `width` letters."""
    if out.is_terminal:
        out.print(made)
    else:
        Console(highlight=False, width=max(width, out.width)).print(made)


@contextmanager
def counter(unit: str) -> Iterator[Any]:
    """A bar on a terminal, for work that tells how many of how many are done; silent elsewhere."""
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@dataclass
class TrainingOutcome:
    """The end of a run and its best evaluation of this process."""

    end: "records.Done | records.Stopped"
    best: "Evaluation | None"


def training(run: "Iterable[records.Event]", stop: Stop) -> TrainingOutcome:
    """Show a run while it goes: a live line on a terminal, one line per interval elsewhere. stop: what the run asks."""
    from retinanet.training import events as records

    best: Evaluation | None = None
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[tail]}"))
    hidden = not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None, tail="", visible=False)
        for record in run:
            match record:
                case records.Note():
                    message(record.text)
                case records.Plan():
                    message(_plan_line(record))
                    stop.waits = True
                case records.Progress():
                    head, tail = _progress_texts(record)
                    bar.update(
                        task, visible=True, description=head, tail=tail, completed=record.step, total=record.steps
                    )
                    if not err.is_terminal and (record.logged or record.step == 1):
                        message(f"{head} {tail}")
                case records.Validation():
                    if record.best_epoch == record.epoch:
                        best = record.evaluation
                    message(_validation_line(record))
                case records.Done() | records.Stopped():
                    end = record
    return TrainingOutcome(end, best)


def run_document(done: "records.Done", best: "Evaluation | None") -> dict[str, Any]:
    return {
        "run": str(done.output),
        "steps": done.steps,
        "seconds": round(done.seconds, 1),
        "best_epoch": done.best_epoch,
        "best": evaluation_document(best) if best else None,
        "replaced_images": done.replaced,
    }


def run_summary(done: "records.Done", best: "Evaluation | None") -> None:
    if best is not None:
        evaluation_tables(best)
    if done.replaced:
        message(f"warning: an image could not be read and the next one was taken; so often: {done.replaced}")
    message(f"done in {duration(done.seconds)}: {done.steps} steps; the run is in {done.output}")
    message(f"use it: retina predict IMAGE --vis -w {done.output}")


def _plan_line(plan: "records.Plan") -> str:
    val = f", {plan.val_images} to evaluate on" if plan.val_images else ""
    return (
        f"{plan.train_images} images of {len(plan.classes)} classes{val}; {plan.parameters / 1e6:.1f} million weights; "
        f"{plan.epochs} epochs, {plan.steps} steps of {plan.batch_size} images at learning rate {plan.lr:g}; "
        f"loss {loss_name(plan.loss, plan.loss_settings)}; "
        f"{plan.device}; about {duration(plan.seconds)} without evaluations; writes {plan.output}"
    )


def loss_name(classification: str, settings: dict[str, Any]) -> str:
    """Such as "focal (gamma 2, alpha 0.25)"."""
    values = (f"{name} {list(value) if isinstance(value, tuple) else f'{value:g}'}" for name, value in settings.items())
    return f"{classification} ({', '.join(values)})" if settings else classification


def _progress_texts(p: "records.Progress") -> tuple[str, str]:
    head = f"epoch {p.epoch}/{p.epochs} step {p.step}/{p.steps}"
    ap = f" AP {p.last_ap:.3f} best {p.best_ap:.3f}" if p.best_ap is not None else ""
    tail = (
        f"cls {p.cls:.3f} box {p.box:.3f} lr {p.lr:.2g} {p.images_per_second:.1f} images/s "
        f"{p.memory / 2**30:.1f} GiB{ap} {duration(p.seconds_left)} left"
    )
    return head, tail


def _validation_line(v: "records.Validation") -> str:
    m = v.evaluation.metrics
    return f"epoch {v.epoch}: AP {m['AP']:.4f} AP50 {m['AP50']:.4f}; best AP {v.best:.4f} at epoch {v.best_epoch}"


def evaluation_document(evaluation: "Evaluation") -> dict[str, Any]:
    return {"metrics": evaluation.metrics, "per_class": [vars(item) for item in evaluation.per_class]}


def evaluation_tables(evaluation: "Evaluation") -> None:
    from retinanet.evaluation.coco_metrics import METRICS

    per_class = table("Per class", "class", "AP", "AP50", "objects")
    for item in evaluation.per_class:
        row(per_class, item.label, _ap(item.AP), _ap(item.AP50), item.objects)
    print_table(per_class)
    metrics = table("COCO metrics", "metric", "", "value", text_columns=2)
    for name, value in evaluation.metrics.items():
        row(metrics, name, METRICS[name], _ap(value))
    print_table(metrics)


def _ap(value: float) -> str:
    return "\u2013" if value < 0 else f"{value:.4f}"


def predictions(found: "Iterable[Prediction]", total: int) -> "list[Prediction]":
    """All of them, without pixels; a bar while they come, and a line for each file that cannot be read."""
    kept = []
    with counter("images") as progress:
        for item in found:
            if item.fault is not None:
                message(item.fault)
            kept.append(replace(item, image=None))
            progress(len(kept), total)
    return kept


def prediction_table(found: "list[Prediction]", classes: Sequence[str]) -> None:
    made = table("Detections", "file", "class", "score", "x1", "y1", "x2", "y2", text_columns=2)
    for item in found:
        if item.fault is not None:
            continue
        d = item.detections
        file: object = item.file
        if not len(d):
            row(made, file, "nothing found", "", "", "", "", "")
        for label, score, box in zip(d.labels, d.scores, d.boxes, strict=True):
            row(made, file, classes[label], f"{score:.3f}", *(f"{x:.1f}" for x in box))
            file = ""
        made.add_section()
    print_table(made)


def duration(seconds: float) -> str:
    """Such as "3 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"
    return f"{round(seconds / 60)} min" if seconds >= 90 else f"{seconds:.0f} s"
