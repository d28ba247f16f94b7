"""The training loop: start a run, train and evaluate epoch by epoch, report each event."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from torch import nn

from retinanet.checkpoints.checkpoint import MODEL
from retinanet.config.schema import Config
from retinanet.config_file import load_config
from retinanet.data.transforms import Resizing
from retinanet.devices import deterministic
from retinanet.distributed import joined
from retinanet.evaluation.coco_metrics import measured
from retinanet.evaluation.evaluate import evaluate_model
from retinanet.training.batches import load_batches
from retinanet.training.events import Done, Event, Note, Progress, Stopped, Validation
from retinanet.training.method import Method, RetinaNetMethod
from retinanet.training.plan import make_plan
from retinanet.training.process_state import with_own_state
from retinanet.training.resume import pack
from retinanet.training.run import Run
from retinanet.training.run_folder import CURVES, LOG
from retinanet.training.setup import start_run
from retinanet.training.step import backward, compute_losses, optimizer_step, report_step
from retinanet.training.step_metrics import BatchMetrics, StepMetrics
from retinanet.training.system_errors import system_errors_in_one_line


def train(config: Config | str | Path, output: str | Path, resume: bool = False, force: bool = False) -> Done:
    """Train a detector to the end, in the folder `output`, and return how the run ended.

    Arguments, files and errors: see `training_events`, which reports on the way.
    """
    (end,) = deque(training_events(config, output, resume, force), maxlen=1)
    assert isinstance(end, Done)
    return end


@with_own_state
def training_events(
    config: Config | str | Path,
    output: str | Path,
    resume: bool = False,
    force: bool = False,
    stop: Callable[[], bool] = lambda: False,
    make_method: Callable[[Config], Method] = RetinaNetMethod,
) -> Iterator[Event]:
    """Train a detector in the folder `output`; the run advances as its events are read from this generator.

    Writes config.yaml, metrics.jsonl, curves.png, last.safetensors and, with data.val, best.safetensors.

    Args:
        config: a config, or the path of its YAML file.
        resume: continue from the newest checkpoint in `output`, with a result equal to that of an uninterrupted run: on
            a CPU to the last bit, on a GPU with `train.deterministic`.
        force: resume even if the config or the data have changed.
        stop: called after each step and each evaluated image; True saves the run and ends it with `Stopped`.
        make_method: the kind of detector that the config describes.
    Raises: ConfigError, DataError, CheckpointError for errors in the user's files; TrainingError if the loss is not
        finite, the folder cannot be written, or memory runs out.
    """
    if not isinstance(config, Config):
        config = load_config(config)
    with joined():
        run = start_run(config, Path(output), resume, force, make_method)
        same = deterministic(config.train.deterministic)
        with closing(run.folder), system_errors_in_one_line(run), same:
            yield from map(Note, run.notes)
            yield make_plan(run)
            started = time.perf_counter()
            try:
                while not run.finished():
                    yield from train_one_epoch(run, stop)
                    if run.evaluates_now():
                        save_step(run)  # so that an evaluation that fails loses no step
                        yield from validate(run, stop)
                    end_epoch(run)
            except StopRequested:
                save_step(run)
                yield Stopped(run.folder.path, run.state.step)
                return
    s = run.state
    yield Done(run.folder.path, s.step, time.perf_counter() - started, s.best, s.best_epoch, s.replaced)


class StopRequested(Exception):
    """`stop` returned True; the run is in the state after the last step."""


def train_one_epoch(run: Run, stop: Callable[[], bool]) -> Iterator[Progress | Note]:
    """Train the rest of the current epoch. Raises: StopRequested."""
    accumulate, state, sampler = run.config.train.accumulate, run.state, run.sampler
    if state.step >= run.steps:  # resumed after a stop during the last evaluation
        return
    run.model.train()
    sampler.epoch, sampler.start = state.epoch, state.batch
    run.throughput.restart()
    batches: list[BatchMetrics] = []  # of the current optimizer step
    steps: list[StepMetrics] = []  # to report: at most one, while the next is computed
    for batch in load_batches(run, run.loader):
        yield from report_faults(run, batch.faults)
        state.batch += 1
        parts = min(accumulate, len(batches) + 1 + len(sampler) - state.batch)
        losses, metrics = compute_losses(run, batch, len(batches) + 1 == parts)
        yield from report_steps(run, steps)
        backward(run, losses, parts)
        batches.append(metrics)
        if len(batches) < parts:
            continue
        steps.append(optimizer_step(run, batches))
        batches = []
        stopping, due = run.processes.largest(stop(), run.folder.is_due(state.step))
        if stopping or due:
            yield from report_steps(run, steps)
            if stopping:
                raise StopRequested
            save_checkpoint(run)
        if state.step >= run.steps:
            break
    yield from report_steps(run, steps)


def report_steps(run: Run, steps: list[StepMetrics]) -> Iterator[Progress | Note]:
    """Report the steps and empty the list."""
    while steps:
        yield from report_step(run, steps.pop())


def report_faults(run: Run, faults: list[str]) -> Iterator[Note]:
    """Count every failure to read an image, but report each image only once."""
    run.state.replaced += len(faults)
    for fault in faults:
        if fault not in run.reported_faults:
            run.reported_faults.add(fault)
            yield Note(f"{fault}; it is replaced by the next image")


def validate(run: Run, stop: Callable[[], bool]) -> Iterator[Note | Validation]:
    """Evaluate the averaged weights, if any, on data.val, and save the best.

    Raises: StopRequested; DivergenceError if a weight is not finite.
    """
    assert run.val is not None
    state, data = run.state, run.config.data
    model = run.model if run.average is None else run.average.model

    def progress(done: int, total: int) -> None:
        if run.processes.announced(stop()):
            raise StopRequested

    # one image at a time like `retina eval`: padding in a batch would change the last digits
    evaluation = evaluate_model(
        run.method.for_evaluation(model),
        run.val,
        Resizing.from_config(data),
        run.config.detect,
        workers=data.workers,
        progress=progress,
    )
    ap = evaluation.metrics["AP"]
    if ap < 0:  # no objects to detect, so that no weights are the best
        state.last = None
    elif state.best is None or ap > state.best:
        state.last = state.best = ap
        state.best_epoch, state.stale = state.epoch + 1, 0
        save_best(run, model)
    else:
        state.last, state.stale = ap, state.stale + 1
    validation = Validation(state.epoch + 1, state.step, evaluation, state.best, state.best_epoch)
    metrics = {name: measured(value) for name, value in evaluation.metrics.items()}
    run.folder.write_log("eval", {"epoch": validation.epoch, "step": validation.step, **metrics})
    yield from map(Note, evaluation.notes)
    yield validation


def end_epoch(run: Run) -> None:
    """Advance to the next epoch, save a checkpoint and plot the curves."""
    run.state.epoch, run.state.batch = run.state.epoch + 1, 0
    save_checkpoint(run)
    from retinanet.training.curves import training_curves  # here, since matplotlib loads slowly

    run.processes.first(lambda: training_curves(run.folder.path / LOG, run.folder.path / CURVES))


def save_checkpoint(run: Run) -> None:
    """Save everything needed to resume. Raises: DivergenceError if a weight is not finite."""
    run.state.log_bytes = run.processes.together(run.folder.sync_log)
    tensors, progress = pack(run)
    run.processes.together(lambda: run.folder.save(tensors, run.metadata(progress), run.state.step))


def save_step(run: Run) -> None:
    """Save a checkpoint unless there is one of this step. Raises: see `save_checkpoint`."""
    if run.folder.saved_step != run.state.step:
        save_checkpoint(run)


def save_best(run: Run, model: nn.Module) -> None:
    """Save the evaluated weights."""
    progress = {"epoch": run.state.best_epoch, "step": run.state.step, "AP": run.state.best}
    tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
    run.processes.together(lambda: run.folder.save_best(tensors, run.metadata(progress), run.state.step))
