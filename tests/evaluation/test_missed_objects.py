"""Why objects were missed: a case by hand for every stage, and all of them against the plain definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.scoring_cases import dataset, pycocotools_evaluation, random_case
from torchvision.ops import box_iou, nms

from retinanet.config.schema import AnchorConfig
from retinanet.data.dataset import Dataset, blank_sample
from retinanet.evaluation import missed_objects
from retinanet.evaluation.coco_metrics import score
from retinanet.evaluation.missed_objects import NOT_MISSED, MissedObjects, MissedObjectsObserver, match_detections
from retinanet.inference.results import coco_rows
from retinanet.model.anchors import make_anchors
from retinanet.model.boxes import clip, decode, encode
from retinanet.model.postprocess import detect_stages
from retinanet.model.retinanet import Predictions

STAGES = list(missed_objects.STAGES)
NONE = 1e-6
PAPER = AnchorConfig()
OBJECT, FAR = [20, 20, 60, 60], [70, 70, 90, 90]


def predictions(*levels) -> Predictions:
    """Of one image. Each level is a list of (anchor, probabilities of 2 classes) or (anchor, probabilities, box)."""
    logits, deltas, anchors = [], [], []
    for level in levels:
        p = torch.tensor([row[1] for row in level], dtype=torch.float64).reshape(1, -1, 2)
        logits.append(torch.log(p / (1 - p)).float())
        anchors.append(torch.tensor([row[0] for row in level], dtype=torch.float32).reshape(-1, 4))
        boxes = torch.tensor([row[-1] if len(row) == 3 else row[0] for row in level], dtype=torch.float32)
        deltas.append(encode(boxes.reshape(-1, 4), anchors[-1])[None])
    return Predictions(logits, deltas, anchors)


def observe(
    objects,
    *levels,
    labels=None,
    size=(100, 100),
    original=(100, 100),
    score_threshold=0.05,
    top_k=1000,
    nms_iou=0.5,
    max_detections=100,
    anchors=PAPER,
    **columns,
) -> tuple[list[str | None], MissedObjects]:
    """The stage of each of the `objects` (xyxy) of one image, None for a detected one, and the summary."""
    boxes = np.array(objects, np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    truth = dataset([len(boxes)], boxes, labels or [0] * len(boxes), **columns)
    image = predictions(*levels)
    [found] = detect_stages(image, [size], [original], score_threshold, top_k, nms_iou, max_detections)
    observer = MissedObjectsObserver(truth, score_threshold, anchors)
    observer.observe([replace(blank_sample(0, "0.jpg"), original_size=original)], image, [size], [found])
    rows = coco_rows(found.detections, 0)
    summary = observer.summary(rows)
    return [None if stage == NOT_MISSED else STAGES[stage] for stage in summary.stages], summary


def stages(*args, **settings) -> list[str | None]:
    return observe(*args, **settings)[0]


def test_detected():
    assert stages([OBJECT], [(OBJECT, [0.9, NONE])]) == [None]
    assert stages([OBJECT], [(FAR, [0.9, NONE], OBJECT)]) == [None]  # by an anchor from elsewhere


def test_no_anchor():
    assert stages([OBJECT], [(FAR, [0.9, 0.9])]) == ["no anchor"]
    assert stages([OBJECT], [([20, 20, 60, 39], [0.9, NONE])]) == ["no anchor"]  # IoU 19 / 40
    assert stages([OBJECT], []) == ["no anchor"]


def test_box_too_loose():
    assert stages([OBJECT], [(OBJECT, [0.9, 0.9], FAR)]) == ["box too loose"]
    assert stages([OBJECT], [([20, 20, 60, 40], [0.9, NONE], FAR)]) == ["box too loose"]  # IoU 0.5 counts
    assert stages([OBJECT], [(OBJECT, [0.9, NONE], [20, 20, 60, 39])]) == ["box too loose"]


def test_with_atss_an_anchor_fits_that_is_selected():
    # the anchors inside the object have IoUs of 0.25 and 0.11 with it, and the others 0: the first is selected
    atss = AnchorConfig(matching="atss", scales=(1,), ratios=(1,))
    inside, smaller = [[30, 30, 50, 50], [NONE, NONE], FAR], [[33, 33, 46, 46], [NONE, NONE], FAR]
    far = [([x, 80, x + 20, 100], [NONE, NONE]) for x in range(0, 80, 10)]
    level = [inside, smaller, *far]
    assert stages([OBJECT], level) == ["no anchor"]
    assert stages([OBJECT], level, anchors=atss) == ["box too loose"]
    assert stages([[0, 0, 9, 9]], level, anchors=atss) == ["no anchor"]  # no anchor's centre is inside
    # resized to half the width: the same anchors have other objects
    wide = [40, 20, 120, 60]
    assert stages([wide], level, size=(100, 100), original=(100, 200), anchors=atss) == ["box too loose"]
    assert stages([wide], level, size=(100, 200), original=(100, 200), anchors=atss) == ["no anchor"]


def test_a_box_is_clipped_to_the_image():
    edge = [60, 20, 100, 60]
    assert stages([edge], [(FAR, [0.01, NONE], [60, 20, 150, 60])]) == ["low score"]  # unclipped, IoU 4 / 9
    assert stages([edge], [([60, 20, 150, 60], [0.9, NONE], FAR)]) == ["no anchor"]  # anchors are not clipped


def test_wrong_class():
    assert stages([OBJECT], [(OBJECT, [0.01, 0.9])]) == ["wrong class"]
    # another class of another near box
    assert stages([OBJECT], [(OBJECT, [0.01, 0.01]), ([20, 20, 60, 50], [NONE, 0.06])]) == ["wrong class"]
    assert stages([OBJECT], [(OBJECT, [0.9, 0.01])], labels=[1]) == ["wrong class"]


def test_low_score():
    assert stages([OBJECT], [(OBJECT, [0.04, 0.04]), (FAR, [0.9, 0.9])]) == ["low score"]
    assert stages([OBJECT], [(OBJECT, [0.5, NONE])], score_threshold=0.6) == ["low score"]
    half = predictions([(OBJECT, [0.5, NONE])])
    assert torch.sigmoid(half.logits[0][0, 0, 0]) == 0.5
    assert stages([OBJECT], [(OBJECT, [0.5, NONE])], score_threshold=0.5) == ["low score"]  # must exceed it


def test_top_k():
    better = [(FAR, [0.9, NONE]), ([0, 70, 20, 90], [NONE, 0.8])]
    assert stages([OBJECT], [*better, (OBJECT, [0.7, NONE])], top_k=2) == ["top-k"]
    assert stages([OBJECT], better, [(OBJECT, [0.7, NONE])], top_k=2) == [None]  # per level
    assert stages([OBJECT], [*better, (OBJECT, [0.7, 0.75])], top_k=3) == ["top-k"]  # its class is what counts


def test_nms():
    near = [20, 20, 60, 50]  # IoU with the object 0.75
    suppressor = [20, 15, 60, 41]  # with `near` 0.6, with the object 21 / 45
    level = [(near, [0.8, NONE]), (suppressor, [0.9, NONE])]
    assert stages([OBJECT], level) == ["NMS"]
    assert stages([OBJECT], level, nms_iou=0.7) == [None]
    assert stages([OBJECT], [(near, [0.8, NONE])], [(suppressor, [NONE, 0.9])]) == [None]  # per class


def test_max_detections():
    better = [([10 * i, 80, 10 * i + 10, 90], [0.9, NONE]) for i in range(3)]
    assert stages([OBJECT], [*better, (OBJECT, [0.8, NONE])], max_detections=3) == ["max detections"]
    assert stages([OBJECT], [*better, (OBJECT, [0.8, NONE])], max_detections=4) == [None]


def test_coco_looks_at_100_detections_of_a_class():
    boxes = [[10 * (i % 10), 4 * (i // 10), 10 * (i % 10) + 10, 4 * (i // 10) + 4] for i in range(100)]
    of_class = [(box, [0.9, NONE]) for box in boxes]
    of_other = [(box, [NONE, 0.9]) for box in boxes]
    assert stages([OBJECT], [*of_class, (OBJECT, [0.8, NONE])], max_detections=300) == ["max detections"]
    assert stages([OBJECT], [*of_class[1:], (OBJECT, [0.8, NONE])], max_detections=300) == [None]
    assert stages([OBJECT], [*of_other, (OBJECT, [0.8, NONE])], max_detections=300) == [None]


def test_given_to_another_object():
    lower = [20, 24, 60, 64]
    assert stages([OBJECT, lower], [(OBJECT, [0.9, NONE])]) == [None, "given to another object"]
    assert stages([OBJECT, lower], [(lower, [0.9, NONE])]) == ["given to another object", None]
    # an object that is not near has other reasons, and so has one of another class
    assert stages([OBJECT, FAR], [(OBJECT, [0.9, NONE])]) == [None, "no anchor"]
    assert stages([OBJECT, lower], [(OBJECT, [0.9, NONE])], labels=[0, 1]) == [None, "wrong class"]


def test_the_box_that_gets_furthest_decides():
    # one near box is of too low a score, another is not in the top k, the third falls to NMS
    near, suppressor = [20, 20, 60, 50], [20, 15, 60, 41]
    level = [(OBJECT, [0.01, 0.9]), (OBJECT, [0.1, NONE]), (near, [0.8, NONE]), (suppressor, [0.9, NONE])]
    assert stages([OBJECT], level, top_k=3) == ["NMS"]
    assert stages([OBJECT], level[:2], [(FAR, [0.9, NONE])], top_k=1) == ["top-k"]
    assert stages([OBJECT], level[:1]) == ["wrong class"]


def test_unreadable_image():
    # an image without a size has no detections, whatever is predicted for the blank image in its place
    found, summary = observe([OBJECT, FAR], [(OBJECT, [0.9, NONE])], original=(0, 0), crowd=np.array([False, True]))
    assert found == ["unreadable image", None]
    assert (summary.objects, summary.missed) == (1, 1)


def test_crowds_are_not_missed():
    crowd = np.array([False, True])
    found, summary = observe([OBJECT, FAR], [(OBJECT, [0.01, NONE])], crowd=crowd)
    assert found == ["low score", None]
    assert (summary.objects, summary.missed) == (1, 1)


def test_in_pixels_of_the_original_image():
    # resized to 50 x 100 (height x width) from 100 x 300: x counts three times, y twice
    wide = [60, 40, 180, 120]
    assert stages([wide], [([20, 20, 60, 50], [0.01, NONE])], size=(50, 100), original=(100, 300)) == ["low score"]
    assert stages([wide], [(wide, [0.9, NONE])], size=(50, 100), original=(100, 300)) == ["no anchor"]


def test_sizes_and_what_each_stage_costs_by_hand():
    # areas as annotated: 1023, 1024 and 9216, and 9217 square pixels; all of one class
    boxes = [[0, 0, 30, 30], [40, 0, 70, 30], [0, 40, 30, 70], [40, 40, 70, 70]]
    scores = [0.01, 0.02, 0.03, 0.9]
    areas = np.array([1023.0, 1024, 9216, 9217])
    found, summary = observe(boxes, [(box, [p, NONE]) for box, p in zip(boxes, scores, strict=True)], areas=areas)
    assert found == ["low score"] * 3 + [None]
    by_stage = {at.stage: at for at in summary.by_stage}
    assert list(by_stage) == STAGES
    low = by_stage["low score"]
    assert (low.missed, low.small, low.medium, low.large) == (3, 1, 2, 0)
    assert pytest.approx(1) == low.AP50
    # nothing changes without objects: one of four detected is 26 of the 101 recalls
    assert [at.AP50 for at in summary.by_stage if at.stage != "low score"] == pytest.approx([26 / 101] * 8)
    assert [vars(image) for image in summary.worst] == [{"image_id": 0, "file": "0.jpg", "objects": 4, "missed": 3}]


def test_a_missed_object_gets_the_score_that_its_class_had():
    # a false positive at 0.5 stands before what would score 0.04, and behind what would score 1
    wrong = [0, 70, 20, 90]
    level = [(OBJECT, [0.9, NONE]), (wrong, [0.5, NONE])]
    _, low = observe([OBJECT, FAR], [*level, (FAR, [0.04, NONE]), (FAR, [0.03, 0.9])])
    _, absent = observe([OBJECT, FAR], level)
    assert pytest.approx((51 + 50 * 2 / 3) / 101) == low.by_stage[STAGES.index("wrong class")].AP50
    assert pytest.approx(1) == absent.by_stage[STAGES.index("no anchor")].AP50


@pytest.mark.parametrize("seed", range(4))
def test_the_matching_is_pycocotools(seed):
    truth, rows = random_case(seed)
    truth.areas[:2] = -1, 1e11  # areas that do not count
    owners = np.repeat(truth.image_ids, np.diff(truth.first_object))
    matches, ignored = 0, 0
    for item in pycocotools_evaluation(truth, rows).evalImgs:
        if item is None or item["aRng"] != [0, 1e10]:
            continue
        mine = (owners == item["image_id"]) & (np.array(truth.category_ids)[truth.labels] == item["category_id"])
        image, label = truth.image_ids.tolist().index(item["image_id"]), truth.category_ids.index(item["category_id"])
        found = rows[(rows[:, 0] == image) & (rows[:, 6] == label)]
        found = found[np.argsort(-found[:, 5], kind="stable")]
        got = match_detections(found[:, 1:5], truth.boxes[mine], truth.areas[mine], truth.crowd[mine])
        ids = np.append(truth.annotation_ids[mine], 0)[got]
        np.testing.assert_array_equal(ids[:100], item["dtMatches"][0])
        assert (got[100:] == -1).all()
        matches += (got >= 0).sum()
        ignored += (item["dtIgnore"][0] & (got[:100] >= 0)).sum()
    assert matches > 100 and ignored > 0


def random_predictions(seed: int, images: int = 30) -> tuple[Dataset, Predictions]:
    """Three classes at 128 x 120 pixels (height x width), 6 objects an image in original pixels, 256 x 300."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    anchors = make_anchors([(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)])
    areas, ratios = np.exp(rng.uniform(np.log([16, 0.5]), np.log([160, 2]), (6 * images, 2))).T
    sides = np.stack([areas * ratios**0.5, areas / ratios**0.5], axis=1).round()
    boxes = np.concatenate([(rng.random((6 * images, 2)) * (np.array([300, 256]) - sides)).round(), sides], axis=1)
    boxes[1::6] = boxes[::6] + rng.integers(-3, 4, (images, 4))  # neighbours, for NMS and the matching
    labels = rng.integers(0, 3, 6 * images)
    labels[1::6] = labels[::6]
    truth = dataset([6] * images, boxes, labels, crowd=rng.random(6 * images) < 0.15, category_ids=(3, 1, 7))
    logits = [2 * torch.randn(images, len(a), 3, generator=generator) - 6 for a in anchors]
    deltas = [0.25 * torch.randn(images, len(a), 4, generator=generator) for a in anchors]
    return truth, Predictions(logits, deltas, anchors)


