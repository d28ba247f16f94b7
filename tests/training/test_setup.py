"""What a run checks and builds before its first step."""

import pytest

from retinanet.config.schema import LossConfig
from retinanet.errors import ConfigError
from retinanet.training.setup import check_alpha


def test_a_list_of_alpha_needs_one_for_each_class():
    assert check_alpha(LossConfig(alpha=(0.1, 0.2)), 2) == []
    with pytest.raises(ConfigError, match=r"loss.alpha has 3 values, expected 1 or 2 \(one for each class\)"):
        check_alpha(LossConfig(alpha=(0.1, 0.2, 0.3)), 2)


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, False),
        ({"gamma": 0.0}, False),  # alpha follows gamma
        ({"gamma": 0.0, "alpha": 0.25}, True),
        ({"gamma": 0.5, "alpha": 0.25}, False),
        ({"classification": "ohem"}, False),
    ],
)
def test_an_alpha_that_gives_objects_little_weight_is_a_warning(settings, warned):
    words = "with loss.gamma 0, loss.alpha 0.25 gives objects less weight than background"
    assert any(words in text for text in check_alpha(LossConfig(**settings), 6)) == warned
