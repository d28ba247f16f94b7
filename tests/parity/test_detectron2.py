"""The same function as detectron2's RetinaNet: outputs that it computed on given weights."""

import importlib.util
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from retinanet.checkpoints.convert import import_weights
from retinanet.losses.criterion import Targets, make_criterion
from retinanet.model.postprocess import detect


@pytest.fixture(scope="module")
def golden(shared_golden, tmp_path_factory):
    """The arrays, the facts beside them, and our model of the weights, which are laid into a model zoo's pickle."""
    recipe = importlib.util.spec_from_file_location("recipe", shared_golden / "recipe.py")
    module = importlib.util.module_from_spec(recipe)
    recipe.loader.exec_module(module)
    facts = json.loads((shared_golden / "detectron2_r50.json").read_text())
    file = tmp_path_factory.mktemp("detectron2") / "model.pkl"
    file.write_bytes(pickle.dumps({"model": module.fill(facts["shapes"]), "__author__": "Detectron2 Model Zoo"}))
    model, metadata = import_weights(file)
    return np.load(shared_golden / "detectron2_r50.npz"), facts, model, metadata


def pixels(arrays) -> torch.Tensor:
    return torch.from_numpy(arrays["image_bgr"][:, :, ::-1].copy()).permute(2, 0, 1)[None]


def test_raw_outputs(golden):
    arrays, _, model, _ = golden
    with torch.inference_mode():
        predictions = model(pixels(arrays))
    for name, step in (("logits", 997), ("deltas", 97), ("anchors", 101)):
        for level, own in enumerate(getattr(predictions, name)):
            expected = torch.from_numpy(arrays[f"{name}_p{level + 3}"])
            sampled = own.flatten()[::step] if name != "anchors" else own[::step]
            torch.testing.assert_close(sampled.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


def test_detections(golden):
    arrays, _, model, metadata = golden
    d = metadata.config.detect
    with torch.inference_mode():
        predictions = model(pixels(arrays))
        settings = (d.score_threshold, d.top_k, d.nms_iou, d.max_detections, d.clip_first)
        (found,) = detect(predictions, [(320, 416)], [(480, 624)], *settings)
    assert found.labels.tolist() == arrays["labels"].tolist()
    np.testing.assert_allclose(found.scores, arrays["scores"], atol=1e-4)
    np.testing.assert_allclose(found.boxes, arrays["boxes"], atol=1e-2)


def test_three_training_steps(golden):
    arrays, facts, model, metadata = golden
    facts = facts["training"]
    image = pixels(arrays)
    images = torch.cat([image, image.flip(3)])
    boxes = [torch.tensor(facts["gt_boxes"]), torch.zeros(0, 4)]
    labels = [torch.tensor(facts["gt_classes"]), torch.zeros(0, dtype=torch.int64)]
    with torch.no_grad():
        predictions = model(images)
    targets = Targets(boxes, labels, [torch.zeros(len(b), dtype=torch.bool) for b in boxes])
    criterion = make_criterion(metadata.config.loss, metadata.config.anchors)
    for step in facts["steps"]:
        losses = criterion(predictions, targets)
        assert criterion.running_normalizer == pytest.approx(step["normalizer"], rel=1e-6)
        assert float(losses["cls"]) == pytest.approx(step["loss_cls"], rel=1e-4)
        assert float(losses["box"]) == pytest.approx(step["loss_box_reg"], rel=1e-4)


def test_the_preset_is_stored(golden):
    config = golden[3].config
    assert (config.loss.box, config.loss.normalizer, config.data.resize) == ("l1", "exponential", "pil")
    assert config.model.stride_in_1x1 and config.anchors.force_best and not config.detect.clip_first
    assert golden[3].classes[0] == "person" and golden[3].category_ids[-1] == 90
    assert replace(config.anchors, force_best=False) == type(config.anchors)()
