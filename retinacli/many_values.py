"""Several values after one option: `--gamma 0 0.5 1` for `--gamma 0 --gamma 0.5 --gamma 1`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

ASSIGNMENT = re.compile(r"[\w.-]+=")  # the beginning of KEY=VALUE


class ManyValues(TyperCommand):
    """A command whose repeatable options take several values at once if their metavar ends in "...", such as `X...`.

    The values end at the next word that begins with "-" and is not a number, so arguments must come before such an
    option or after `--`. Where the metavar is `KEY=VALUE...`, they also end at a word without a key and "=".
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        many = {
            name: "=" in (option.metavar or "")
            for option in self.params
            if getattr(option, "multiple", False) and (option.metavar or "").endswith("...")
            for name in option.opts
        }
        return super().parse_args(ctx, spread(args, many))


def spread(words: Sequence[str], many: Mapping[str, bool]) -> list[str]:
    """Repeat each option in `many` before each of its values. many: option -> whether its values are KEY=VALUE."""
    out: list[str] = []
    option, values = "", 0  # the current option, or "", and its number of values so far
    for index, word in enumerate(words):
        if word == "--":
            return [*out, *words[index:]]
        name, equals, _ = word.partition("=")
        if name in many:
            option, values = name, int(bool(equals))
        elif word.startswith("-") and not _is_number(word):
            option = ""
        elif values and many.get(option) and not ASSIGNMENT.match(word):
            option = ""  # the word is an argument
        elif option:
            if values:
                out.append(option)
            values += 1
        out.append(word)
    return out


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
