"""The training run: builds everything from a config, loops, and yields records of what happened."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retinanet.checkpoints import checkpoint
from retinanet.checkpoints.checkpoint import BEST, MODEL, Metadata
from retinanet.config.schema import Config, loss_settings
from retinanet.data.loader import Batch, train_loader
from retinanet.data.sampler import AspectRatioBatchSampler
from retinanet.data.transforms import Resizing, training_resizings
from retinanet.data.views import TrainSamples
from retinanet.devices import check_precision, describe_device, peak_memory, pick_device
from retinanet.evaluation.evaluate import evaluate
from retinanet.inference.torch_model import TorchModel
from retinanet.losses.criterion import Criterion, Targets, make_criterion
from retinanet.model.retinanet import Predictions, RetinaNet, make_model
from retinanet.training import resume as resumption
from retinanet.training import system_errors as mishaps
from retinanet.training.compilation import compile_network, compiling
from retinanet.training.events import Done, Event, Note, Plan, Progress, Stopped, Validation, step_record
from retinanet.training.optimizer import WeightAverage, lr_factor, make_optimizer
from retinanet.training.resume import LoadedCheckpoint, State, check_same, dataset_fingerprint
from retinanet.training.run_folder import LOG, RunFolder, check_begun, check_new, holds_checkpoint
from retinanet.training.setup import check_alpha, fine_tune, open_train_and_val
from retinanet.training.step_metrics import BatchMetrics, StepMetrics, Throughput

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    config: Config,
    output: str | Path,
    resume: bool = False,
    force: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train as `config` says into the folder `output`; the run happens as the records are drawn.

    Writes config.yaml, metrics.jsonl, curves.png, last.safetensors and, with data.val, best.safetensors.

    resume: continue the run in `output` from its newest checkpoint; what comes of it is what would have come without
        the pause, to the last bit. force: also under a config, or on data, that make it another run.
    stop: asked after each step, and after each image of an evaluation; once true, the run is saved and ends.
    Raises: ConfigError, DataError, CheckpointError for the user's files; TrainingError if the loss is not finite, the
        folder cannot be written, or memory runs out.
    """
    run = Run(config, Path(output), resume, force)
    with closing(run.folder), mishaps.told(run.output, lambda: run.folder.saved_step):
        yield from run.notes()
        yield run.plan()
        started = time.perf_counter()
        try:
            while not run.finished():
                yield from run.train_epoch(stop)
                if run.evaluates():
                    validation = run.validate(stop)
                    yield from (Note(text) for text in validation.evaluation.notes)
                    yield validation
                run.end_epoch()
        except StopAsked:
            run.save()
            yield Stopped(run.output, run.state.step)
            return
    s = run.state
    yield Done(run.output, s.step, time.perf_counter() - started, s.best, s.best_epoch, s.replaced)


class StopAsked(Exception):
    """`stop` was true; the run's state is that after a step."""


