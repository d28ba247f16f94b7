"""A detector measured on a data set."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.support import retina

import retinanet
from retinanet.config.schema import AnchorConfig, DetectConfig
from retinanet.data.dataset import Dataset
from retinanet.data.shapes import open_shapes
from retinanet.data.transforms import Resizing
from retinanet.errors import DataError
from retinanet.evaluation.coco_metrics import measured
from retinanet.evaluation.evaluate import evaluate_model
from retinanet.evaluation.pycocotools_metrics import reference_metrics
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import Predictions


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    """The first 20 images of the embedded data set."""
    val, some = open_shapes("val"), 20
    end = val.first_object[some]
    of_images = {name: getattr(val, name)[:some] for name in ("image_ids", "sizes")}
    of_objects = {name: getattr(val, name)[:end] for name in ("boxes", "areas", "labels", "crowd", "annotation_ids")}
    return dataclasses.replace(val, first_object=val.first_object[: some + 1], **of_images, **of_objects)


class Oracle(torch.nn.Module):
    """Knows the objects of a data set: an anchor for each, with a high score. Elsewhere it detects a red circle."""

    def __init__(self, truth: Dataset, scale: float = 1):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(1))
        self.samples = {sample.image.tobytes(): sample for sample in (truth[i] for i in range(len(truth)))}
        self.scale = scale

    def forward(self, images, sizes):
        assert not self.training
        [image] = images.permute(0, 2, 3, 1)
        sample = self.samples.get(image.contiguous().numpy().tobytes())
        labels = torch.from_numpy(sample.labels) if sample else torch.zeros(1, dtype=torch.int64)
        boxes = self.scale * torch.from_numpy(sample.boxes) if sample else torch.tensor([[0.0, 0, 32, 32]])
        logits = torch.full((1, len(labels), 6), -20.0)
        logits[0, torch.arange(len(labels)), labels] = 5.0
        return Predictions([logits], [torch.zeros(1, len(boxes), 4)], [boxes])


@pytest.mark.parametrize("training", [True, False])
def test_a_detector_that_knows_all_gets_everything(shapes, training):
    told = []
    oracle = Oracle(shapes).train(training)
    got = evaluate_model(
        TorchModel(oracle),
        shapes,
        Resizing(128, 128),
        DetectConfig(nms_iou=1),
        progress=lambda *done: told.append(done),
    )
    assert got.metrics["AP"] == pytest.approx(1)
    assert len(got.results) == len(shapes.boxes) and got.notes == ()
    assert told == [(i, 20) for i in range(1, 21)]
    assert got.missed_objects is got.reference is None
    assert oracle.training == training  # evaluated as what `forward` asserts, and left as it was


def test_a_detector_that_sees_all_at_half_size_gets_little(shapes):
    half = TorchModel(Oracle(shapes, scale=0.5))
    assert evaluate_model(half, shapes, Resizing(128, 128), DetectConfig(nms_iou=1)).metrics["AP"] < 0.05


def test_the_objects_of_an_unreadable_image_are_missed(shapes):
    torn = copy.copy(shapes)

    def image(index: int) -> np.ndarray:
        if index == 3:
            raise DataError(f"{shapes.files[index]}: cannot be read")
        return shapes.image(index)

    torn.image = image
    got = evaluate_model(TorchModel(Oracle(shapes)), torn, Resizing(128, 128), DetectConfig(nms_iou=1))
    assert len(got.results) == len(shapes.boxes) - (shapes.first_object[4] - shapes.first_object[3])
    assert 3 not in got.results[:, 0]
    [note] = got.notes
    assert note.startswith("shapes-val-00003.png: cannot be read") and "missed" in note
    assert [result.objects for result in got.per_class] == np.bincount(shapes.labels, minlength=6).tolist()


def test_missed_objects_do_not_change_the_results(shapes):
    torn = copy.copy(shapes)

    def image(index: int) -> np.ndarray:
        if index == 3:
            raise DataError("cannot be read")
        return shapes.image(index)

    torn.image = image
    arguments = (torn, Resizing(128, 128), DetectConfig(nms_iou=1))
    for oracle in (Oracle(shapes), Oracle(shapes, scale=0.8)):
        plain = evaluate_model(TorchModel(oracle), *arguments)
        more = evaluate_model(TorchModel(oracle), *arguments, missed_objects=AnchorConfig())
        np.testing.assert_array_equal(plain.results, more.results)
        assert plain.metrics == more.metrics == reference_metrics(torn, more.results)
        counts = {at.stage: at.missed for at in more.missed_objects.by_stage}
        assert counts["unreadable image"] == shapes.first_object[4] - shapes.first_object[3]
        assert more.missed_objects.objects == len(shapes.boxes)
    assert (
        counts["no anchor"] == more.missed_objects.missed - counts["unreadable image"] > 10
    )  # an oracle's anchors are its boxes


SURE_OF_LITTLE = ["detect.score_threshold=0.0001"]


def test_the_funnel_judges_anchors_by_how_training_matches_them(tiny: Path, tiny_run: Path):
    counts = {}
    for matching in ("iou", "atss"):
        found = retinanet.evaluate(tiny_run, overrides=[f"anchors.matching={matching}"], missed_objects=True)
        counts[matching] = {at.stage: at.missed for at in found.missed_objects.by_stage}
    assert counts["iou"]["no anchor"] > counts["atss"]["no anchor"]
    without_box = [each["no anchor"] + each["box too loose"] for each in counts.values()]
    assert without_box[0] == without_box[1]


def test_one_line_gives_what_the_command_gives(tiny: Path, tiny_run: Path):
    result = retinanet.evaluate(tiny_run, tiny / "tiny.yaml", overrides=SURE_OF_LITTLE)
    command = retina("eval", tiny_run, "--data", tiny / "tiny.yaml", "--json", "--set", *SURE_OF_LITTLE)
    document = json.loads(command.out)
    assert {name: measured(value) for name, value in result.metrics.items()} == document["metrics"]
    assert len(result.results) > 100 and result.metrics["APl"] == -1  # the pictures have 128 x 128 pixels
    assert (result.ap, result.ap50, result.ap75) == tuple(document["metrics"][name] for name in ("AP", "AP50", "AP75"))
    assert [each["AP"] for each in document["per_class"]] == [measured(each.AP) for each in result.per_class]


def test_every_kind_of_detector_and_of_data_gives_the_same(tiny: Path, tiny_run: Path, onnx_file: Path):
    config = retinanet.load_config(tiny / "tiny.yaml")
    own = retinanet.evaluate(tiny_run)
    detector = retinanet.load(tiny_run, score_threshold=0.9)  # which is for people, not for AP
    for each in (config, str(tiny / "tiny.yaml"), own.dataset, None):
        assert np.array_equal(retinanet.evaluate(detector, each).results, own.results)
    exported = retinanet.evaluate(retinanet.load(onnx_file), config)
    assert exported.ap == pytest.approx(own.ap, abs=1e-3) and len(exported.results) == len(own.results)
    assert retinanet.evaluate(detector, config, "train").ap == retinanet.evaluate(tiny_run, split="train").ap


@pytest.mark.parametrize("name", ["tiny_run", "onnx_file"])
def test_data_of_fewer_classes_leave_the_detector_as_it_is(name: str, tiny: Path, request: pytest.FixtureRequest):
    detector = retinanet.load(request.getfixturevalue(name), score_threshold=0.0001)
    picture = tiny / "shapes" / "val" / "0.png"
    before = detector.predict(picture)
    two = retinanet.load_config(tiny / "tiny.yaml", ["data.classes=[blue circle, red square]"])
    result = retinanet.evaluate(detector, two, overrides=SURE_OF_LITTLE)
    assert [each.label for each in result.per_class] == ["blue circle", "red square"]
    assert set(result.results[:, 6]) == {0, 1}
    after = detector.predict(picture)
    assert len(before) == len(after) > 10 and np.array_equal(before.labels, after.labels)
    assert np.array_equal(before.scores, after.scores)
