"""What people see of an ablation: its runs while they go, its tables beside the paper's."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli.console import message, print_table, row, table, training
from retinacli.stop_signals import Stop

if TYPE_CHECKING:
    from retinanet.paper.ablation import Outcome
    from retinanet.paper.tables import Row
    from retinanet.training.events import Event

DASH = "\u2013"


def run_of(rows: "Sequence[Row]", seeds: int, stop: Stop) -> "Callable[[Row, int, Iterable[Event]], object]":
    """Shows one run of `ablate`, headed by where it stands among all."""

    def show(current: "Row", seed: int, records: "Iterable[Event]") -> None:
        number = rows.index(current) * seeds + seed - current.config.train.seed + 1
        message(f"run {number} of {len(rows) * seeds}: table {current.table}, {current.value}, seed {seed}")
        training(records, stop)

    return show


def document(outcomes: "Sequence[Outcome]") -> dict[str, Any]:
    return {"rows": [asdict(outcome) for outcome in outcomes]}


def tables(outcomes: "Sequence[Outcome]") -> None:
    from retinanet.paper.tables import METRICS, TABLES

    for name in dict.fromkeys(outcome.table for outcome in outcomes):
        found = [outcome for outcome in outcomes if outcome.table == name]
        columns = ("value", "data", "steps", "seeds", *METRICS, *(f"paper's\n{metric}" for metric in METRICS))
        made = table(f"Table {name}: {TABLES[name]}", *columns, text_columns=2)
        for outcome in found:
            row(made, outcome.value, outcome.data, _steps(outcome), _seeds(outcome), *_ours(outcome), *_papers(outcome))
        print_table(made, width=160)
        best = _best(found)
        if best is not None:
            print(best)


def files(folder: Path) -> None:
    message(f"results: {folder / 'ablation.json'}, chart: {folder / 'ablation.png'}, runs: {folder}")


def _steps(outcome: "Outcome") -> str:
    return ", ".join(dict.fromkeys(str(run["steps"]) for run in outcome.runs))


def _seeds(outcome: "Outcome") -> str:
    return ", ".join(str(run["seed"]) for run in outcome.runs)


def _ours(outcome: "Outcome") -> list[str]:
    """In percent, as the paper has it."""
    diverged = [run for run in outcome.runs if run["diverged_at"] is not None]
    told = [f"diverged at step {run['diverged_at']}" for run in diverged]
    if len(diverged) == len(outcome.runs):
        return [", ".join(told), "", ""]
    cells = []
    for name, value in outcome.mean.items():
        spread = outcome.spread[name]
        assert value is not None
        cells.append(f"{100 * value:.1f}" + (f" \u00b1 {100 * spread:.1f}" if spread is not None else ""))
    if told:
        cells[0] += f"; {', '.join(told)}"
    return cells


def _papers(outcome: "Outcome") -> list[str]:
    if (outcome.table, outcome.value) == ("prior", "none"):
        return ["diverged", "", ""]
    return [DASH if value is None else f"{value:.1f}" for value in outcome.paper.values()]


def _best(found: "Sequence[Outcome]") -> str | None:
    """The best row of the table here and, among the same rows, in the paper."""
    ours = {outcome.value: outcome.mean["AP"] for outcome in found if outcome.mean["AP"] is not None}
    theirs = {outcome.value: outcome.paper["AP"] for outcome in found if outcome.paper["AP"] is not None}
    if len(ours) < 2 or not theirs:
        return None
    return (
        f"best here: {max(ours, key=lambda v: ours[v] or 0)}; in the paper: {max(theirs, key=lambda v: theirs[v] or 0)}"
    )
