"""Shows the class imbalance that each detector of table 2 faces."""

from typing import Any

from retinacli.console import DASH, headed, print_table
from retinanet.dataset_analysis.findings import counted
from retinanet.paper.candidates import CandidateCounts, Candidates

COLUMNS = ("detector", "candidates", "per image", "foreground", "background", "background per\nforeground")
PAPER_COLUMNS = ("paper's\nper image", "paper's background\nper foreground")


def candidates_document(counts: CandidateCounts) -> dict[str, Any]:
    """The imbalance for JSON."""
    kinds = [
        {
            **vars(each),
            "background_per_foreground": each.ratio,
            "paper": {"number": each.paper_number, "background_per_foreground": each.paper_ratio},
        }
        for each in counts.kinds
    ]
    return {"images": counts.images, "dataset_images": counts.dataset_images, "candidates": kinds}


def print_candidates(counts: CandidateCounts) -> None:
    images = counted(counts.images, "validation image")
    if counts.images < counts.dataset_images:
        images += f" of {counts.dataset_images:,}, evenly spaced"
    groups = (
        headed([name], [_cells(each) for each in counts.kinds if each.detector == name])
        for name in dict.fromkeys(each.detector for each in counts.kinds)
    )
    title = f"Imbalance: candidates of an image, mean of {images}"
    print_table(title, (*COLUMNS, *PAPER_COLUMNS), *groups, text_columns=2)
    print("RetinaNet trains on all anchors that it does not ignore; the others train on what they sample or mine")


def _cells(each: Candidates) -> tuple[str, ...]:
    return (
        each.kind,
        f"{each.number:,.0f}",
        f"{each.foreground:,.1f}",
        f"{each.background:,.1f}",
        DASH if each.ratio is None else f"{each.ratio:,.1f}",
        _range(each.paper_number),
        DASH if each.paper_ratio is None else str(each.paper_ratio),
    )


def _range(ends: tuple[int, int] | None) -> str:
    """The least and the largest number as text, or a dash."""
    if ends is None:
        return DASH
    least, largest = ends
    return f"about {least:,}" if least == largest else f"{least:,} to {largest:,}"
