"""The paper's ablations on other data: a run for each loss, anchor set or prior (paper, section 5)."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from retinanet.config.parsing import changes, config_from_dict
from retinanet.config.schema import Config
from retinanet.devices import pick_device
from retinanet.errors import CheckpointError, ConfigError, DivergenceError
from retinanet.io.atomic import write_text
from retinanet.io.safe_yaml import read_mapping
from retinanet.io.size_limits import read_bytes
from retinanet.paper.baseline_method import BaselineMethod
from retinanet.paper.tables import METRICS, PAPER, TABLES, Row
from retinanet.precision import fastest_precision
from retinanet.training.events import Event, Progress
from retinanet.training.method import Method, RetinaNetMethod
from retinanet.training.run_folder import CONFIG, LOG, read_log
from retinanet.training.train import training_events

T = TypeVar("T")
MAX_BYTES = 100_000_000  # of a file of results; a row has about 500
RESULT, SECONDS = "result.json", "training_seconds"  # a file, and one of its numbers
# they change no result, or are filled in by the run
MAY_DIFFER = ("train.device", "train.log_every", "train.checkpoint_every", "data.workers", "data.val.fingerprint")

ShowRun = Callable[[Row, int, Iterable[Event]], object]  # gets a run's row, seed and events


@dataclass(frozen=True)
class Outcome:
    """The results of a row.

    runs: one for each seed: {"seed", "steps", "first_loss", "AP", "AP50", "AP75", "diverged_at"}. "first_loss": the
        classification loss of the first step, None if it was not finite. The APs are in 0..1, None if the run diverged
        or data.val has no objects; "diverged_at": step of the first loss that was not finite, or None.
    mean, spread: mean and standard deviation of the runs that have an AP, by metric; None for too few of them.
    paper: the paper's numbers on COCO, in percent; None for a number that it does not give.
    """

    table: str
    value: str
    data: str
    runs: list[dict[str, Any]]
    mean: dict[str, float | None]
    spread: dict[str, float | None]
    paper: dict[str, float | None]


def ablate(
    rows: Sequence[Row],
    output: Path,
    seeds: int = 1,
    show: ShowRun = lambda row, seed, events: deque(events, maxlen=0),
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """Train each row with `seeds` seeds, from the config's seed upwards, and yield its results.

    Each run has its own folder in `output`; runs that are finished there are not repeated. A run that diverges is a
    result too. Where train.precision is auto, all runs in `output` train in the same precision.

    Args:
        show: must iterate over all events of the run, since the run advances with them. stop: see `train`; once it
            returns True, no more results follow, and the same call continues later.
    Raises: ConfigError without data.val; CheckpointError if a run's folder belongs to another config; see also `train`.
    """
    for row in _in_one_precision(rows, output, seeds):
        runs = []
        for seed in seeds_of(row, seeds):
            run = _run(row, output, seed, show, stop)
            if run is None:
                return
            runs.append(run)
        known = {name: [run[name] for run in runs if run[name] is not None] for name in METRICS}
        yield Outcome(
            table=row.table,
            value=row.value,
            data=data_name(row.config),
            runs=runs,
            mean={name: mean(values) if values else None for name, values in known.items()},
            spread={name: stdev(values) if len(values) > 1 else None for name, values in known.items()},
            paper=dict(zip(METRICS, PAPER[row.table].get(row.value, (None,) * 3), strict=True)),
        )


def _in_one_precision(rows: Sequence[Row], output: Path, seeds: int) -> Sequence[Row]:
    """`rows` with the precision of a run that has begun in `output` in place of auto, or else the fastest one."""
    first = rows[0].config
    if first.train.precision != "auto":
        return rows
    files = (run_folder(row, output, seed) / CONFIG for row in rows for seed in seeds_of(row, seeds))
    begun = next((_read_config(file).train.precision for file in files if file.exists()), None)
    precision = begun or fastest_precision(pick_device(first.train.device), first.model.head_channels, backward=True)
    return [
        replace(row, config=replace(row.config, train=replace(row.config.train, precision=precision))) for row in rows
    ]


def merge(outcomes: Sequence[Outcome], file: Path) -> list[Outcome]:
    """Write `outcomes` to `file` as JSON, together with the results of other rows that it contains already."""
    known = _read(file, "a table of results", _parse_outcomes) if file.exists() else {}
    known |= {(item.table, item.value): item for item in outcomes}
    merged = sorted(known.values(), key=lambda item: list(TABLES).index(item.table))
    write_text(file, json.dumps({"rows": [asdict(item) for item in merged]}, indent=1) + "\n")
    return merged


def _run(row: Row, output: Path, seed: int, show: ShowRun, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Train one row with one seed, or read its result if it is finished. None: stopped."""
    config, folder = run_config(row, seed), run_folder(row, output, seed)
    if not config.data.has_val:
        raise ConfigError("data.val is not set; an ablation needs validation data")
    begun = (folder / CONFIG).exists()
    if begun:
        _check_config(folder, config)
    if (folder / RESULT).exists():
        return _read(folder / RESULT, "a run's result", _parse_result)
    result: dict[str, Any] = {"seed": seed, "steps": None, **dict.fromkeys(METRICS), "diverged_at": None}
    times: list[float] = []
    try:
        events = training_events(config, folder, resume=begun, stop=stop, make_method=method_of(row))
        show(row, seed, _timed(events, times))
        if stop():
            return None
        log, _ = read_log(folder / LOG)
        evaluation = next((entry for entry in reversed(log) if entry["kind"] == "eval"), None)
        if evaluation is None:
            raise CheckpointError(f"{folder / LOG}: has no evaluation; remove {folder} to have this row trained again")
        result |= {"steps": evaluation["step"], **{name: evaluation[name] for name in METRICS}}
    except DivergenceError as error:
        log, _ = read_log(folder / LOG)
        result |= {"steps": error.step, "diverged_at": error.step}
    losses = (entry.get("cls") for entry in log if (entry["kind"], entry["step"]) == ("step", 1))
    result["first_loss"] = next(losses, None)
    write_text(folder / RESULT, json.dumps(result | {SECONDS: _seconds(times, result["steps"])}) + "\n")
    return result


