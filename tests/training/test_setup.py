"""What a run checks, builds and measures before its first step."""

from contextlib import closing
from pathlib import Path

import pytest
import torch

from retinanet.config.schema import LossConfig
from retinanet.config_file import load_config
from retinanet.errors import ConfigError
from retinanet.training.plan import advice, make_plan
from retinanet.training.setup import check_alpha, start_run
from retinanet.training.train import save_checkpoint


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


def test_the_time_estimate_changes_nothing_of_the_run(tiny: Path, tmp_path: Path):
    config = load_config(tiny / "tiny.yaml", ["loss.normalizer=exponential", "model.trunk_norm=bn"])
    run = start_run(config, tmp_path / "run", resume=False, force=False)
    with closing(run.folder):
        before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        plan = make_plan(run)
        assert plan.seconds > 0 and plan.steps == 4
        assert run.method.criterion.running_normalizer == 100
        assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
        assert all(parameter.grad is None for parameter in run.model.parameters())
        assert run.model.training and not run.optimizer.state


def test_the_time_estimate_draws_no_random_number_of_the_run(tiny: Path, tmp_path: Path):
    run = start_run(load_config(tiny / "tiny.yaml"), tmp_path / "run", resume=False, force=False)
    with closing(run.folder):
        run.model.register_forward_pre_hook(
            lambda *_: torch.manual_seed(1) and None
        )  # like dropout; copies keep the hook
        before = torch.get_rng_state()
        make_plan(run)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("overrides", "images", "rate"),
    [
        (["train.batch_size=4"], 4, 0.0025),
        (["train.batch_size=16"], 8, 0.005),  # there are eight images
        (["train.batch_size=16", "train.accumulate=4"], 8, 0.005),  # and one batch in an epoch
        (["train.batch_size=2", "train.accumulate=2"], 4, 0.0025),
        (["train.batch_size=16", "train.lr=0.3"], 8, 0.3),
    ],
)
def test_the_learning_rate_is_for_the_images_that_a_step_has(tiny: Path, tmp_path: Path, overrides, images, rate):
    config = load_config(tiny / "tiny.yaml", ["train.optimizer=sgd", *overrides])
    run = start_run(config, tmp_path / "run", resume=False, force=False)
    with closing(run.folder):
        assert (run.images_per_step, run.learning_rate) == (images, pytest.approx(rate))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.backbone=resnet18"],
            ["data.short_side=416 instead of 800", "model.backbone=efficientnet_lite0", "fewer train.epochs than 2"],
        ),
        (["data.short_side=320", "train.steps=9"], ["CPU; fewer train.steps take less"]),
    ],
)
def test_a_long_run_on_a_cpu_is_told_what_makes_it_shorter(tiny: Path, tmp_path: Path, overrides, words):
    config = load_config(tiny / "tiny.yaml", ["data.short_side=800", "train.device=cpu", *overrides])
    run = start_run(config, tmp_path / "run", resume=False, force=False)
    with closing(run.folder):
        assert all(word in advice(run, 5 * 3600) for word in words)
        assert advice(run, 600) == ""


@pytest.mark.parametrize(("times", "precision"), [((2, 1), "bf16"), ((1, 2), "fp32")])
def test_a_run_keeps_the_precision_that_auto_chose(tiny: Path, tmp_path: Path, times, precision: str):
    config = load_config(tiny / "tiny.yaml", ["train.precision=auto", "train.epochs=1"])
    run = start_run(config, tmp_path / "run", resume=False, force=False, times=lambda passes: times)
    with closing(run.folder):
        assert run.config.train.precision == make_plan(run).precision == precision
        save_checkpoint(run)
    assert load_config(tmp_path / "run" / "config.yaml").train.precision == precision
    # on a processor where the other is faster
    run = start_run(config, tmp_path / "run", resume=True, force=False, times=lambda passes: times[::-1])
    with closing(run.folder):
        assert run.config.train.precision == precision
    assert load_config(tmp_path / "run" / "config.yaml").train.precision == precision
