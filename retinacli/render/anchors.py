"""What people see of anchors: their sizes, how they cover the objects of a data set, better ones."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinacli.console import message, print_table, row, table

if TYPE_CHECKING:
    from retinanet.config.schema import AnchorConfig
    from retinanet.dataset_analysis.anchor_coverage import Coverage, Share
    from retinanet.dataset_analysis.anchor_picture import Picture
    from retinanet.dataset_analysis.anchor_search import Found


def document(anchors: "AnchorConfig", coverage: "Coverage | None", found: "Found | None") -> dict[str, Any]:
    return {
        "anchors": anchors_document(anchors),
        "coverage": coverage and {"share": coverage.share, **asdict(coverage)},
        "optimized": found and {**asdict(found), "anchors": _searched(found)},
    }


def tables(anchors: "AnchorConfig", coverage: "Coverage | None", found: "Found | None") -> None:
    anchors_table(anchors)
    if coverage is not None:
        coverage_tables(coverage, anchors)
    if found is not None:
        search_table(found, anchors)


def anchors_document(anchors: "AnchorConfig") -> dict[str, Any]:
    """Pixels; side: square root of the area."""
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


def anchors_table(anchors: "AnchorConfig") -> None:
    document = anchors_document(anchors)
    title = f"{document['per_cell']} anchors per cell, in pixels of the resized image"
    made = table(title, "level", "stride", "scale", "ratio", "width", "height", "area", "side")
    for level in document["levels"]:
        head: tuple[object, object] = (level["level"], level["stride"])
        for a in level["anchors"]:
            shape = (f"{a['width']:.1f}", f"{a['height']:.1f}", f"{a['area']:.0f}", f"{a['side']:.1f}")
            row(made, *head, f"{a['scale']:.3g}", f"{a['ratio']:.3g}", *shape)
            head = ("", "")
        made.add_section()
    print_table(made)
    print(f"sides (square root of area): {document['smallest']:.0f} to {document['largest']:.0f} px")


def coverage_tables(coverage: "Coverage", anchors: "AnchorConfig") -> None:
    high, low = f"{anchors.foreground_iou:g}", f"{anchors.background_iou:g}"
    columns = ("objects", f"IoU >= {high}", f"{low} to {high}", f"< {low}", "coverage", "mean IoU")
    made = table("Coverage: IoU of each object with its best anchor", "by", "", *columns, text_columns=2)
    groups = {"level": coverage.per_level, "size": coverage.per_size, "class": coverage.per_class}
    for by, shares in groups.items():
        for share in shares:
            row(made, by, *_cells(share))
            by = ""
        made.add_section()
    row(made, "", *_cells(coverage.all))
    print_table(made)
    worst = table("The worst", "file", "class", "annotation", "width", "height", "IoU", text_columns=2)
    for item in coverage.worst:
        size = (f"{item.width:.1f}", f"{item.height:.1f}")
        row(worst, item.file, item.label, item.annotation_id, *size, f"{item.iou:.3f}")
    print_table(worst)


def shortfall(coverage: "Coverage", least: float, foreground_iou: float) -> str:
    short, objects = coverage.all.objects - coverage.all.covered, coverage.all.objects
    return (
        f"coverage is {coverage.share:.6g}, below --min-coverage {least:g}: {short:,} of {objects:,} objects have no "
        f"anchor of IoU >= {foreground_iou:g}"
    )


def picture_line(picture: "Picture", output: Path, split: str | None) -> str:
    """split: of the data set that was looked at; None: none was."""
    if split is None or picture.with_objects:
        return f"wrote {output}: the anchors on {picture.source}"
    return f"wrote {output}: the anchors on {picture.source}, which is no image of {split}, so without objects"


def search_table(found: "Found", anchors: "AnchorConfig") -> None:
    made = table("Search", "anchors", "per cell", "coverage", "mean IoU")
    for name, f in (("before", found.before), ("after", found.after)):
        row(made, name, f.per_cell, f"{f.coverage:.4f}", f"{f.mean_iou:.4f}")
    print_table(made)
    if found.after == found.before:
        message("nothing better was found")
    print(_yaml(found, anchors))


def _searched(found: "Found") -> dict[str, tuple[float, ...]]:
    """The anchors' numbers that the search chooses, by their keys in a config."""
    return {"sizes": found.anchors.sizes, "scales": found.anchors.scales, "ratios": found.anchors.ratios}


def _yaml(found: "Found", anchors: "AnchorConfig") -> str:
    """The block to paste, thresholds included where they are not the defaults."""
    lines = ["anchors:"]
    for name, values in _searched(found).items():
        lines.append(f"  {name}: [{', '.join(str(value).removesuffix('.0') for value in values)}]")
    defaults = type(anchors)()
    for name in ("foreground_iou", "background_iou"):
        if getattr(anchors, name) != getattr(defaults, name):
            lines.append(f"  {name}: {getattr(anchors, name)!r}")
    return "\n".join(lines)


def _cells(share: "Share") -> Sequence[object]:
    if share.mean_iou is None:
        return (share.name, 0, "", "", "", "\u2013", "\u2013")
    rate = f"{share.covered / share.objects:.4f}"
    return (share.name, share.objects, share.covered, share.ignored, share.missed, rate, f"{share.mean_iou:.4f}")
