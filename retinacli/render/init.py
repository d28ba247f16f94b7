"""Shows what a folder holds."""

from pathlib import Path

from retinacli.console import DASH, print_json, print_table
from retinanet.dataset_analysis.starting_config import StartingConfig


def show_splits(found: StartingConfig, file: Path, as_json: bool) -> None:
    """The splits that were found, and their use. file: the config that was written."""
    uses = {found.train: "train", found.val: "val"}
    rows = [
        {"split": name, "used as": uses.get(name), "images": len(data), "objects": len(data.labels)}
        for name, data in found.splits.items()
    ]
    if as_json:
        classes = list(found.splits[found.train].classes)
        print_json({"config": str(file), "classes": classes, "splits": rows})
        return
    cells = ([DASH if value is None else value for value in row.values()] for row in rows)
    print_table(f"Splits in {found.folder}", tuple(rows[0]), cells, text_columns=2)
