"""The paper's ablations on other data: one training, repeated under each loss, anchor set or prior (paper, section 5)."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from retinanet.config.parsing import changes, config_from_dict
from retinanet.config.schema import Config
from retinanet.errors import CheckpointError, ConfigError, DivergenceError
from retinanet.io.atomic import write_text
from retinanet.io.safe_yaml import read_mapping
from retinanet.io.size_limits import read_bytes
from retinanet.paper.tables import METRICS, PAPER, TABLES, Row
from retinanet.training.events import Event
from retinanet.training.run_folder import LOG
from retinanet.training.train import train

T = TypeVar("T")
MAX_BYTES = 100_000_000  # of results; a row has some 500
RESULT = "result.json"


@dataclass(frozen=True)
class Outcome:
    """A finished row.

    runs: one for each seed: {"seed", "steps", "AP", "AP50", "AP75", "diverged_at"}, 0 to 1, None where it diverged.
    mean, spread: of the runs that did not diverge; spread is the standard deviation, None for a single run.
    paper: what the paper has on COCO, in percent; None where it has nothing.
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
    show: Callable[[Row, int, Iterable[Event]], object] = lambda row, seed, records: deque(records, maxlen=0),
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """Train each row with each of `seeds` seeds, counted from its own, all else equal; what is finished is not repeated.

    A run whose loss is not finite is a result. Runs lie in folders of their own below `output`, which may hold those of
    earlier calls. show: is given each run's row, seed and records, and draws them all. stop: as `train` takes it; the
    same call continues.

    Raises: ConfigError without data.val; CheckpointError if a folder was run with another config; else as `train`.
    """
    for row in rows:
        first = row.config.train.seed
        runs = []
        for seed in range(first, first + seeds):
            run = _run(row, output, seed, show, stop)
            if run is None:
                return
            runs.append(run)
        finished = [run for run in runs if run["diverged_at"] is None]
        data = row.config.data
        yield Outcome(
            table=row.table,
            value=row.value,
            data=data.embedded or Path(data.root).name,
            runs=runs,
            mean={name: mean(run[name] for run in finished) if finished else None for name in METRICS},
            spread={name: stdev(run[name] for run in finished) if len(finished) > 1 else None for name in METRICS},
            paper=dict(zip(METRICS, PAPER[row.table].get(row.value, (None,) * 3), strict=True)),
        )


def merge(outcomes: Sequence[Outcome], file: Path) -> list[Outcome]:
    """`outcomes`, and those that `file` already holds of other rows; all are written to it as JSON."""
    known = _held(file, "a table of results", _outcomes) if file.exists() else {}
    known |= {(item.table, item.value): item for item in outcomes}
    merged = sorted(known.values(), key=lambda item: list(TABLES).index(item.table))
    write_text(file, json.dumps({"rows": [asdict(item) for item in merged]}, indent=1) + "\n")
    return merged


def _run(
    row: Row,
    output: Path,
    seed: int,
    show: Callable[[Row, int, Iterable[Event]], object],
    stop: Callable[[], bool],
) -> dict[str, Any] | None:
    """Train one row with one seed, or read what came of it. None: stopped."""
    # evaluated once, at the end: of the equal number of steps, not of the best epoch
    settings = replace(row.config.train, seed=seed, eval_every=100_000, patience=None)
    config = replace(row.config, train=settings)
    if not config.data.has_val:
        raise ConfigError("data.val is not set; an ablation needs data to evaluate on")
    folder = output / f"{row.folder}-seed{seed}"
    _check_same(folder, config)
    if (folder / RESULT).exists():
        return _held(folder / RESULT, "a run's result", _result)
    result: dict[str, Any] = {"seed": seed, "steps": None, **dict.fromkeys(METRICS), "diverged_at": None}
    try:
        show(row, seed, train(config, folder, resume=(folder / "config.yaml").exists(), stop=stop))
        if stop():
            return None
        records = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
        evaluation = next(record for record in reversed(records) if record["kind"] == "eval")
        result |= {"steps": evaluation["step"], **{name: evaluation[name] for name in METRICS}}
    except DivergenceError as error:
        result |= {"steps": error.step, "diverged_at": error.step}
    write_text(folder / RESULT, json.dumps(result) + "\n")
    return result


def _held(file: Path, kind: str, parse: Callable[[Any], T]) -> T:
    """What `parse` makes of the JSON in `file`. Raises: CheckpointError."""
    content = read_bytes(file, MAX_BYTES, CheckpointError)
    try:
        return parse(json.loads(content))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise CheckpointError(f"{file}: is not {kind}; remove it to write it anew") from None


def _outcomes(document: Any) -> dict[tuple[str, str], Outcome]:
    """By table and value. Raises: LookupError, TypeError."""
    held = [Outcome(**item) for item in document["rows"]]
    for item in held:
        if item.table not in TABLES:
            raise LookupError
        for values in (item.mean, item.spread, item.paper):
            _check_numbers(values)
    return {(item.table, item.value): item for item in held}


def _result(document: Any) -> dict[str, Any]:
    """Raises: LookupError, TypeError."""
    _check_numbers(document)
    return {name: document[name] for name in ("seed", "steps", *METRICS, "diverged_at")}


def _check_numbers(values: Any) -> None:
    sum(values[name] or 0 for name in METRICS)


def _check_same(folder: Path, config: Config) -> None:
    """A folder that holds a run holds this one."""
    file = folder / "config.yaml"
    if not file.exists():
        return
    held = config_from_dict(read_mapping(file, "data, model, train, ..."), str(file))
    free = ("train.device", "train.log_every", "train.checkpoint_every", "data.workers")  # they change no result
    differ = [text for key, text in changes(held, config).items() if key not in free]
    if differ:
        raise CheckpointError(f"{folder}: holds another run: {'; '.join(differ[:5])}; -o names another folder")
