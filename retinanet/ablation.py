"""The paper's ablations on other data: one training, repeated under each loss, anchor set or prior (paper, section 5)."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from retinanet.atomic import write_text
from retinanet.config import LOSS_SETTINGS, AnchorConfig, Config, config_from_dict
from retinanet.errors import CheckpointError, ConfigError, DivergenceError
from retinanet.reading import read_bytes
from retinanet.records import Record
from retinanet.runfolder import LOG
from retinanet.samerun import changes
from retinanet.training import train
from retinanet.yamlfile import read_mapping

T = TypeVar("T")
MAX_BYTES = 100_000_000  # of results; a row has some 500
RESULT = "result.json"
METRICS = ("AP", "AP50", "AP75")
TABLES = {  # what each varies, and what the paper trained for it (COCO, 600 px, ResNet-50 but for 1d)
    "1a": "balanced cross entropy over alpha",
    "1b": "focal loss over gamma, each with its alpha",
    "1c": "anchor scales x ratios",
    "1d": "OHEM against the focal loss; the paper's with ResNet-101",
    "prior": "cross entropy with and without the prior of 0.01 at the start",
}
# value -> AP, AP50, AP75 in percent, as the paper prints them; None: it diverged, or the paper does not say
PAPER: dict[str, dict[str, tuple[float | None, ...]]] = {
    "1a": {
        "0.1": (0.0, 0.0, 0.0),
        "0.25": (10.8, 16.0, 11.7),
        "0.5": (30.2, 46.7, 32.8),
        "0.75": (31.1, 49.4, 33.0),
        "0.9": (30.8, 49.7, 32.3),
        "0.99": (28.7, 47.4, 29.9),
        "0.999": (25.1, 41.7, 26.1),
    },
    "1b": {
        "0": (31.1, 49.4, 33.0),
        "0.1": (31.4, 49.9, 33.1),
        "0.2": (31.9, 50.7, 33.4),
        "0.5": (32.9, 51.7, 35.2),
        "1": (33.7, 52.0, 36.2),
        "2": (34.0, 52.5, 36.5),
        "5": (32.2, 49.6, 34.8),
    },
    "1c": {
        "1x1": (30.3, 49.0, 31.8),
        "2x1": (31.9, 50.0, 34.0),
        "3x1": (31.8, 49.4, 33.7),
        "1x3": (32.4, 52.3, 33.9),
        "2x3": (34.2, 53.1, 36.5),
        "3x3": (34.0, 52.5, 36.5),
        "4x3": (33.8, 52.1, 36.2),
    },
    "1d": {
        "ohem-128-0.7": (31.1, 47.2, 33.2),
        "ohem-256-0.7": (31.8, 48.8, 33.9),
        "ohem-512-0.7": (30.6, 47.0, 32.6),
        "ohem-128-0.5": (32.8, 50.3, 35.1),
        "ohem-256-0.5": (31.0, 47.4, 33.0),
        "ohem-512-0.5": (27.6, 42.0, 29.2),
        "ohem_1_3-128-0.5": (31.1, 47.2, 33.2),
        "ohem_1_3-256-0.5": (28.3, 42.4, 30.3),
        "ohem_1_3-512-0.5": (24.0, 35.5, 25.8),
        "focal": (36.0, 54.9, 38.7),
    },
    "prior": {"none": (None, None, None), "0.01": (30.2, None, None)},  # section 5.1; "none" diverged
}


@dataclass(frozen=True)
class Row:
    """A line of a table. value: as in PAPER. folder: its run's, which rows of two tables may share. config: trains it."""

    table: str
    value: str
    folder: str
    config: Config


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


def make_row(config: Config, table: str, value: str) -> Row:
    """The row of `value` in `table`. Raises: ConfigError if the table has no such value."""
    try:
        match table:
            case "1a":
                alpha = _within(float(value), 0, 1)
                value = f"{alpha:g}"
                return Row(table, value, f"balanced_ce-alpha-{value}", _with_loss(config, "balanced_ce", alpha=alpha))
            case "1b":
                gamma = _within(float(value), 0, 100)
                value = f"{gamma:g}"
                return Row(table, value, f"focal-gamma-{value}", _with_loss(config, "focal", gamma=gamma))
            case "1c":
                scales, ratios = (int(part) for part in value.split("x"))
                chosen = {1: (1.0,), 3: (0.5, 1.0, 2.0)}[ratios]
                anchors = replace(config.anchors, scales=_scales(scales), ratios=chosen)
                return Row(table, f"{scales}x{ratios}", f"anchors-{scales}x{ratios}", replace(config, anchors=anchors))
            case "1d" if value == "focal":
                return Row(table, value, "focal-gamma-2", _with_loss(config, "focal", gamma=2.0))
            case "1d":
                name, number, iou = value.split("-")
                name = {"ohem": "ohem", "ohem_1_3": "ohem_1_3"}[name]
                count, nms_iou = _within(int(number), 1, 1_000_000), _within(float(iou), 0, 1)
                value = f"{name}-{count}-{nms_iou:g}"
                return Row(table, value, value, _with_loss(config, name, count=count, nms_iou=nms_iou))
            case _:
                assert table == "prior"
                prior = None if value == "none" else _within(float(value), 1e-6, 0.5)
                value = "none" if prior is None else f"{prior:g}"
                config = replace(config, model=replace(config.model, prior=prior))
                return Row(table, value, f"ce-prior-{value}", _with_loss(config, "ce"))
    except (ValueError, KeyError):
        raise ConfigError(f"table {table} has no {value!r}; such as {', '.join(PAPER[table])}") from None


def make_rows(config: Config, table: str, values: Sequence[str] | None = None) -> list[Row]:
    """The rows of one of TABLES; None: all that the paper has."""
    return [make_row(config, table, value) for value in values or PAPER[table]]


def ablate(
    rows: Sequence[Row],
    output: Path,
    seeds: int = 1,
    show: Callable[[Row, int, Iterable[Record]], object] = lambda row, seed, records: deque(records, maxlen=0),
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
    show: Callable[[Row, int, Iterable[Record]], object],
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


def _with_loss(config: Config, classification: Any, **settings: Any) -> Config:
    unset: dict[str, Any] = dict.fromkeys(LOSS_SETTINGS)
    return replace(config, loss=replace(config.loss, classification=classification, **unset | settings))


def _scales(count: int) -> tuple[float, ...]:
    """`count` scales of an octave (paper, section 5.2)."""
    if count == len(AnchorConfig().scales):
        return AnchorConfig().scales
    return tuple(2 ** (k / count) for k in range(int(_within(count, 1, 16))))


def _within(value: float, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise ValueError
    return value
