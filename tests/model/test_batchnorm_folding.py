"""Folded normalisation computes what it did as a layer of its own, forward and backward."""

import copy

import pytest
import torch
from torch import Tensor, nn

from retinanet.model.backbone import Backbone, make_backbone
from retinanet.model.batchnorm_folding import fold_for_inference

IMAGES = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trunk_of(name: str, norm: str = "frozen_bn", **settings) -> Backbone:
    """In double precision, with statistics, scales and shifts that are not those of a fresh one."""
    torch.manual_seed(0)
    trunk = make_backbone(name, False, norm, 1, **settings).double()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return trunk


def unfolded(trunk: Backbone) -> Backbone:
    trunk = copy.deepcopy(trunk)
    for module in trunk.modules():
        vars(module).pop("forward", None)
    return trunk


def normalisations_run(trunk: Backbone) -> int:
    """Of how many the layer itself computes something, which leaves its output another than its input."""
    changed = []

    def look(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        changed.append(output is not inputs[0])

    for module in trunk.modules():
        if type(module) is nn.BatchNorm2d:
            module.register_forward_hook(look)
    trunk(IMAGES)
    return sum(changed)


@pytest.mark.parametrize(
    ("name", "settings"), [("resnet18", {}), ("resnet50", {"stride_in_1x1": True}), ("efficientnet_lite0", {})]
)
def test_features_and_gradients_are_those_of_separate_layers(name, settings):
    folded = trunk_of(name, **settings)
    plain = unfolded(folded)
    grads = []
    for trunk in (folded, plain):
        features = trunk(IMAGES)
        sum((f * f).sum() for f in features).backward()
        grads.append({key: p.grad for key, p in trunk.named_parameters() if p.requires_grad})
    for ours, theirs in zip(folded(IMAGES), plain(IMAGES), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert grads[0].keys() == grads[1].keys() and len(grads[0]) > 10
    for key, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][key], rtol=1e-8, atol=1e-9 * float(grad.abs().max()))


def test_no_normalisation_of_a_resnet_runs_by_itself():
    trunk = trunk_of("resnet18")
    assert normalisations_run(unfolded(trunk)) == 20
    assert normalisations_run(trunk) == 0


def test_names_and_tensors_stay():
    plain = unfolded(trunk_of("resnet18")).state_dict()
    folded = trunk_of("resnet18").state_dict()
    assert list(folded) == list(plain)
    assert all(torch.equal(folded[name], plain[name]) for name in plain)


def test_a_copy_folds_its_own_weights():
    first = trunk_of("resnet18")
    before = [f.clone() for f in first(IMAGES)]
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
        for module in second.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
    assert not any(f.any() for f in second(IMAGES))
    assert all(torch.equal(a, b) for a, b in zip(first(IMAGES), before, strict=True))


def test_learning_statistics_are_not_folded():
    trunk = trunk_of("resnet18", "bn")
    assert not any("forward" in vars(module) for module in trunk.modules())
    learning = trunk.body.layer3[0].bn1  # the first stages are frozen
    mean = learning.running_mean.clone()
    trunk.train()(IMAGES)
    assert not torch.equal(learning.running_mean, mean)


def test_folded_once_it_is_the_same_function():
    trunk = trunk_of("resnet50").train()
    once = fold_for_inference(copy.deepcopy(trunk))
    assert trunk.training and not once.training
    for ours, theirs in zip(once(IMAGES), unfolded(trunk)(IMAGES), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        trunk.body.conv1.weight.zero_()
    assert once(IMAGES)[0].any()
