"""Learning rates worked out by hand, weight decay, and the average of the weights."""

import math

import pytest
import torch

from retinanet.config.schema import TrainConfig
from retinanet.training.optimizer import WeightAverage, learning_rate, lr_factor, make_optimizer

PAPER = (2 / 3, 8 / 9)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.001),
        (250, 0.5005),
        (499, 0.998002),
        (500, 1),
        (59_999, 1),
        (60_000, 0.1),
        (79_999, 0.1),
        (80_000, 0.01),
        (89_999, 0.01),
    ],
)
def test_the_papers_schedule(step, factor):
    assert lr_factor(step, 90_000, "step", PAPER) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("steps", "warmup", "step", "factor"),
    [
        (100, None, 0, 0.001),  # ten steps of warm-up: a tenth of the run
        (100, None, 5, 0.5005),
        (100, None, 10, 1),
        (100, 0, 0, 1),
        (100, 20, 10, 0.5005),
        (5, None, 0, 1),  # too short for any
    ],
)
def test_warm_up(steps, warmup, step, factor):
    assert lr_factor(step, steps, "step", (), warmup) == pytest.approx(factor)


@pytest.mark.parametrize(("step", "factor"), [(0, 1), (25, 0.853553), (50, 0.5), (75, 0.146447), (99, 0.000247)])
def test_half_a_cosine(step, factor):
    assert lr_factor(step, 100, "cosine", PAPER, 0) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 7, 100, 1000])
def test_the_rate_rises_then_only_falls(steps, schedule):
    factors = [lr_factor(step, steps, schedule, PAPER) for step in range(steps)]
    peak = factors.index(max(factors))
    assert min(factors) > 0 and max(factors) <= 1 and peak <= steps / 10
    assert factors[:peak] == sorted(factors[:peak]) and factors[peak:] == sorted(factors[peak:], reverse=True)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 0.01),
        ({"batch_size": 4}, 0.0025),
        ({"batch_size": 8, "accumulate": 4}, 0.02),
        ({"optimizer": "adamw"}, 0.001),
        ({"optimizer": "adamw", "batch_size": 4}, 0.0005),  # the root of a quarter
        ({"batch_size": 4, "lr": 0.3}, 0.3),
        ({"optimizer": "adamw", "lr": 0.0}, 0.0),
    ],
)
def test_the_rate_follows_the_images_of_a_step(settings, rate):
    train = TrainConfig(**settings)
    assert learning_rate(train, train.batch_size * train.accumulate) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("settings", "kind", "decay"),
    [
        ({}, torch.optim.SGD, 1e-4),
        ({"optimizer": "adamw"}, torch.optim.AdamW, 0.05),
        ({"optimizer": "adamw", "weight_decay": 0.0}, torch.optim.AdamW, 0.0),
    ],
)
def test_only_matrices_decay_and_only_what_learns_is_held(settings, kind, decay):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    optimizer = make_optimizer(model, TrainConfig(**settings))
    assert type(optimizer) is kind
    held = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    vectors = [model[0].bias, model[1].weight, model[1].bias, model[2].bias]
    assert held == {id(model[0].weight): decay} | {id(p): 0.0 for p in vectors}


def test_a_step_by_hand():
    # SGD of rate 1, momentum 0.5, decay 0.1: the second step adds half of the first
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, 2.0)
    torch.nn.init.constant_(model.bias, 2.0)
    optimizer = make_optimizer(model, TrainConfig(momentum=0.5, weight_decay=0.1))
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    for weight, bias in ((2 - 1.2, 1), (0.8 - (1.08 + 0.6), 1 - 1.5)):
        model.weight.grad, model.bias.grad = torch.ones(1, 1), torch.ones(1)
        optimizer.step()
        assert (model.weight.item(), model.bias.item()) == pytest.approx((weight, bias))


class Values(torch.nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), value))
        self.register_buffer("running", torch.full((2,), value))
        self.register_buffer("count", torch.tensor(0))


def test_the_average_of_constant_weights_is_they():
    model = Values(0.1)
    average = WeightAverage(model, 0.998)
    for _ in range(50):
        average.update(model)
    assert all(torch.equal(average.tensors[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("decay", "values"),
    [
        # decay 1/10, 2/11, 3/12: 0.1 * 0 + 0.9 * 1; then 2/11 of it and 9/11 of 2; then a quarter and 3/4 of 3
        (0.998, [0.9, 19.8 / 11, 0.25 * 1.8 + 0.75 * 3]),
        (0.05, [0.95, 0.05 * 0.95 + 0.95 * 2, 0.05 * 1.9475 + 0.95 * 3]),  # held to the one given
    ],
)
def test_the_first_averages_by_hand(decay, values):
    model = Values(0.0)
    average = WeightAverage(model, decay)
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            model.weight.fill_(step), model.running.fill_(step), model.count.fill_(step)
        average.update(model)
        assert average.tensors["weight"].tolist() == pytest.approx([value] * 2)
        assert average.tensors["running"].tolist() == pytest.approx([value] * 2)
        assert average.tensors["count"].item() == step  # a count is not averaged
    assert model.weight.tolist() == [3, 3] and not average.tensors["weight"].requires_grad


def test_the_average_forgets_at_its_decay_in_the_end():
    model, average = Values(0.0), WeightAverage(Values(1.0), 0.9)
    average.updates = 1_000_000
    for _ in range(22):
        average.update(model)
    assert average.tensors["weight"][0].item() == pytest.approx(math.exp(22 * math.log(0.9)), rel=1e-4)
