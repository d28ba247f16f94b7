"""Shows a comparison of two detectors."""

import math
from collections.abc import Sequence
from typing import Any

from retinacli.console import DASH, in_precision, print_json, print_table
from retinacli.render.detector_facts import facts_document, facts_table
from retinanet.evaluation.comparison import Comparison, Difference
from retinanet.evaluation.detector_facts import DetectorFacts


def show_comparison(
    weights: list[str],
    precisions: Sequence[str | None],
    facts: Sequence[DetectorFacts],
    comparison: Comparison,
    as_json: bool,
) -> None:
    """Show how the second detector differs from the first.

    precisions: of each detector's arithmetic; None: as an exported file says, or unknown. facts: of each detector.
    """
    if as_json:
        document = {
            "first": weights[0],
            "second": weights[1],
            "precisions": precisions,
            **facts_document(weights, facts),
            "images": comparison.images,
            "resamples": comparison.resamples,
            "metrics": {each.name: difference_document(each) for each in comparison.metrics},
            "per_class": [{"label": each.name} | difference_document(each) for each in comparison.per_class],
        }
        print_json(document)
        return
    counts = f"{comparison.images} images, {comparison.resamples} random resamples of them"
    columns = ("metric", "first", "second", "change", "95 % interval", "second better", "verdict")
    metrics = ((each.name, *difference_cells(each)) for each in comparison.metrics)
    classes = ((f"AP of {each.name}", *difference_cells(each)) for each in comparison.per_class)
    first, second = (each + in_precision(name) for each, name in zip(weights, precisions, strict=True))
    print_table(f"{second} compared with {first}: {counts}", columns, metrics, classes)
    facts_table("Both detectors", [(name,) for name in weights], facts, "detector")


def difference_document(each: Difference) -> dict[str, Any]:
    """The values of a difference for JSON, null without objects."""
    unknown = math.isnan(each.change)
    return {key: None if unknown else value for key, value in vars(each).items() if key != "name"}


def difference_cells(each: Difference) -> tuple[str, ...]:
    """Both values, their change, its interval, how often the second is better, and the verdict."""
    if math.isnan(each.change):
        return (*[DASH] * 5, "")
    low, high = each.interval
    verdict = "" if not each.certain else "better" if each.change > 0 else "worse"
    values = (f"{each.first:.4f}", f"{each.second:.4f}", f"{each.change:+.4f}", f"{low:+.4f} to {high:+.4f}")
    return (*values, f"{each.better:.0%}", verdict)
