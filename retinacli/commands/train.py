"""`retina train`."""

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from typer import Option

from retinacli import options
from retinacli.failure import fail
from retinacli.processes import in_processes
from retinacli.stop_signals import Stop, stoppable
from retinanet.devices import usable_cores
from retinanet.distributed import current_processes, launch, started_by_torchrun


@in_processes
def train_command(
    config: options.Config,
    output: Annotated[Path | None, options.output("DIR", "Folder of the run.  [default: runs/<CONFIG's name>]")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run from its last checkpoint.")] = False,
    force: Annotated[bool, Option("--force", help="Resume even if the config or the data have changed.")] = False,
    set_: options.Set = None,
    epochs: options.Epochs = None,
    batch_size: Annotated[
        int | None, Option(metavar="N", help="Number of images per training step.  [default: train.batch_size]")
    ] = None,
    lr: Annotated[float | None, Option(metavar="X", help="Learning rate.  [default: train.lr]")] = None,
    preset: Annotated[
        str | None, Option(metavar="NAME", help="Start from the defaults of detectron2, torchvision or torchvision_v2.")
    ] = None,
    seed: Annotated[int | None, Option(metavar="N", help="Seed of all random numbers.  [default: train.seed]")] = None,
    device: options.Device = None,
    devices: Annotated[
        int | None,
        Option(min=1, metavar="N", help="Processes of this machine, one for each GPU.  [default: 1]"),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Train a detector on a data set.

    The run's folder receives checkpoints, metrics and their curves.
    """
    if force and not resume:
        fail("--force needs --resume", 2)
    from retinanet.config_file import load_config

    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": device}
    settings = load_config(config, options.overrides(set_, **flags), preset)
    folder = output or Path("runs") / Path(config).stem
    from retinacli.render.train import show_result, show_training  # loads torch, after errors in the config
    from retinanet.training.events import Done
    from retinanet.training.run_folder import check_started
    from retinanet.training.train import training_events

    if devices is not None and devices > 1 and not started_by_torchrun():
        if resume:
            check_started(folder)
        raise SystemExit(launch(sys.argv[1:], devices, usable_cores()))
    end = best = None
    with stoppable() as stop, suppress(KeyboardInterrupt):
        end, best = show_training(training_events(settings, folder, resume, force, stop), stop)
        stop.share()
    if not isinstance(end, Done):
        fail(stop_message(stop, folder, end.step if end else None, resume), stop.code)
    show_result(end, best, json_)


def stop_message(stop: Stop, folder: Path, step: int | None, resume: bool) -> str:
    """How a run ended early and how to continue it. step: the saved step; None if it was interrupted at once."""
    if step is None and not (folder / "config.yaml").exists():
        return f"{stop.name} before the run began"
    again = shlex.join([*sys.argv[1:], *([] if resume else ["--resume"])])
    command = "retina" if current_processes().world == 1 or "--devices" in sys.argv else "torchrun ... -m retinacli"
    saved = "" if step is None else f" and saved after step {step}"
    return f"{stop.name}{saved}; continue with: {command} {again}"
