"""YAML files of users: only plain values, with limits on size so that a hostile file cannot fill the memory."""

from pathlib import Path
from typing import Any

import yaml

from retinanet.errors import ConfigError, RetinaNetError
from retinanet.io.size_limits import read_bytes
from retinanet.messages import kind_of, one_line, shortened

MAX_YAML_BYTES = 1_000_000
MAX_VALUES = 100_000  # with aliases expanded; PyYAML needs 2 s for so many
LETTERS_PER_VALUE = 100  # a text counts as one more value for each hundred letters
MAX_DIGITS = 1000  # of a number; Python prints at most 4300
NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Bounded:
    """Counts the values that PyYAML's loader composes, since aliases of aliases can stand for a billion of them."""

    def __init__(self, stream: str | bytes):
        super().__init__(stream)  # type: ignore[call-arg]
        self.size = 0  # in values, of all that was read so far
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        before, is_alias = self.size, self.check_event(yaml.AliasEvent)  # type: ignore[attr-defined]
        node = super().compose_node(parent, index)  # type: ignore[misc]
        if is_alias:
            if node not in self.sizes:
                raise ValueError("an alias is inside the value that it stands for")
            self.size += self.sizes[node]
        else:
            text = node.value if isinstance(node, yaml.ScalarNode) else ""
            text.encode()  # fails for half of a surrogate pair, such as "\ud800"
            if node.tag in NUMBER_TAGS:
                _check_number(text, node.start_mark.line + 1)
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
            self.size += 1 + len(text) // LETTERS_PER_VALUE
            self.sizes[node] = self.size - before
        if self.size > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values, with aliases expanded")
        return node


def _check_number(text: str, line: int) -> None:
    """Raises: ValueError for a number that is too long, or that YAML 1.1 reads to the base of 60, as it does 12:30."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits, expected at most {MAX_DIGITS:,}")
    if ":" in text:
        number = yaml.safe_load(text)
        raise ValueError(
            f'line {line}: YAML reads {text} as the number {number}; quote it, "{text}", or write {number}'
        )


def _check_keys(node: yaml.MappingNode) -> None:
    """Raises: ValueError for a key that stands twice in a mapping, of which PyYAML keeps the last."""
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            named, line = (key.tag, key.value), key.start_mark.line + 1
            if named in lines:
                name = shortened(key.value)
                raise ValueError(f"the key {name} is on line {lines[named]} and again on line {line}; keep one of them")
            lines[named] = line


class _Values(_Bounded, yaml.SafeLoader):
    """Reads numbers, truth values and text."""


class _Texts(_Bounded, yaml.BaseLoader):
    """Reads every scalar as text."""


def load_yaml(content: str | bytes, as_text: bool = False) -> Any:
    """The value of a YAML document. as_text: whether each scalar stays text. Raises: ValueError with the reason."""
    try:
        return yaml.load(content, _Texts if as_text else _Values)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # YAMLError, or any other error of a constructor: `!!bool x` is a KeyError
        raise ValueError(one_line(error, "a value is not what its tag, such as !!int, says")) from None


def read_mapping(
    file: Path, expected: str, as_text: bool = False, error: type[RetinaNetError] = ConfigError
) -> dict[Any, Any]:
    """The mapping in a YAML file. expected: its keys, for messages. as_text: as in `load_yaml`. Raises: `error`."""
    content = read_bytes(file, MAX_YAML_BYTES, error)
    try:
        values = load_yaml(content, as_text)
    except ValueError as reason:
        raise error(f"{file}: is not readable YAML: {reason}") from None
    if not isinstance(values, dict):
        raise error(f"{file}: contains {kind_of(values)}, expected a mapping with {expected}")
    return values