class Run:
    """A run's parts and its folder. Every method is one sentence of `train`."""

    def __init__(self, config: Config, output: Path, resume: bool, force: bool):
        self.config, self.output = config, output
        t = config.train
        self.device = pick_device(t.device)
        check_precision(t.precision, self.device)
        self.state = State()
        if resume:
            check_begun(output)
        else:
            check_new(output)
        self.messages: list[str] = []
        self.dataset, self.val = open_train_and_val(config, self.messages)
        torch.manual_seed(t.seed)
        self.model = self._build_model(fresh=not (resume and holds_checkpoint(output)))
        self.messages.extend(check_alpha(config.loss, len(self.dataset.classes)))
        self.criterion = make_criterion(config.loss, config.anchors)
        self.optimizer = make_optimizer(self.model, t)
        self.base_lr = self.optimizer.param_groups[0]["lr"]
        self.average = WeightAverage(self.model, t.ema) if t.ema else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=t.precision == "fp16")
        self.order = AspectRatioBatchSampler(self.dataset.sizes, t.batch_size, t.seed)
        self.steps_per_epoch = math.ceil(len(self.order) / t.accumulate)
        self.steps = t.steps or t.epochs * self.steps_per_epoch
        self.epochs = math.ceil(self.steps / self.steps_per_epoch)
        self.clock = Throughput()
        self.told: set[str] = set()  # images that cannot be read
        self.folder = RunFolder(output, resume)
        try:
            self._begin(resume, force)
        except BaseException:
            self.folder.close()
            raise

    def notes(self) -> Iterator[Note]:
        for message in self.messages:
            yield Note(message)

    def plan(self) -> Plan:
        return Plan(
            output=self.output,
            device=describe_device(self.device),
            train_images=len(self.dataset),
            val_images=len(self.val) if self.val is not None else 0,
            classes=self.dataset.classes,
            parameters=sum(p.numel() for p in self.model.parameters()),
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.order.batch_size,
            loss=self.config.loss.classification,
            loss_settings=loss_settings(self.config.loss),
            lr=self.base_lr,
            seconds=self._seconds_per_step() * (self.steps - self.state.step),
        )

    def finished(self) -> bool:
        """Whether the last epoch has ended, its evaluation and checkpoint included."""
        return self.state.batch == 0 and (self.state.epoch >= self.epochs or self.exhausted())

    def exhausted(self) -> bool:
        patience = self.config.train.patience
        return self.state.step >= self.steps or (patience is not None and self.state.stale >= patience)

    def train_epoch(self, stop: Callable[[], bool]) -> Iterator[Progress | Note]:
        """The rest of the current epoch. Raises: StopAsked."""
        t, state = self.config.train, self.state
        if state.step >= self.steps:  # a run that was stopped during its last evaluation
            return
        self.model.train()
        self.order.epoch, self.order.start = state.epoch, state.batch
        loader = train_loader(self._view(), self.order, self.config.data.workers, self.device.type == "cuda")
        self.clock.restart()
        pending: list[BatchMetrics] = []  # of the batches of this optimizer step
        taken: StepMetrics | None = None  # told one step later: the device is not waited for
        for batch in loader:
            yield from self._replaced(batch.faults)
            state.batch += 1
            parts = min(t.accumulate, len(pending) + 1 + len(self.order) - state.batch)
            losses, seen = self._losses(batch.to(self.device))
            if taken is not None:
                yield from self._tell(taken)
                taken = None
            self._backward(losses, parts)
            pending.append(seen)
            if len(pending) < parts:
                continue
            taken = self._step(pending)
            pending = []
            stopping = stop()
            if stopping or self.folder.is_due(state.step):
                yield from self._tell(taken)
                taken = None
                if stopping:
                    raise StopAsked
                self.save()
            if state.step >= self.steps:
                break
        if taken is not None:
            yield from self._tell(taken)

    def evaluates(self) -> bool:
        last = self.exhausted() or self.state.epoch + 1 == self.epochs
        return self.val is not None and (last or (self.state.epoch + 1) % self.config.train.eval_every == 0)

    def validate(self, stop: Callable[[], bool]) -> Validation:
        """Evaluate, with the averaged weights where there are any, and keep the best. Raises: StopAsked."""
        assert self.val is not None
        c, state = self.config, self.state
        model = self.model
        if self.average is not None:
            model = copy.deepcopy(self.model)
            model.load_state_dict(self.average.tensors)

        def progress(done: int, total: int) -> None:
            if stop():
                raise StopAsked

        # one image at a time, as `retina eval` does: other images' padding would change the last digits
        resizing = Resizing.from_config(c.data)
        evaluation = evaluate(
            TorchModel(model), self.val, resizing, c.detect, workers=c.data.workers, progress=progress
        )
        ap = state.last = evaluation.metrics["AP"]
        if state.best is None or ap > state.best:
            state.best, state.best_epoch, state.stale = ap, state.epoch + 1, 0
            self._save_best(model)
        else:
            state.stale += 1
        validation = Validation(state.epoch + 1, state.step, evaluation, state.best, state.best_epoch or 0)
        self.folder.log.write("eval", {"epoch": validation.epoch, "step": validation.step, **evaluation.metrics})
        return validation

    def end_epoch(self) -> None:
        """Move to the next epoch."""
        self.state.epoch, self.state.batch = self.state.epoch + 1, 0
        self.save()
        from retinanet.training.curves import training_curves

        training_curves(self.output / LOG, self.output / "curves.png")

    def save(self) -> None:
        """Write what a later process needs to continue. Raises: DivergenceError if a weight is not finite."""
        self.state.log_bytes = self.folder.log.sync()
        tensors, progress = resumption.pack(
            self.model, self.criterion, self.optimizer, self.average, self.scaler, self.state
        )
        self.folder.save(tensors, self._metadata(progress), self.state.step)

    def _build_model(self, fresh: bool) -> RetinaNet:
        c = self.config
        pretrained = c.model.pretrained and fresh and c.train.init is None
        model = make_model(c.model, c.anchors, len(self.dataset.classes), pretrained)
        if c.train.init is not None and fresh:
            self.messages.extend(fine_tune(model, c.train.init, self.dataset.classes))
        model = model.to(self.device).to(memory_format=torch.channels_last)
        if c.train.compile:
            compile_network(model)
        return model

    def _view(self) -> TrainSamples:
        c = self.config
        resizings = training_resizings(c.data, c.train.augment)
        return TrainSamples(self.dataset, resizings, c.train.augment, c.train.seed)

    def _forward(self, model: RetinaNet, batch: Batch) -> Predictions:
        with self._autocast(), compiling(self.config.train.compile):
            return model(batch.images, batch.sizes)

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], BatchMetrics]:
        """Losses "cls" and "box"."""
        predictions = self._forward(self.model, batch)
        targets = Targets(batch.boxes, batch.labels, batch.crowd)
        matched = self.criterion.match_anchors(predictions.anchors, targets)
        before = copy.copy(self.criterion)
        losses = self.criterion.losses(predictions, matched, targets)
        expected = torch.full_like(losses["cls"], math.nan)
        if self.state.step == 0:
            expected = expected_first_loss(before, predictions, matched, targets, self.config.model.prior)
        levels = matched.split([len(level) for level in predictions.anchors], dim=1)
        return losses, BatchMetrics.of(losses, expected, levels, batch)

    def _autocast(self):
        precision = self.config.train.precision
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[precision])

    def _backward(self, losses: dict[str, Tensor], parts: int) -> None:
        total = losses["cls"] + self.config.loss.box_weight * losses["box"]
        with compiling(self.config.train.compile):
            self.scaler.scale(total / parts).backward()

    def _step(self, seen: list[BatchMetrics]) -> StepMetrics:
        """One optimizer step after the backward passes of the batches `seen`."""
        t, state = self.config.train, self.state
        lr = self.base_lr * lr_factor(state.step, self.steps, t.schedule, t.milestones, t.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if t.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), t.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if self.average is not None:
            self.average.update(self.model)
        rate = self.clock.rate(sum(len(batch.samples) for batch in seen))
        return StepMetrics.of(seen, state.epoch + 1, state.step, lr, rate)

    def _tell(self, taken: StepMetrics) -> Iterator[Progress | Note]:
        """The records of a step. Raises: DivergenceError if a loss is not finite."""
        taken.wait()
        taken.check_finite()
        if taken.step == 1:
            yield taken.compare_first_loss(fresh=self.config.train.init is None)
        progress = self._progress(taken)
        if progress.logged:
            self.folder.log.write("step", step_record(progress))
        yield progress

    def _replaced(self, faults: list[str]) -> Iterator[Note]:
        """Each image that cannot be read is told once, and counted each time."""
        self.state.replaced += len(faults)
        for fault in faults:
            if fault not in self.told:
                self.told.add(fault)
                yield Note(f"{fault}; it is replaced by the next image")

    def _progress(self, taken: StepMetrics) -> Progress:
        t, step = self.config.train, taken.step
        cls, box = taken.losses()
        return Progress(
            epoch=taken.epoch,
            epochs=self.epochs,
            step=step,
            steps=self.steps,
            cls=cls,
            box=box,
            lr=taken.lr,
            images_per_second=taken.rate,
            memory=peak_memory(self.device),
            seconds_left=self.order.batch_size * t.accumulate * (self.steps - step) / taken.rate,
            foreground=taken.foreground(),
            logged=step % t.log_every == 0 or step in (1, self.steps),
            last_ap=self.state.last,
            best_ap=self.state.best,
        )

    def _seconds_per_step(self) -> float:
        """One step on a copy of the model, timed, after one to warm up; nothing of the run changes."""
        if self.state.step >= self.steps:
            return 0.0
        t = self.config.train
        self.order.epoch, self.order.start = self.state.epoch, 0
        batch = next(iter(train_loader(self._view(), self.order, 0))).to(self.device)
        twin, criterion = copy.deepcopy(self.model).train(), copy.copy(self.criterion)
        targets = Targets(batch.boxes, batch.labels, batch.crowd)
        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            losses = criterion(self._forward(twin, batch), targets)
            (losses["cls"] + losses["box"]).backward()
            seconds = time.perf_counter() - start
        return seconds * t.accumulate

    def _metadata(self, progress: dict[str, Any]) -> Metadata:
        return Metadata(self.config, self.dataset.classes, self.dataset.category_ids, progress)

    def _save_best(self, model: RetinaNet) -> None:
        progress = {"epoch": self.state.best_epoch, "step": self.state.step, "AP": self.state.best}
        tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
        checkpoint.save(self.output / BEST, tensors, self._metadata(progress))

    def _begin(self, resume: bool, force: bool) -> None:
        """From the folder's newest checkpoint; a run that was ended before its first one starts afresh."""
        data = dataset_fingerprint(self.dataset)
        saved = resumption.newest(self.output) if resume else None
        if saved is not None:
            self._restore(saved, data, force)
        elif resume:
            self.messages.append(f"{self.output}: holds no checkpoint yet; the run starts afresh")
        self.state.data = data
        self.folder.begin(self.config, None if saved is None else self.state.step, self.state.log_bytes)
        if self.folder.log.missing:
            path = self.folder.log.path
            self.messages.append(f"warning: {path}: its end is missing; the run goes on without those lines")

    def _restore(self, saved: LoadedCheckpoint, data: str, force: bool) -> None:
        for fault in saved.faults:
            self.messages.append(f"warning: {fault}; the run goes on from {saved.file.name}")
        self.messages.extend(check_same(saved, self.config, self.dataset.classes, data, force))
        self.state = resumption.unpack(saved, self.model, self.criterion, self.optimizer, self.average, self.scaler)


def expected_first_loss(
    criterion: Criterion, predictions: Predictions, matched: Tensor, targets: Targets, prior: float | None
) -> Tensor:
    """The classification loss of fresh subnets: every score is the prior and no box is moved.

    criterion: a copy. predictions: of the batch, for their shapes. matched: (B, R).
    """
    prior = prior or 0.5
    logits = [
        torch.full_like(level, math.log(prior / (1 - prior)), requires_grad=False) for level in predictions.logits
    ]
    deltas = [torch.zeros_like(level) for level in predictions.deltas]
    return criterion.losses(Predictions(logits, deltas, predictions.anchors), matched, targets)["cls"]
