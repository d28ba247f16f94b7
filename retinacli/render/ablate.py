"""Shows an ablation: the progress of its runs, and its tables beside the paper's."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retinacli.console import DASH, message, print_json, print_table
from retinacli.render.causes import effect_document, print_effects
from retinacli.render.detector_comparison import comparison_document, percent, print_comparison, print_scales
from retinacli.render.detector_facts import resolution, resolution_document
from retinacli.render.train import show_training
from retinacli.stop_signals import Stop
from retinanet.evaluation.detector_facts import DetectorFacts
from retinanet.paper.ablation import Outcome
from retinanet.paper.causes import Effect
from retinanet.paper.detector_comparison import ComparedDetector, DetectorComparison
from retinanet.paper.tables import METRICS, TABLES, Row
from retinanet.training.events import Event


def show_run(rows: Sequence[Row], seeds: int, stop: Stop, current: Row, seed: int, events: Iterable[Event]) -> None:
    """Show one run of `ablate` and its number among all runs, which are those of `rows` with `seeds` seeds each."""
    number = rows.index(current) * seeds + seed - current.config.train.seed + 1
    message(f"run {number} of {len(rows) * seeds}: table {current.table}, {current.value}, seed {seed}")
    show_training(events, stop)


def show_ablation(
    outcomes: Sequence[Outcome],
    folder: Path,
    facts: DetectorFacts,
    comparison: DetectorComparison | None,
    effects: Sequence[Effect],
    figure: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Show the results of all rows and the paths of the files.

    facts: what the detectors of all rows have in common. comparison: of those of table 2; None without that table.
    effects: of table causes. figure: figure 2 for JSON, unless it is not asked for.
    """
    if as_json:
        common = {"resolution": resolution_document(facts), "max_detections": facts.max_detections}
        compared: dict[str, Any] = {} if comparison is None else {"table_2": comparison_document(comparison, facts)}
        if figure is not None:
            compared["figure_2"] = figure
        if effects:
            compared["effects"] = [effect_document(each) for each in effects]
        print_json({"rows": [asdict(outcome) for outcome in outcomes]} | compared | common)
    else:
        for name in dict.fromkeys(outcome.table for outcome in outcomes):
            others = [each for each in comparison.detectors if each.results_file] if comparison and name == "2" else []
            _print_table(name, [outcome for outcome in outcomes if outcome.table == name], facts, others)
        if comparison is not None:
            print_comparison(comparison)
            if figure is not None:
                print_scales(comparison.detectors)
        if effects:
            print_effects(effects)
    message(f"wrote {folder / 'ablation.json'} and {folder / 'ablation.png'}; the runs are in {folder}")


def _print_table(
    name: str, outcomes: Sequence[Outcome], facts: DetectorFacts, others: Sequence[ComparedDetector]
) -> None:
    """others: rows of results files."""
    first = ["first\nloss"] if name == "prior" else []
    columns = ("value", "data", "steps", "seeds", *first, *METRICS, *(f"paper's\n{metric}" for metric in METRICS))
    rows = []
    for outcome in outcomes:
        steps = ", ".join(dict.fromkeys(str(run["steps"]) for run in outcome.runs))
        seeds = ", ".join(str(run["seed"]) for run in outcome.runs)
        cells = [_first_losses(outcome)] if first else []
        rows.append((outcome.value, outcome.data, steps, seeds, *cells, *_metrics(outcome), *_paper_metrics(outcome)))
    more = [
        (each.value, outcomes[0].data, DASH, DASH, *(percent(each.metrics[metric]) for metric in METRICS), *[DASH] * 3)
        for each in others
    ]
    print_table(f"Table {name}: {TABLES[name]}", columns, rows, more, text_columns=2)
    names = ", ".join(each.value for each in others)
    which, unknown = (f"all rows but {names}", f"; {names}: resolution not known") if others else ("all rows", "")
    limits = f"images of {resolution(facts)} pixels, at most {facts.max_detections} detections per image"
    print(f"{which}: {limits}{unknown}")
    ours = {outcome.value: outcome.mean["AP"] for outcome in outcomes if outcome.mean["AP"] is not None}
    papers = {outcome.value: outcome.paper["AP"] for outcome in outcomes if outcome.paper["AP"] is not None}
    if len(ours) > 1 and papers and name != "2":  # whose detectors are compared image by image
        of_seeds = f" (seeds a row: {', '.join(sorted({str(len(outcome.runs)) for outcome in outcomes}))})"
        print(f"best here{of_seeds}: {_best(ours)}; best in the paper: {_best(papers)}")


def _best(values: dict[str, float]) -> str:
    """The name of the largest value, or that there is none."""
    first = [name for name, value in values.items() if value == max(values.values())]
    return first[0] if len(first) == 1 else f"none, {' and '.join(first)} are equal"


def _metrics(outcome: Outcome) -> list[str]:
    """Mean and standard deviation in percent."""
    diverged = [f"diverged at step {run['diverged_at']}" for run in outcome.runs if run["diverged_at"] is not None]
    if len(diverged) == len(outcome.runs):
        return [", ".join(diverged), "", ""]
    cells = []
    for name, value in outcome.mean.items():
        spread = outcome.spread[name]
        text = DASH if value is None else f"{100 * value:.1f}"
        cells.append(text + (f" \u00b1 {100 * spread:.1f}" if spread is not None else ""))
    if diverged:
        cells[0] += f"; {', '.join(diverged)}"
    return cells


def _first_losses(outcome: Outcome) -> str:
    """The classification loss of the first step of each run."""
    losses = (run["first_loss"] for run in outcome.runs)
    return ", ".join(DASH if loss is None else f"{loss:.3g}" for loss in losses)


def _paper_metrics(outcome: Outcome) -> list[str]:
    if (outcome.table, outcome.value) == ("prior", "none"):
        return ["diverged", "", ""]
    return [DASH if value is None else f"{value:.1f}" for value in outcome.paper.values()]
