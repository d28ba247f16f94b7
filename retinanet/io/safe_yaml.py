"""YAML that people write: plain values alone, and nothing that grows without bound as it is read."""

from pathlib import Path
from typing import Any

import yaml

from retinanet.errors import ConfigError, RetinaNetError
from retinanet.io.size_limits import read_bytes
from retinanet.messages import kind_of, one_line

MAX_BYTES = 1_000_000
MAX_SIZE = 100_000  # of all values, aliases expanded; 2 s of PyYAML's parser
MAX_DIGITS = 1000  # of a number; Python writes out 4300 at most, and 16 ** 4300 has more
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Bounded:
    """In front of a loader of PyYAML's, whose aliases may stand for each other a billion times.

    The size of a value is 1, and 1 for every hundred letters; that of a list or mapping all of what it holds, too.
    """

    def __init__(self, stream: str | bytes):
        super().__init__(stream)  # type: ignore[call-arg]
        self.size = 0  # of what was read so far
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        before, is_alias = self.size, self.check_event(yaml.AliasEvent)  # type: ignore[attr-defined]
        node = super().compose_node(parent, index)  # type: ignore[misc]
        if is_alias:
            if node not in self.sizes:
                raise ValueError("an alias stands inside what it names")
            self.size += self.sizes[node]
        else:
            if scalar := isinstance(node, yaml.ScalarNode):
                node.value.encode()  # half a letter, as "\ud800" writes one, is no text
            if scalar and node.tag in NUMBERS and len(node.value) > MAX_DIGITS:
                raise ValueError(f"a number has {len(node.value):,} digits, expected at most {MAX_DIGITS:,}")
            self.size += 1 + (len(node.value) // 100 if scalar else 0)
            self.sizes[node] = self.size - before
        if self.size > MAX_SIZE:
            raise ValueError("it holds too many values, or its aliases stand for too many")
        return node


class _Values(_Bounded, yaml.SafeLoader):
    """Numbers, truth values and text."""


class _Texts(_Bounded, yaml.BaseLoader):
    """Text alone."""


def load_yaml(content: str | bytes, as_text: bool = False) -> Any:
    """The value in `content`. as_text: each scalar as its text. Raises: ValueError that tells why it cannot be read."""
    try:
        return yaml.load(content, _Texts if as_text else _Values)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # YAMLError, and what its constructors trip over: `!!bool x` is a KeyError
        raise ValueError(one_line(error)) from None


def read_mapping(
    file: Path, expected: str, as_text: bool = False, error: type[RetinaNetError] = ConfigError
) -> dict[Any, Any]:
    """What a YAML file holds. expected: its keys, for the message. as_text: as `load_yaml` takes it. Raises: `error`."""
    content = read_bytes(file, MAX_BYTES, error)
    try:
        values = load_yaml(content, as_text)
    except ValueError as fault:
        raise error(f"{file}: is not readable YAML: {fault}") from None
    if not isinstance(values, dict):
        raise error(f"{file}: holds {kind_of(values)}, expected a mapping with {expected}")
    return values
