"""Weights of torchvision's and detectron2's RetinaNets, converted to ours."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retinanet.checkpoints.foreign_files import MAX_FOREIGN_BYTES, foreign_tensors
from retinanet.checkpoints.metadata import Metadata
from retinanet.config.parsing import config_from_dict
from retinanet.config.presets import PRESETS
from retinanet.errors import CheckpointError
from retinanet.io.file_kinds import similar_file
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line
from retinanet.model.retinanet import RetinaNet, make_model

V1_SHA256 = "eeacb38b"  # first digits of torchvision's COCO_V1, which it runs with a batch norm epsilon of 0
EPSILON = 1e-5  # of our batch norms
BACKBONES = {6: "resnet50", 23: "resnet101", 36: "resnet152"}  # by the number of bottlenecks of C4
BGR_MEAN = (103.53, 116.28, 123.675)  # detectron2's default, on the scale 0 to 255

NAMES = (  # of torchvision's and detectron2's tensors, as patterns, and ours
    (r"backbone\.(?:body|bottom_up\.stem)\.(.+)", r"trunk.body.\1"),
    *((rf"backbone\.bottom_up\.res{i + 1}\.(.+)", rf"trunk.body.layer{i}.\1") for i in (1, 2, 3, 4)),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(\w+)", r"fpn.lateral.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(\w+)", r"fpn.output.\1.\2"),
    *((rf"backbone\.fpn_(lateral|output){level}\.(\w+)", rf"fpn.\1.{level - 3}.\2") for level in (3, 4, 5)),
    (r"backbone\.(?:fpn\.extra_blocks|top_block)\.(p6|p7)\.(\w+)", r"fpn.\1.\2"),
    (r"head\.(?:classification_head\.cls_logits|cls_score)\.(\w+)", r"cls_subnet.predict.\1"),
    (r"head\.(?:regression_head\.bbox_reg|bbox_pred)\.(\w+)", r"box_subnet.predict.\1"),
    (r"head\.(?:classification_head\.conv|cls_subnet)\.([\d.]+)\.(\w+)", r"cls_subnet.tower.\1.\2"),
    (r"head\.(?:regression_head\.conv|bbox_subnet)\.([\d.]+)\.(\w+)", r"box_subnet.tower.\1.\2"),
)
DETECTRON2_NORMS = (
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
NOT_WEIGHTS = ("anchor_generator.", "pixel_mean", "pixel_std")  # detectron2's buffers; their values are in our config


def import_weights(
    path: str | Path,
    zero_epsilon: bool | None = None,
    classes: Sequence[str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> tuple[RetinaNet, Metadata]:
    """The model of a weights file of torchvision's RetinaNet or of detectron2's model zoo, with the matching preset.

    zero_epsilon: whether torchvision's batch norms use an epsilon of 0; None: decided by the file's SHA-256.
    classes: the names of the classes, which the files lack; None: COCO's for 80 or 91 classes, else numbers.
    category_ids: of `classes`; None: 1, 2, ...
    Raises: CheckpointError if the file is not readable, is of neither project or has another number of classes.
    """
    path = Path(path)
    if not path.is_file():
        expected = "expected weights of torchvision (.pth) or detectron2 (.pkl, .pth)"
        if path.is_dir():
            raise CheckpointError(f"{path}: is a folder, {expected}")
        raise CheckpointError(f"{path}: no such file; {expected}{similar_file(path)}")
    content = read_bytes(path, MAX_FOREIGN_BYTES, CheckpointError)
    if zero_epsilon is None:
        zero_epsilon = hashlib.sha256(content).hexdigest().startswith(V1_SHA256)
    state = foreign_tensors(path, content)
    of_torchvision = "head.classification_head.cls_logits.weight" in state
    if not of_torchvision and "head.cls_score.weight" not in state:
        names = ", ".join(list(state)[:3])[:200]
        raise CheckpointError(f"{path}: is neither torchvision's RetinaNet nor detectron2's; it contains {names}, ...")
    try:
        converted = from_torchvision(state, zero_epsilon) if of_torchvision else from_detectron2(state)
        model, metadata = _make(*converted, str(path))
    except KeyError as error:
        raise CheckpointError(f"{path}: is not a supported RetinaNet: it has no tensor {error.args[0]}") from None
    except Exception as error:  # tensors of any shape and type can raise anything
        raise CheckpointError(f"{path}: is not a supported RetinaNet: {one_line(error)}") from None
    if classes is None:
        return model, metadata
    ids = range(1, len(classes) + 1) if category_ids is None else category_ids
    labels = _labels_of(ids, model.classes, of_torchvision, path)
    if labels != list(range(model.classes)):
        model.keep_classes(labels)
    return model, replace(metadata, classes=tuple(classes), category_ids=tuple(ids))


def _labels_of(ids: Sequence[int], held: int, of_torchvision: bool, path: Path) -> list[int]:
    """The label of each category among the `held` classes of a file; torchvision's class 0 may be the background.

    Raises: CheckpointError if the numbers do not fit.
    """
    if held == len(ids):
        return list(range(held))
    if of_torchvision and min(ids) >= 0 and held == max(ids) + 1:  # its training script takes ids for labels
        return list(ids)
    if of_torchvision and held == len(ids) + 1:
        return list(range(1, held))
    background = f", or {held - 1} if its class 0 is the background" if of_torchvision and held > 1 else ""
    raise CheckpointError(f"{path}: has {held} classes, but {len(ids)} names are given; expected {held}{background}")


def from_torchvision(state: Mapping[str, Tensor], zero_epsilon: bool) -> tuple[dict[str, Tensor], str, dict[str, Any]]:
    """Our tensors, the name of the preset, and further keys of the config's section `model`."""
    v2 = any(re.fullmatch(r"head\.classification_head\.conv\.\d\.1\.weight", name) for name in state)
    tensors = {}
    for name, tensor in _renamed(state).items():
        index = re.fullmatch(r"(cls_subnet|box_subnet)\.tower\.(\d)\.([01])\.(\w+)", name)
        if index:  # torchvision has blocks of convolution, normalisation (only V2) and ReLU; we have one sequence
            subnet, block, part, kind = index.groups()
            name = f"{subnet}.tower.{int(block) * (3 if v2 else 2) + int(part)}.{kind}"
        if ".predict." in name:  # from 3 ratios x 3 scales x columns to our 3 scales x 3 ratios x columns
            shape = tensor.shape
            tensor = tensor.reshape(3, 3, len(tensor) // 9, *shape[1:]).transpose(0, 1).reshape(shape)
        tensors[name] = tensor
    for name in [name for name in tensors if v2 and re.fullmatch(r"\w+\.tower\.[0369]\.weight", name)]:
        tensors[name.replace("weight", "bias")] = torch.zeros(len(tensors[name]))  # ours have one even before GN
    if zero_epsilon:
        # w / sqrt(v) = w' / sqrt(v + eps)
        for name in [name for name in tensors if name.endswith("running_var")]:
            variance, scale = tensors[name], name.replace("running_var", "weight")
            tensors[scale] = tensors[scale] * torch.sqrt((variance + EPSILON) / variance)
    return tensors, "torchvision_v2" if v2 else "torchvision", {}


def from_detectron2(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str, dict[str, Any]]:
    """See `from_torchvision`."""
    tensors = _renamed(state)
    tensors["trunk.body.conv1.weight"] = tensors["trunk.body.conv1.weight"].flip(1)  # BGR
    return tensors, "detectron2", {"pixel_mean": BGR_MEAN[::-1], "pixel_std": (1.0, 1.0, 1.0), "stride_in_1x1": True}


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(NOT_WEIGHTS):
            continue
        ours = next((match.expand(new) for pattern, new in NAMES if (match := re.fullmatch(pattern, name))), None)
        if ours is None:
            raise ValueError(f"unexpected tensor {name}")
        for pattern, new in DETECTRON2_NORMS:
            ours = re.sub(pattern, new, ours)
        renamed[ours] = tensor
    return renamed


def _make(tensors: dict[str, Tensor], preset: str, keys: dict[str, Any], source: str) -> tuple[RetinaNet, Metadata]:
    blocks = {name.split(".")[3] for name in tensors if name.startswith("trunk.body.layer3.")}
    if len(blocks) not in BACKBONES:
        raise ValueError(
            f"C4 has {len(blocks)} blocks, expected {', '.join(map(str, BACKBONES))}, for 50, 101 or 152 layers"
        )
    classes = len(tensors["cls_subnet.predict.bias"]) // 9
    if not classes:
        raise ValueError("it has no classes")
    values = PRESETS[preset].get("model", {}) | {"backbone": BACKBONES[len(blocks)]} | keys
    config = config_from_dict(PRESETS[preset] | {"model": values}, source)
    model = make_model(config.model, config.anchors, classes, pretrained=False)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    fresh = [name for name in missing if not name.endswith("num_batches_tracked")]  # frozen batch norms have no counter
    if fresh or unexpected:
        raise ValueError(
            f"missing {', '.join(fresh[:3]) or 'nothing'}, unexpected {', '.join(unexpected[:3]) or 'nothing'}"
        )
    return model.eval(), Metadata(config, *_names(classes))


def _names(classes: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids: COCO's 80, torchvision's 91 (11 of them unused), or numbers from 1."""
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

    categories = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # index: category id
    used = [i for i, name in enumerate(categories) if i and name != "N/A"]
    if classes == len(used):
        return tuple(categories[i] for i in used), tuple(used)
    if classes == len(categories):
        return tuple(name if i in used else f"unused {i}" for i, name in enumerate(categories)), tuple(range(classes))
    return tuple(f"class {i}" for i in range(1, classes + 1)), tuple(range(1, classes + 1))
