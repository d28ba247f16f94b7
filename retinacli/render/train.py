"""Shows the progress and the result of a training run."""

import shlex
from collections.abc import Iterable
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn

from retinacli.console import err, message, print_json
from retinacli.render.evaluate import ap_text, metrics_document, metrics_tables
from retinacli.stop_signals import Stop
from retinanet.dataset_analysis.findings import counted
from retinanet.evaluation.evaluate import Evaluation
from retinanet.training import events

ROOM_FOR_BAR = 100  # columns of the terminal


def show_training(run: Iterable[events.Event], stop: Stop) -> tuple[events.Done | events.Stopped, Evaluation | None]:
    """Show a running training: one live line on a terminal, one line per logged step elsewhere.

    stop: polled by the run after its plan. Returns: the last event, and the best evaluation of this process.
    """
    best: Evaluation | None = None
    bar_width = 20 if err.width >= ROOM_FOR_BAR else 0
    middle = [BarColumn(bar_width)] if bar_width else []
    columns = (TextColumn("{task.description}"), *middle, TextColumn("{task.fields[tail]}"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None, tail="", visible=False)
        for event in run:
            match event:
                case events.Note():
                    message(event.text)
                case events.Plan():
                    message(_plan_line(event))
                    if event.advice:
                        message(event.advice)
                    stop.polled = True
                case events.Progress():
                    head, tail = _progress_texts(event, err.width - bar_width - 2 if err.is_terminal else None)
                    bar.update(task, visible=True, description=head, tail=tail, completed=event.step, total=event.steps)
                    if not err.is_terminal and (event.logged or event.step == 1):
                        message(f"{head} {tail}")
                case events.Validation():
                    if event.best_epoch in (event.epoch, None):
                        best = event.evaluation
                    message(_validation_line(event))
                case events.Done() | events.Stopped():
                    end = event
    return end, best


def show_result(done: events.Done, best: Evaluation | None, as_json: bool) -> None:
    if as_json:
        document = {"run": str(done.output), "steps": done.steps, "seconds": round(done.seconds, 1)}
        document |= {"best_epoch": done.best_epoch, "best": best and metrics_document(best)}
        print_json(document | {"replaced_images": done.replaced})
        return
    if best is not None:
        metrics_tables(best)
    if done.replaced:
        message(f"warning: number of unreadable images that were replaced by the next one: {done.replaced}")
    message(f"done in {duration(done.seconds)}: {done.steps} steps; the run is in {done.output}")
    message(f"use it: {shlex.join(['retina', 'predict', 'IMAGE', '--vis', '-w', str(done.output)])}")


def _plan_line(plan: events.Plan) -> str:
    processes = f", {plan.processes} processes" if plan.processes > 1 else ""
    validation = f", {counted(plan.val_images, 'validation image')}" if plan.val_images else ""
    return (
        f"{counted(plan.train_images, 'training image')} of {counted(len(plan.classes), 'class')}{validation}; "
        f"{plan.parameters / 1e6:.1f} million parameters; "
        f"{counted(plan.epochs, 'epoch')}, {counted(plan.steps, 'step')} of {counted(plan.batch_size, 'image')} "
        f"at learning rate {plan.lr:g}; "
        f"loss {_loss_name(plan.loss, plan.loss_settings)}; {plan.device}{processes}, in {plan.precision}; "
        f"about {duration(plan.seconds)} without evaluations; writes to {plan.output}"
    )


def _loss_name(classification: str, settings: dict[str, Any]) -> str:
    """Such as "focal (gamma 2, alpha 0.25)"."""
    values = (f"{name} {list(value) if isinstance(value, tuple) else f'{value:g}'}" for name, value in settings.items())
    return f"{classification} ({', '.join(values)})" if settings else classification


def _progress_texts(p: events.Progress, room: int | None = None) -> tuple[str, str]:
    """The text before and after the bar. room: characters for both; what does not fit is left out, but for the losses.

    None: no limit.
    """
    head = f"epoch {p.epoch}/{p.epochs} step {p.step}/{p.steps}"
    ap = f"AP {p.last_ap:.3f} best {p.best_ap:.3f}" if p.last_ap is not None and p.best_ap is not None else ""
    memory, speed = f"{p.memory / 2**30:.1f} GiB", f"{p.images_per_second:.1f} images/s"
    parts = [
        f"cls {p.cls:.3f} box {p.box:.3f}",
        f"lr {p.lr:.2g}",
        speed,
        memory,
        ap,
        f"{duration(p.seconds_left)} left",
    ]
    for part in (memory, parts[1], speed, ap):
        if room is not None and len(" ".join([head, *filter(None, parts)])) > room:
            parts.remove(part)
    return head, " ".join(filter(None, parts))


def _validation_line(v: events.Validation) -> str:
    m = v.evaluation.metrics
    best = "no best" if v.best is None else f"best AP {v.best:.4f} at epoch {v.best_epoch}"
    return f"epoch {v.epoch}: AP {ap_text(m['AP'])} AP50 {ap_text(m['AP50'])}; {best}"


def duration(seconds: float) -> str:
    """Such as "3 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"
    return f"{round(seconds / 60)} min" if seconds >= 90 else f"{seconds:.0f} s"
