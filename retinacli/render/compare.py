"""Shows a comparison of two detectors."""

import json
import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from retinacli.console import DASH, print_table, row, table

if TYPE_CHECKING:
    from retinanet.evaluation.comparison import Comparison, Difference


def show_comparison(weights: list[str], comparison: "Comparison", as_json: bool) -> None:
    if as_json:
        document = {
            "first": weights[0],
            "second": weights[1],
            "images": comparison.images,
            "resamples": comparison.resamples,
            "metrics": {each.name: _fields(each) for each in comparison.metrics},
            "per_class": [{"label": each.name} | _fields(each) for each in comparison.per_class],
        }
        print(json.dumps(document))
        return
    counts = f"{comparison.images} images, {comparison.resamples} random resamples of them"
    columns = ("metric", "first", "second", "change", "95 % interval", "second better", "verdict")
    made = table(f"{weights[1]} compared with {weights[0]}: {counts}", *columns)
    for each in comparison.metrics:
        _add_row(made, each.name, each)
    made.add_section()
    for each in comparison.per_class:
        _add_row(made, f"AP of {each.name}", each)
    print_table(made)


def _fields(each: "Difference") -> dict[str, Any]:
    known = not math.isnan(each.change)
    return {
        "first": each.first if known else None,
        "second": each.second if known else None,
        "change": each.change if known else None,
        "interval": list(each.interval) if known else None,
        "better": each.better if known else None,
    }


def _add_row(to: Table, name: str, each: "Difference") -> None:
    if math.isnan(each.change):
        row(to, name, *[DASH] * 5, "")
        return
    low, high = each.interval
    verdict = "" if not each.certain else "better" if each.change > 0 else "worse"
    values = (f"{each.first:.4f}", f"{each.second:.4f}", f"{each.change:+.4f}", f"{low:+.4f} to {high:+.4f}")
    row(to, name, *values, f"{each.better:.0%}", verdict)
