"""`retina import`."""

import os
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from retinacli import options
from retinacli.failure import check_writable, fail


def import_command(
    file: Annotated[
        Path, Argument(metavar="FILE", help="RetinaNet weights of torchvision (.pth) or detectron2 (.pkl, .pth).")
    ],
    output: Annotated[
        Path | None, options.output("FILE", "Checkpoint to write.  [default: <FILE's name>.safetensors]")
    ] = None,
    classes: Annotated[
        list[str] | None, Option(metavar="NAME,...", help="Names of the classes, in the file's order; repeatable.")
    ] = None,
    data: Annotated[
        str | None, Option(metavar="CONFIG", help="Config file whose training data name the classes.")
    ] = None,
) -> None:
    """Convert the weights of another project to a checkpoint."""
    if classes and data is not None:
        fail("--classes and --data both name the classes; use only one of them", 2)
    names = class_names(classes) if classes else None
    from retinacli.console import message
    from retinanet.checkpoints.checkpoint import MODEL, save
    from retinanet.checkpoints.convert import import_weights

    target = output or Path(file.stem + ".safetensors")
    taken = f"{target}: already exists; choose another file with -o"
    itself = os.path.realpath(target) == os.path.realpath(file)  # most likely a checkpoint, and refused as such
    if target.exists() and not itself:
        fail(taken, 1)
    check_writable(target)
    ids = None
    if data is not None:
        from retinanet.config_file import load_config
        from retinanet.data import open_dataset

        dataset = open_dataset(load_config(data).data, "train")
        names, ids = list(dataset.classes), dataset.category_ids
    model, metadata = import_weights(file, None, names, ids)
    if itself:
        fail(taken, 1)
    save(target, {MODEL + name: tensor for name, tensor in model.state_dict().items()}, metadata)
    message(f"wrote {target}: RetinaNet with {metadata.config.model.backbone} and {len(metadata.classes)} classes")
    if metadata.classes[0] == "class 1":
        message("its classes are named class 1, class 2, ...; --classes NAME,... or --data CONFIG gives their names")


def class_names(given: list[str]) -> list[str]:
    """The names in the values of --classes."""
    names = [name.strip() for value in given for name in value.split(",")]
    if "" in names:
        fail("--classes: a name is empty; expected names with a comma between them, such as cat,dog", 2)
    if repeated := next((name for name in names if names.count(name) > 1), None):
        fail(f"--classes: {repeated!r} is named twice; names must differ", 2)
    return names
