"""`retina config`."""

from typing import Annotated

from typer import Argument

from retinacli import options
from retinacli.failure import fail


def config_command(
    key: Annotated[
        str | None, Argument(metavar="KEY", help="Key or section, such as train.lr, lr or train.  [default: all keys]")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Show the keys of a config, with their defaults, bounds and sources."""
    from retinacli.render.config import show_keys
    from retinanet.config.reference import config_keys
    from retinanet.messages import did_you_mean

    keys = list(config_keys())
    chosen = [each for each in keys if key is None or f".{each.name}.".startswith(f".{key}.")]
    chosen = chosen or [each for each in keys if each.name.endswith(f".{key}")]
    if not chosen:
        names = {each.name for each in keys} | {each.name.rpartition(".")[2] for each in keys}
        fail(f"unknown key {key}; {did_you_mean(key or '', sorted(names)) or 'retina config lists all keys'}", 2)
    show_keys(chosen, json_)
