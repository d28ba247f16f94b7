"""`retina import`."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from retinacli import options
from retinacli.failure import check_writable, fail


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
    if target.exists():
        fail(f"{target}: already exists; choose another file with -o", 1)
    check_writable(target)
    model, metadata = import_weights(file)
    save(target, {MODEL + name: tensor for name, tensor in model.state_dict().items()}, metadata)
    message(f"wrote {target}: RetinaNet with {metadata.config.model.backbone} and {len(metadata.classes)} classes")
