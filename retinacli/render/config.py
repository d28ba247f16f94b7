"""Shows keys of a config."""

from collections.abc import Sequence
from itertools import groupby

from retinacli.console import print_json, print_table
from retinanet.config.reference import Key


def show_keys(keys: Sequence[Key], as_json: bool) -> None:
    """A table with a line between sections; a single key as a list of its properties."""
    plain = [{**vars(key), "kind": key.kind.replace("`", "")} for key in keys]
    if as_json:
        print_json({"keys": plain})
        return
    if len(plain) == 1:
        for name, value in plain[0].items():
            print(f"{name:<12} {value or 'none'}")
        return
    cells = [(key["name"], key["default"], _expected(key), key["description"]) for key in plain]
    sections = (list(rows) for _, rows in groupby(cells, key=lambda cell: cell[0].partition(".")[0]))
    print_table("Keys of a config", ("key", "default", "expected", "meaning"), *sections, text_columns=4)


def _expected(key: dict[str, str]) -> str:
    return f"{key['kind']}, {key['bounds']}" if key["bounds"] else key["kind"]
