"""The file of score thresholds, one for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retinanet.errors import ConfigError
from retinanet.io.safe_yaml import read_mapping
from retinanet.messages import did_you_mean


def load_thresholds(path: str | Path, classes: Sequence[str], category_ids: Sequence[int]) -> tuple[float, ...]:
    """Read the score threshold of each class, in 0..1, from a file of `save_thresholds`, possibly edited by hand.

    Each entry has `threshold`, and `label` or `category_id` or both. Raises: ConfigError.
    """
    entries = read_mapping(Path(path), "a list `classes`").get("classes")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path}: classes is not a list of mappings; expected label and threshold for each class")
    known = [{"label": label, "category_id": i} for label, i in zip(classes, category_ids, strict=True)]
    shown = [f"{label} ({i})" for label, i in zip(classes, category_ids, strict=True)]
    thresholds: dict[int, float] = {}
    for number, entry in enumerate(entries, 1):
        label = _label(f"{path}: classes, entry {number}", entry, known)
        if label in thresholds:
            raise ConfigError(f"{path}: {shown[label]} is listed twice; expected one threshold for each class")
        thresholds[label] = _number(f"{path}: {shown[label]}", entry.get("threshold"))
    if missing := [name for label, name in enumerate(shown) if label not in thresholds]:
        raise ConfigError(f"{path}: has no threshold for {', '.join(missing)}; expected one for each class")
    return tuple(thresholds[label] for label in range(len(classes)))


def _label(where: str, entry: dict[str, Any], known: Sequence[dict[str, Any]]) -> int:
    """The index in `known` of the class that `entry` names. where: the entry, for messages."""
    keys = [key for key in ("label", "category_id") if key in entry]
    if not keys:
        raise ConfigError(f"{where} has no label; expected label or category_id, and threshold")
    given, *names = (" ".join(str(named[key]) for key in keys) for named in (entry, *known))
    if names.count(given) > 1:
        raise ConfigError(f"{where}: {given} is the name of {names.count(given)} classes; expected category_id")
    if given not in names:
        hint = did_you_mean(given, names) or f"the detector knows {', '.join(names[:10])}"
        raise ConfigError(f"{where}: unknown class {given!r:.100}; {hint}")
    return names.index(given)


def _number(where: str, value: Any) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise ConfigError(f"{where}: threshold is {value!r:.100}, expected a number in 0..1")
    return number
