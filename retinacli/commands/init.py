"""`retina init`."""

import os
import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument

from retinacli import options
from retinacli.failure import check_writable, fail


def init_command(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Folder of a COCO, Pascal VOC or YOLO data set.")],
    output: Annotated[
        Path | None, options.output("FILE", "The config to write.  [default: <FOLDER's name>.yaml]")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Write a config for the data set in a folder."""
    file = output or Path(f"{folder.resolve().name or 'data'}.yaml")
    if os.path.lexists(file):
        fail(f"{file}: exists; choose another name with -o", 1)
    check_writable(file)
    from retinacli.console import counter, message
    from retinacli.render.init import show_splits
    from retinanet.dataset_analysis.starting_config import describe, starting_yaml
    from retinanet.io.atomic import write_text

    with counter("sets of anchors") as progress:
        found = describe(folder, progress)
    write_text(file, starting_yaml(found, os.path.relpath(folder, file.parent)))
    show_splits(found, file, json_)
    name = shlex.quote(str(file))
    message(f"wrote {file}; read it, then: retina check {name}, retina train {name}")
