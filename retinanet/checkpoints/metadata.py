"""The metadata stored with a detector's weights in checkpoints and exported models."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retinanet.config.parsing import config_from_dict, config_to_dict
from retinanet.config.schema import Config
from retinanet.errors import CheckpointError, ConfigError
from retinanet.messages import one_line

VERSION = "1"


@dataclass(frozen=True)
class Metadata:
    """Resolved config, K class names, category id of each class in the data set, and progress of the run."""

    config: Config
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    progress: dict[str, Any] = field(default_factory=dict)


def to_record(metadata: Metadata) -> dict[str, str]:
    """`metadata` as text values, which every file format supports."""
    return {
        "format": "retina",
        "version": VERSION,
        "config": json.dumps(config_to_dict(metadata.config)),
        "classes": json.dumps(metadata.classes),
        "category_ids": json.dumps(metadata.category_ids),
        "progress": json.dumps(metadata.progress),
    }


def from_record(record: Mapping[str, str], file: Path) -> Metadata:
    """The inverse of `to_record`. file: for messages. Raises: CheckpointError."""
    if record.get("version") != VERSION:
        raise CheckpointError(f"{file}: has format version {record.get('version')!s:.100}, expected {VERSION}")
    try:
        metadata = Metadata(
            config=config_from_dict(json.loads(record["config"]), f"{file}: its config is not valid"),
            classes=tuple(str(name) for name in json.loads(record["classes"])),
            category_ids=tuple(int(i) for i in json.loads(record["category_ids"])),
            progress=dict(json.loads(record["progress"])),
        )
        "".join(metadata.classes).encode()  # fails for an unpaired surrogate, which JSON allows
    except KeyError as error:
        raise CheckpointError(f"{file}: its metadata is damaged: it has no {error.args[0]}") from None
    except (LookupError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: its metadata is damaged: {one_line(error, 'a value is of another kind')}"
        ) from None
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    names, ids = metadata.classes, metadata.category_ids
    if not names or len(names) != len(ids) or len(set(ids)) < len(ids) or any(abs(i) >= 2**63 for i in ids):
        raise CheckpointError(
            f"{file}: its metadata is damaged: {len(names)} classes with {len(set(ids))} category ids"
        )
    return metadata
