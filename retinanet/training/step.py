"""One step of training: losses, backward pass, update of the weights and report."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from retinanet.data.loader import Batch
from retinanet.devices import computing_in, peak_memory
from retinanet.distributed import reduces
from retinanet.errors import DivergenceError
from retinanet.training.compilation import compiling
from retinanet.training.events import Note, Progress
from retinanet.training.optimizer import lr_factor
from retinanet.training.run import Run
from retinanet.training.step_metrics import BOX, CLS, EXPECTED, FOREGROUND, BatchMetrics, StepMetrics

IN_LOG = ("epoch", "step", "cls", "box", "lr", "images_per_second", "memory", "foreground")  # of `Progress`


def forward(run: Run, last: bool, *inputs: Any) -> Any:
    """The forward pass of the network, in the configured precision.

    last: whether it is for the last batch of the optimizer step, after which the processes share their gradients.
    """
    t = run.config.train
    with reduces(run.network, last), computing_in(t.precision, run.device), compiling(t.compile):
        return run.network(*inputs)


def compute_losses(run: Run, batch: Batch, last: bool) -> tuple[dict[str, Tensor], BatchMetrics]:
    """The losses {"cls", "box"} of a batch, and its metrics over all processes. last: as in `forward`."""
    found = run.method.losses(partial(forward, run, last), batch, run.state.step == 0)
    numbers = found.losses["cls"], found.losses["box"], found.expected, *found.foreground
    own = torch.stack([number.detach().float() for number in numbers])
    together = run.processes.sum(own)
    together[: FOREGROUND.start] /= run.processes.world
    return found.losses, BatchMetrics(together, own[:EXPECTED], batch.samples)


def backward(run: Run, losses: dict[str, Tensor], parts: int) -> None:
    """Accumulate the gradients of a batch, one of the `parts` batches of an optimizer step."""
    total = losses["cls"] + run.config.loss.box_weight * losses["box"]
    with compiling(run.config.train.compile):
        run.scaler.scale(total / parts).backward()


def optimizer_step(run: Run, batches: list[BatchMetrics]) -> StepMetrics:
    """Update the weights after the backward passes of these batches."""
    t, state = run.config.train, run.state
    lr = run.learning_rate * lr_factor(state.step, run.steps, t.schedule, t.milestones, t.warmup_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    if t.clip_norm is not None:
        run.scaler.unscale_(run.optimizer)
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), t.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if run.average is not None:
        run.average.update(run.model)
    rate = run.throughput.rate(run.processes.world * sum(len(batch.samples) for batch in batches))
    return StepMetrics(batches, state.epoch + 1, state.step, lr, rate)


def report_step(run: Run, step: StepMetrics) -> Iterator[Progress | Note]:
    """Log and report the numbers of a step. Raises: DivergenceError if a loss is not finite."""
    step.wait()
    if not step.is_finite():
        faults = filter(None, run.processes.gather(step.images_without_finite_loss()))
        raise DivergenceError(f"step {step.step}: the loss is not finite {'; '.join(faults)}", step.step)
    if step.step == 1:
        yield Note(step.compare_first_loss(fresh=run.config.train.init is None))
    t = run.config.train
    cls, box = step.numbers[:, [CLS, BOX]].mean(dim=0).tolist()  # each the mean over the batches
    progress = Progress(
        epoch=step.epoch,
        epochs=run.epochs,
        step=step.step,
        steps=run.steps,
        cls=cls,
        box=box,
        lr=step.lr,
        images_per_second=step.rate,
        memory=peak_memory(run.device),
        seconds_left=run.images_per_step * (run.steps - step.step) / step.rate,
        foreground=step.foreground(),
        logged=step.step % t.log_every == 0 or step.step in (1, run.steps),
        last_ap=run.state.last,
        best_ap=run.state.best,
    )
    if progress.logged:
        run.folder.write_log("step", {name: getattr(progress, name) for name in IN_LOG})
    yield progress