SIZE, ORIGINAL, SETTINGS = (128, 120), (256, 300), (0.05, 60, 0.5, 50)


def plain_stage(predictions: Predictions, image: int, box: np.ndarray, label: int) -> str:
    """The definition, on whole arrays. box: xyxy original pixels, of an object that was missed."""
    threshold, top_k, nms_iou, max_detections = SETTINGS
    anchors = torch.cat(predictions.anchors)
    probability = torch.cat([level[image] for level in predictions.logits]).sigmoid()  # (R, K)
    boxes = clip(decode(torch.cat([level[image] for level in predictions.deltas]), anchors), SIZE)
    scale = torch.tensor([300 / 120, 2] * 2)
    goal = torch.from_numpy(box)[None].float()
    near = box_iou(boxes * scale, goal)[:, 0] >= 0.5
    if not near.any():
        return "box too loose" if (box_iou(anchors * scale, goal) >= 0.5).any() else "no anchor"
    above = probability > threshold
    if not above[near, label].any():
        return "wrong class" if above[near].any() else "low score"
    best = torch.cat(
        [
            p >= p.flatten().topk(min(top_k, p.numel())).values[-1]
            for p in probability.split([len(a) for a in predictions.anchors])
        ]
    )
    passed = above & best
    if not passed[near, label].any():
        return "top-k"
    survived = torch.zeros_like(passed)
    for k in range(3):
        rows = passed[:, k].nonzero()[:, 0]
        survived[rows[nms(boxes[rows], probability[rows, k], nms_iou)], k] = True
    if not survived[near, label].any():
        return "NMS"
    scores = probability[survived]
    kept = survived & (probability >= scores.topk(min(max_detections, len(scores))).values[-1])
    return "given to another object" if kept[near, label].any() else "max detections"


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_plain_definition_and_adds_up_to_what_pycocotools_misses(seed, monkeypatch):
    chunk = [1, 7000, 1 << 21][seed]  # 3069 anchors with 1, 2 or all objects at once
    monkeypatch.setattr(missed_objects, "CHUNK", chunk)
    truth, prediction = random_predictions(seed)
    images = len(truth)
    samples = [replace(blank_sample(i, f"{i}.jpg"), original_size=ORIGINAL) for i in range(images)]
    samples[5] = blank_sample(5, "5.jpg")
    found = detect_stages(prediction, [SIZE] * images, [s.original_size for s in samples], *SETTINGS)
    observer = MissedObjectsObserver(truth, SETTINGS[0], PAPER)
    for part in (slice(0, 7), slice(7, None)):  # in two batches
        some = Predictions(
            [x[part] for x in prediction.logits], [x[part] for x in prediction.deltas], prediction.anchors
        )
        observer.observe(samples[part], some, [SIZE] * len(samples[part]), found[part])
    rows = np.concatenate([coco_rows(f.detections, i) for i, f in enumerate(found) if i != 5])
    summary = observer.summary(rows)

    unmatched: set[int] = set()
    for item in pycocotools_evaluation(truth, rows).evalImgs:
        if item is not None and item["aRng"] == [0, 1e10]:
            lost = (item["gtMatches"][0] == 0) & (item["gtIgnore"] == 0)
            unmatched |= set(np.array(item["gtIds"])[lost].tolist())
    assert set(truth.annotation_ids[summary.stages != NOT_MISSED].tolist()) == unmatched
    assert summary.missed == len(unmatched)
    assert summary.objects == (~truth.crowd).sum()
    for at in summary.by_stage:
        assert at.missed == at.small + at.medium + at.large
        assert at.missed == (summary.stages == STAGES.index(at.stage)).sum()
        assert score(truth, rows).metrics["AP50"] <= at.AP50
    counts = np.bincount(np.flatnonzero(summary.stages != NOT_MISSED) // 6, minlength=images)
    assert [image.missed for image in summary.worst] == sorted(counts.tolist(), reverse=True)[:10]
    assert all(
        counts[image.image_id] == image.missed and image.file == f"{image.image_id}.jpg" for image in summary.worst
    )

    common = {*range(NOT_MISSED, len(STAGES))} - {STAGES.index("box too loose")}
    assert set(np.unique(summary.stages)) >= common
    for row in np.flatnonzero(summary.stages != NOT_MISSED):
        x, y, w, h = truth.boxes[row]
        expected = plain_stage(prediction, row // 6, np.array([x, y, x + w, y + h]), truth.labels[row])
        assert STAGES[summary.stages[row]] == ("unreadable image" if row // 6 == 5 else expected)
