"""What `retina eval --compare` shows."""

import math
from typing import TYPE_CHECKING, Any

from retinacli import console as render

if TYPE_CHECKING:
    from retinanet.evaluation.comparison import Comparison, Difference


def document(weights: list[str], found: "Comparison") -> dict[str, Any]:
    return {
        "first": weights[0],
        "second": weights[1],
        "images": found.images,
        "resamples": found.resamples,
        "metrics": {each.name: _fields(each) for each in found.metrics},
        "per_class": [{"label": each.name} | _fields(each) for each in found.per_class],
    }


def tables(weights: list[str], found: "Comparison") -> None:
    title = f"{weights[1]} against {weights[0]}: {found.images} images, {found.resamples} resamples of them"
    made = render.table(title, "metric", "first", "second", "change", "95 % of resamples", "second better", "verdict")
    for each in found.metrics:
        _row(made, each)
    made.add_section()
    for each in found.per_class:
        _row(made, each, "AP of ")
    render.print_table(made)


def _row(made: Any, each: "Difference", prefix: str = "") -> None:
    if math.isnan(each.change):
        render.row(made, prefix + each.name, "\u2013", "\u2013", "\u2013", "\u2013", "\u2013", "")
        return
    low, high = each.interval
    verdict = "" if not each.certain else "better" if each.change > 0 else "worse"
    values = (f"{each.first:.4f}", f"{each.second:.4f}", f"{each.change:+.4f}", f"{low:+.4f} to {high:+.4f}")
    render.row(made, prefix + each.name, *values, f"{each.better:.0%}", verdict)


def _fields(each: "Difference") -> dict[str, Any]:
    known = not math.isnan(each.change)
    return {
        "first": each.first if known else None,
        "second": each.second if known else None,
        "change": each.change if known else None,
        "interval": list(each.interval) if known else None,
        "better": each.better if known else None,
    }
