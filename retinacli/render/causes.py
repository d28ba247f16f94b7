"""Shows the effects of the causes that table causes varies."""

from collections.abc import Sequence
from typing import Any

from retinacli.console import headed, print_table
from retinacli.render.compare import difference_cells, difference_document
from retinanet.evaluation.comparison import RESAMPLES
from retinanet.paper.causes import CAUSES, Effect


def effect_document(effect: Effect) -> dict[str, Any]:
    """The effect for JSON."""
    before, after = CAUSES[effect.cause]
    of_what = {"cause": effect.cause, "before": before, "after": after, "others": list(effect.others)}
    return of_what | {"pairs": effect.pairs} | difference_document(effect.ap)


def print_effects(effects: Sequence[Effect]) -> None:
    columns = ("cause", "others", "pairs", "before", "after", "change", "95 % interval", "after better", "verdict")
    groups = (
        headed([f"{cause}: {' to '.join(CAUSES[cause])}"], [_cells(each) for each in effects if each.cause == cause])
        for cause in dict.fromkeys(each.cause for each in effects)
    )
    title = f"Effects: mean change of AP over pairs of runs, {RESAMPLES} random resamples of the images"
    print_table(title, columns, *groups, text_columns=2)


def _cells(effect: Effect) -> tuple[object, ...]:
    return (", ".join(effect.others) or "all", effect.pairs, *difference_cells(effect.ap))
