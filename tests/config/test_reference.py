"""The reference of a config's keys: complete, and equal to the schema."""

from retinanet.config.parsing import config_to_dict
from retinanet.config.presets import PRESETS
from retinanet.config.reference import Key, config_keys, config_reference
from retinanet.config.schema import Config

KEYS = {key.name: key for key in config_keys()}


def test_every_key_has_a_description():
    assert [key.name for key in KEYS.values() if not key.description.endswith(".")] == []
    sections = config_to_dict(Config())
    expected = {f"{section}.{key}" for section, keys in sections.items() for key in keys}
    assert expected <= KEYS.keys() and {"data.val.images", "train.augment.flip"} <= KEYS.keys()


def test_type_default_and_bounds_come_from_the_schema():
    assert KEYS["train.batch_size"] == Key(
        "train.batch_size", "whole number", "16", "1 to 65,536", "Number of images per batch. Paper, section 4.1."
    )
    assert KEYS["model.p6_from"].kind == "one of `c5`, `p5`"
    sizes = KEYS["anchors.sizes"]
    assert (sizes.kind, sizes.default) == ("list of numbers", "[32, 64, 128, 256, 512]")
    assert sizes.bounds == "1e-06 to 1,000,000; 5 values, for P3 to P7"
    assert (KEYS["model.pretrained"].default, KEYS["train.lr"].default) == ("true", "null")
    assert KEYS["loss.alpha"].kind == "number or list of numbers or null"


def test_the_text_names_every_key_and_preset():
    text = config_reference()
    nested = [name for name in KEYS if "." in name]
    assert all(f"| `{name}` | " in text for name in nested) and all(f"| `{name}` | " in text for name in PRESETS)
    assert all(f"## {name}" in text for name in KEYS if "." not in name)
