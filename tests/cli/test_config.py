"""`retina config`: the keys of a config on the terminal."""

import json

import pytest
from helpers.support import installed, retina

from retinanet.config.reference import config_keys


def test_one_key_with_its_default_bounds_and_source():
    result = installed("config", "train.batch_size")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "name         train.batch_size",
        "kind         whole number",
        "default      16",
        "bounds       1 to 65,536",
        "description  Number of images per batch. Paper, section 4.1.",
    ]


def test_all_keys_and_a_section():
    assert [key["name"] for key in keys()] == [key.name for key in config_keys()]
    section = [key["name"] for key in keys("train.augment")]
    assert section[0] == "train.augment" and "train.augment.flip" in section and "train.lr" not in section
    assert [key["name"] for key in keys("lr")] == ["train.lr"]
    table = retina("config", "detect")
    assert table.code == 0 and "detect.nms_iou" in table.out and "0 to 1" in table.out


def keys(*arguments: str) -> list[dict[str, str]]:
    return json.loads(retina("config", *arguments, "--json").out)["keys"]


@pytest.mark.parametrize(
    ("key", "hint"),
    [("zzz", "retina config lists all keys"), ("batch_sise", "did you mean batch_size?")],
)
def test_an_unknown_key(key, hint):
    result = retina("config", key)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"retina: unknown key {key}; ") and hint in result.err
