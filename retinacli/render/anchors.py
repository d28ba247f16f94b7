"""Shows anchors, their coverage of a data set, and the result of a search for better ones."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli.console import DASH, message, print_table, row, table

if TYPE_CHECKING:
    from retinanet.config.schema import AnchorConfig
    from retinanet.dataset_analysis.anchor_coverage import Coverage, Share
    from retinanet.dataset_analysis.anchor_picture import Picture
    from retinanet.dataset_analysis.anchor_search import SearchResult


def show_anchors(
    anchors: "AnchorConfig", coverage: "Coverage | None", better: "SearchResult | None", as_json: bool
) -> None:
    if as_json:
        print(json.dumps(anchors_document(anchors, coverage, better)))
        return
    _shapes_table(anchors)
    if coverage is not None:
        _coverage_tables(coverage, anchors)
    if better is not None:
        _search_table(better, anchors)


def anchors_document(
    anchors: "AnchorConfig", coverage: "Coverage | None", better: "SearchResult | None"
) -> dict[str, Any]:
    return {
        "anchors": _shapes(anchors),
        "coverage": coverage and {"share": coverage.share, **asdict(coverage)},
        "optimized": better and {**asdict(better), "anchors": _searched(better)},
    }


def shortfall(coverage: "Coverage", least: float, foreground_iou: float) -> str:
    """The message that coverage is below `least`."""
    short, objects = coverage.all.objects - coverage.all.covered, coverage.all.objects
    return (
        f"coverage is {coverage.share:.6g}, below --min-coverage {least:g}: {short:,} of {objects:,} objects have no "
        f"anchor of IoU >= {foreground_iou:g}"
    )


def picture_line(picture: "Picture", output: Path, split: str | None) -> str:
    """The message about a written picture. split: the split of its objects; None without a data set."""
    if split is None or picture.with_objects:
        return f"wrote {output}: the anchors on {picture.source}"
    return f"wrote {output}: the anchors on {picture.source}, without objects, since {split} has no such image"


def _shapes(anchors: "AnchorConfig") -> dict[str, Any]:
    """Shapes in pixels by level; side: square root of the area."""
    from retinanet.dataset_analysis.anchor_coverage import LEVELS, anchor_sides
    from retinanet.model.anchors import STRIDES, AnchorShapes

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


def _shapes_table(anchors: "AnchorConfig") -> None:
    shapes = _shapes(anchors)
    title = f"{shapes['per_cell']} anchors per cell, in pixels of the resized image"
    made = table(title, "level", "stride", "scale", "ratio", "width", "height", "area", "side")
    for level in shapes["levels"]:
        head: tuple[object, object] = (level["level"], level["stride"])
        for a in level["anchors"]:
            shape = (f"{a['width']:.1f}", f"{a['height']:.1f}", f"{a['area']:.0f}", f"{a['side']:.1f}")
            row(made, *head, f"{a['scale']:.3g}", f"{a['ratio']:.3g}", *shape)
            head = ("", "")
        made.add_section()
    print_table(made)
    print(f"sides (square root of the area): {shapes['smallest']:.0f} to {shapes['largest']:.0f} pixels")


def _coverage_tables(coverage: "Coverage", anchors: "AnchorConfig") -> None:
    high, low = f"{anchors.foreground_iou:g}", f"{anchors.background_iou:g}"
    columns = ("objects", f"IoU >= {high}", f"{low} to {high}", f"< {low}", "coverage", "mean IoU")
    made = table("Coverage: IoU of each object with its best anchor", "group", "", *columns, text_columns=2)
    groups = {"level": coverage.per_level, "size": coverage.per_size, "class": coverage.per_class}
    for group, shares in groups.items():
        for share in shares:
            row(made, group, *_cells(share))
            group = ""
        made.add_section()
    row(made, "", *_cells(coverage.all))
    print_table(made)
    worst = table(
        "Objects with the lowest IoU", "file", "class", "annotation", "width", "height", "IoU", text_columns=2
    )
    for item in coverage.worst:
        size = (f"{item.width:.1f}", f"{item.height:.1f}")
        row(worst, item.file, item.label, item.annotation_id, *size, f"{item.iou:.3f}")
    print_table(worst)


def _search_table(better: "SearchResult", anchors: "AnchorConfig") -> None:
    made = table("Search for better anchors", "anchors", "per cell", "coverage", "mean IoU")
    for name, f in (("before", better.before), ("after", better.after)):
        row(made, name, f.per_cell, f"{f.coverage:.4f}", f"{f.mean_iou:.4f}")
    print_table(made)
    if better.after == better.before:
        message("the search found no better anchors")
    print(_yaml(better, anchors))


def _searched(better: "SearchResult") -> dict[str, tuple[float, ...]]:
    """The result of the search by config key."""
    return {"sizes": better.anchors.sizes, "scales": better.anchors.scales, "ratios": better.anchors.ratios}


def _yaml(better: "SearchResult", anchors: "AnchorConfig") -> str:
    """The `anchors` block for a config, with IoU thresholds that are not the defaults."""
    lines = ["anchors:"]
    for name, values in _searched(better).items():
        lines.append(f"  {name}: [{', '.join(str(value).removesuffix('.0') for value in values)}]")
    defaults = type(anchors)()
    for name in ("foreground_iou", "background_iou"):
        if getattr(anchors, name) != getattr(defaults, name):
            lines.append(f"  {name}: {getattr(anchors, name)!r}")
    return "\n".join(lines)


def _cells(share: "Share") -> Sequence[object]:
    if share.mean_iou is None:
        return (share.name, 0, "", "", "", DASH, DASH)
    rate = f"{share.covered / share.objects:.4f}"
    return (share.name, share.objects, share.covered, share.ignored, share.missed, rate, f"{share.mean_iou:.4f}")
