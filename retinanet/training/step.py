"""One step of training: losses, backward pass, update of the weights and report."""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from retinanet.config.schema import TrainConfig
from retinanet.data.loader import Batch
from retinanet.devices import computing_in, peak_memory
from retinanet.distributed import reduces
from retinanet.errors import DivergenceError
from retinanet.losses.criterion import Criterion, Targets
from retinanet.model.retinanet import Predictions
from retinanet.training.compilation import compiling
from retinanet.training.events import Note, Progress
from retinanet.training.optimizer import lr_factor
from retinanet.training.run import Run
from retinanet.training.step_metrics import BOX, CLS, EXPECTED, FOREGROUND, BatchMetrics, StepMetrics

IN_LOG = ("epoch", "step", "cls", "box", "lr", "images_per_second", "memory", "foreground")  # of `Progress`


def forward(network: nn.Module, batch: Batch, train: TrainConfig) -> Predictions:
    """The forward pass, in the configured precision."""
    with computing_in(train.precision, batch.images.device), compiling(train.compile):
        return network(batch.images, batch.sizes)


def compute_losses(run: Run, batch: Batch, last: bool) -> tuple[dict[str, Tensor], BatchMetrics]:
    """The losses {"cls", "box"} of a batch, and its metrics over all processes.

    last: whether it is the last batch of the optimizer step, after which the processes share their gradients.
    """
    with reduces(run.network, last):
        predictions = forward(run.network, batch, run.config.train)
    targets = Targets(batch.boxes, batch.labels, batch.crowd)
    matched = run.criterion.match_anchors(predictions.anchors, targets)  # (B, R)
    expected = torch.full((), math.nan, device=matched.device)
    if run.state.step == 0:
        expected = expected_first_loss(run.criterion, predictions, matched, targets, run.config.model.prior)
    losses = run.criterion.losses(predictions, matched, targets, check_labels=False)
    levels = matched.split([len(level) for level in predictions.anchors], dim=1)
    numbers = losses["cls"], losses["box"], expected, *((level >= 0).sum() for level in levels)
    own = torch.stack([number.detach().float() for number in numbers])
    together = run.processes.sum(own)
    together[: FOREGROUND.start] /= run.processes.world
    return losses, BatchMetrics(together, own[:EXPECTED], batch.samples)


def expected_first_loss(
    criterion: Criterion, predictions: Predictions, matched: Tensor, targets: Targets, prior: float | None
) -> Tensor:
    """Scalar classification loss of untrained subnets, which score every anchor with the prior (paper, section 4.1).

    predictions: only their shapes matter. matched: (B, R). prior: None means 0.5.
    """
    prior = prior or 0.5
    logit = math.log(prior / (1 - prior))
    logits = [torch.full_like(level, logit, requires_grad=False) for level in predictions.logits]
    deltas = [torch.zeros_like(level) for level in predictions.deltas]
    fresh = Predictions(logits, deltas, predictions.anchors)
    # a copy, so that the state of the criterion stays
    return copy.copy(criterion).losses(fresh, matched, targets, check_labels=False)["cls"]


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
