"""`retina check`."""

from typing import Annotated

import typer
from typer import Option

from retinacli import options


def check_command(
    config: options.Config,
    fast: Annotated[bool, Option("--fast", help="Read only the headers of the images, not their pixels.")] = False,
    set_: options.Set = None,
    json_: options.Json = False,
) -> None:
    """Check a data set for errors before training."""
    from retinacli.console import counter
    from retinacli.render.check import show_check
    from retinanet.config_file import load_config
    from retinanet.dataset_analysis.check import check

    settings = load_config(config, set_ or [])
    with counter("images") as progress:
        report = check(settings, fast, progress)
    show_check(report, json_)
    if report.count("error"):
        raise typer.Exit(1)
