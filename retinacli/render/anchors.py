"""Shows anchors, their coverage of a data set, and the result of a search for better ones."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from retinacli.console import DASH, headed, message, print_json, print_table
from retinanet.config.schema import AnchorConfig
from retinanet.dataset_analysis.anchor_coverage import LEVELS, Coverage, Share, anchor_sides
from retinanet.dataset_analysis.anchor_picture import Picture
from retinanet.dataset_analysis.anchor_search import SearchResult
from retinanet.dataset_analysis.imbalance import Imbalance
from retinanet.model.anchors import STRIDES, AnchorShapes


def show_anchors(
    anchors: AnchorConfig,
    coverage: Coverage | None,
    imbalance: Imbalance | None,
    better: SearchResult | None,
    as_json: bool,
) -> None:
    if as_json:
        print_json(anchors_document(anchors, coverage, imbalance, better))
        return
    _shapes_table(anchors)
    if coverage is not None:
        _coverage_tables(coverage, anchors)
    if imbalance is not None:
        print(imbalance_line(imbalance))
    if better is not None:
        _search_table(better, anchors)


def anchors_document(
    anchors: AnchorConfig, coverage: Coverage | None, imbalance: Imbalance | None, better: SearchResult | None
) -> dict[str, Any]:
    return {
        "anchors": _shapes(anchors),
        "coverage": coverage and {"share": coverage.share, **asdict(coverage)},
        "imbalance": imbalance and {**asdict(imbalance), "ratio": imbalance.ratio},
        "optimized": better and {**asdict(better), "anchors": _searched(better)},
    }


def imbalance_line(imbalance: Imbalance) -> str:
    """The mean numbers of anchors in one line."""
    ratio = "none" if imbalance.ratio is None else f"1 to {imbalance.ratio:,.0f} of background"
    kinds = f"{imbalance.foreground:.1f} of them foreground ({ratio}) and {imbalance.ignored:.1f} ignored"
    return f"imbalance: {imbalance.anchors:,.0f} anchors per image, {kinds}; mean of {imbalance.images:,} images"


def shortfall(coverage: Coverage, least: float, anchors: AnchorConfig) -> str:
    """The message that coverage is below `least`."""
    short, objects = coverage.all.objects - coverage.all.covered, coverage.all.objects
    which = "that ATSS selects" if anchors.matching == "atss" else f"of IoU >= {anchors.foreground_iou:g}"
    return (
        f"coverage is {coverage.share:.6g}, below --min-coverage {least:g}: {short:,} of {objects:,} objects have no "
        f"anchor {which}"
    )


def picture_line(picture: Picture, output: Path, split: str | None) -> str:
    """The message about a written picture. split: the split of its objects; None without a data set."""
    if split is None or picture.with_objects:
        return f"wrote {output}: the anchors on {picture.source}"
    return f"wrote {output}: the anchors on {picture.source}, without objects, since {split} has no such image"


def _shapes(anchors: AnchorConfig) -> dict[str, Any]:
    """Shapes in pixels by level; side: square root of the area."""
    kinds = list(product(anchors.scales, anchors.ratios))
    shapes = anchor_sides(AnchorShapes.from_config(anchors)).tolist()  # L lists of A [width, height]
    levels = [
        {
            "level": level,
            "stride": stride,
            "anchors": [
                {"scale": scale, "ratio": ratio, "width": w, "height": h, "area": w * h, "side": (w * h) ** 0.5}
                for (scale, ratio), (w, h) in zip(kinds, cell, strict=True)
            ],
        }
        for level, stride, cell in zip(LEVELS, STRIDES, shapes, strict=True)
    ]
    sides = [(w * h) ** 0.5 for cell in shapes for w, h in cell]
    return {"per_cell": len(kinds), "smallest": min(sides), "largest": max(sides), "levels": levels}


def _shapes_table(anchors: AnchorConfig) -> None:
    shapes = _shapes(anchors)
    columns = ("level", "stride", "scale", "ratio", "width", "height", "area", "side")
    formats = ("{scale:.3g}", "{ratio:.3g}", "{width:.1f}", "{height:.1f}", "{area:.0f}", "{side:.1f}")
    groups = (
        headed([at["level"], at["stride"]], ([text.format(**each) for text in formats] for each in at["anchors"]))
        for at in shapes["levels"]
    )
    print_table(f"{shapes['per_cell']} anchors per cell, in pixels of the resized image", columns, *groups)
    print(f"sides (square root of the area): {shapes['smallest']:.0f} to {shapes['largest']:.0f} pixels")


def _coverage_tables(coverage: Coverage, anchors: AnchorConfig) -> None:
    if anchors.matching == "atss":
        title = "Coverage: whether ATSS selects an anchor for each object"
        outcomes = ["anchor selected", "none selected"]
    else:
        high, low = f"{anchors.foreground_iou:g}", f"{anchors.background_iou:g}"
        title = "Coverage: IoU of each object with its best anchor"
        outcomes = [f"IoU >= {high}", f"{low} to {high}", f"< {low}"]
    columns = ("group", "", "objects", *outcomes, "coverage", "mean IoU")
    parts = {"level": coverage.per_level, "size": coverage.per_size, "class": coverage.per_class, "": [coverage.all]}
    groups = (headed([name], (_cells(share, len(outcomes)) for share in shares)) for name, shares in parts.items())
    print_table(title, columns, *groups, text_columns=2)
    worst = (
        (o.file, o.label, o.annotation_id, f"{o.width:.1f}", f"{o.height:.1f}", f"{o.iou:.3f}") for o in coverage.worst
    )
    fields = ("file", "class", "annotation", "width", "height", "IoU")
    print_table("Objects with the lowest IoU", fields, worst, text_columns=2)


def _search_table(better: SearchResult, anchors: AnchorConfig) -> None:
    figures = {"before": better.before, "after": better.after}
    rows = ((name, f.per_cell, f"{f.coverage:.4f}", f"{f.mean_iou:.4f}") for name, f in figures.items())
    print_table("Search for better anchors", ("anchors", "per cell", "coverage", "mean IoU"), rows)
    if better.after == better.before:
        message("the search found no better anchors")
    print(_yaml(better, anchors))


def _searched(better: SearchResult) -> dict[str, tuple[float, ...]]:
    """The result of the search by config key."""
    return {"sizes": better.anchors.sizes, "scales": better.anchors.scales, "ratios": better.anchors.ratios}


def _yaml(better: SearchResult, anchors: AnchorConfig) -> str:
    """The `anchors` block for a config, with IoU thresholds that are not the defaults."""
    lines = ["anchors:"]
    for name, values in _searched(better).items():
        lines.append(f"  {name}: [{', '.join(str(value).removesuffix('.0') for value in values)}]")
    defaults = type(anchors)()
    for name in ("foreground_iou", "background_iou"):
        if getattr(anchors, name) != getattr(defaults, name):
            lines.append(f"  {name}: {getattr(anchors, name)!r}")
    return "\n".join(lines)


def _cells(share: Share, outcomes: int) -> Sequence[object]:
    """A row of the table of coverage. outcomes: 3, or 2 where no object is ignored."""
    if share.mean_iou is None:
        return (share.name, 0, *[""] * outcomes, DASH, DASH)
    counts = (share.covered, share.ignored, share.missed) if outcomes == 3 else (share.covered, share.missed)
    return (share.name, share.objects, *counts, f"{share.covered / share.objects:.4f}", f"{share.mean_iou:.4f}")