def seeds_of(row: Row, seeds: int) -> range:
    """The seeds of the `seeds` runs of a row, from the config's upwards."""
    first = row.config.train.seed
    return range(first, first + seeds)


def method_of(row: Row) -> Callable[[Config], Method]:
    """How the detector of a row is trained."""
    return RetinaNetMethod if row.detector == "retinanet" else partial(BaselineMethod, row.detector)


def data_name(config: Config) -> str:
    """The name of the data set: its folder's, or its own if it is embedded."""
    return config.data.embedded or Path(config.data.root).name


def run_config(row: Row, seed: int) -> Config:
    """The config of a run, with one evaluation at its end: rows are compared after equally many steps."""
    return replace(row.config, train=replace(row.config.train, seed=seed, eval_every=100_000, patience=None))


def run_folder(row: Row, output: Path, seed: int) -> Path:
    """The folder of a run in that of an ablation."""
    return output / f"{row.folder}-seed{seed}"


def training_seconds(folder: Path) -> float | None:
    """How long the steps of a finished run took; None if that is not known. Raises: CheckpointError."""
    return _read(folder / RESULT, "a run's result", lambda document: document.get(SECONDS))


def _timed(events: Iterable[Event], times: list[float]) -> Iterator[Event]:
    """The events; adds the time of each step to `times`, in seconds since some moment."""
    for event in events:
        if isinstance(event, Progress):
            times.append(time.perf_counter())
        yield event


def _seconds(times: Sequence[float], steps: int) -> float | None:
    """How long `steps` steps take, by the times of those since the run was last started; None for fewer than two."""
    return (times[-1] - times[0]) / (len(times) - 1) * steps if len(times) > 1 else None


def _read(file: Path, kind: str, parse: Callable[[Any], T]) -> T:
    """The JSON of `file`, parsed by `parse`. Raises: CheckpointError if it is not `kind`."""
    content = read_bytes(file, MAX_BYTES, CheckpointError)
    try:
        return parse(json.loads(content))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise CheckpointError(f"{file}: is not {kind}; remove it to have it written again") from None


def _parse_outcomes(document: Any) -> dict[tuple[str, str], Outcome]:
    """Outcomes by table and value. Raises: LookupError, TypeError."""
    outcomes = [Outcome(**item) for item in document["rows"]]
    for item in outcomes:
        if item.table not in TABLES:
            raise LookupError
        for values in (item.mean, item.spread, item.paper):
            _check_numbers(values)
    return {(item.table, item.value): item for item in outcomes}


def _parse_result(document: Any) -> dict[str, Any]:
    """Raises: LookupError, TypeError."""
    _check_numbers(document)
    result = {name: document[name] for name in ("seed", "steps", *METRICS, "diverged_at")}
    first = document.get("first_loss")  # earlier versions did not keep it
    return result | {"first_loss": None if first is None else float(first)}


def _check_numbers(values: Any) -> None:
    sum(values[name] or 0 for name in METRICS)


def _read_config(file: Path) -> Config:
    return config_from_dict(read_mapping(file, "data, model, train, ..."), str(file))


def _check_config(folder: Path, config: Config) -> None:
    """Raises: CheckpointError if the run in `folder` has another config.

    Stricter than the check of `train` on resuming: a result also depends on the number of steps.
    """
    before = _read_config(folder / CONFIG)
    if differ := [text for key, text in changes(before, config).items() if key not in MAY_DIFFER]:
        raise CheckpointError(
            f"{folder}: contains a run with another config: {'; '.join(differ[:5])}; choose another folder with -o"
        )
