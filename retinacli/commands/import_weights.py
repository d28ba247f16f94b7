"""`retina import`."""

import os
from pathlib import Path
from typing import Annotated

from typer import Argument

from retinacli import options
from retinacli.failure import fail


def import_command(
    file: Annotated[
        Path, Argument(metavar="FILE", help="RetinaNet weights of torchvision (.pth) or detectron2 (.pkl, .pth).")
    ],
    output: Annotated[
        Path | None, options.output("FILE", "Checkpoint to write.  [default: <FILE's name>.safetensors]")
    ] = None,
) -> None:
    """Convert the weights of another project to a checkpoint."""
    from retinacli.console import message
    from retinanet.checkpoints.checkpoint import MODEL, save
    from retinanet.checkpoints.convert import import_weights

    target = output or Path(file.stem + ".safetensors")
    taken = f"{target}: already exists; choose another file with -o"
    itself = os.path.realpath(target) == os.path.realpath(file)  # most likely a checkpoint, and refused as such
    if target.exists() and not itself:
        fail(taken, 1)
    model, metadata = import_weights(file)
    if itself:
        fail(taken, 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    save(target, {MODEL + name: tensor for name, tensor in model.state_dict().items()}, metadata)
    message(f"wrote {target}: RetinaNet with {metadata.config.model.backbone} and {len(metadata.classes)} classes")
