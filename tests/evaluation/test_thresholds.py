"""Score thresholds of each class: cases by hand, a plain loop over pycocotools' matching, and the file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.scoring_cases import dataset, pycocotools_evaluation, random_case
from hypothesis import given
from hypothesis import strategies as st

from retinanet.errors import ConfigError
from retinanet.evaluation import thresholds as module
from retinanet.evaluation.score_cutoffs import make_rankings, shortest_number_between
from retinanet.evaluation.thresholds import choose_thresholds, save_thresholds
from retinanet.inference.threshold_file import load_thresholds
from retinanet.model.postprocess import detect
from retinanet.model.retinanet import Predictions

BOX, ELSEWHERE = [0, 0, 10, 10], [50, 50, 10, 10]


def case(objects, found, categories=(1,)):
    """Images with one object each, the first `objects` of them. found: (image, right, score) of class 1."""
    images = max([objects, *(image + 1 for image, _, _ in found)])
    counts = [1] * objects + [0] * (images - objects)
    rows = [[image, *(BOX if right else ELSEWHERE), np.float32(score), 0] for image, right, score in found]
    return dataset(counts, [BOX] * objects, [0] * objects, category_ids=categories), np.reshape(rows, (-1, 7))


# right of accepted: 1/1, 1/2, 2/3, 2/4, 2/5; of 3 objects
FIVE = case(3, [(0, True, 0.9), (0, False, 0.8), (1, True, 0.7), (1, False, 0.6), (2, False, 0.5)])


@pytest.mark.parametrize(
    ("wanted", "threshold", "precision", "recall", "f1"),
    [
        (None, 0.65, 2 / 3, 2 / 3, 2 / 3),  # F1 of the five cuts: 2/4, 2/5, 4/6, 4/7, 4/8
        (2 / 3, 0.65, 2 / 3, 2 / 3, 2 / 3),
        (0.9, 0.85, 1, 1 / 3, 1 / 2),
        (0.4, 0.65, 2 / 3, 2 / 3, 2 / 3),  # the recall of 0.45 with higher precision
    ],
)
def test_by_hand(wanted, threshold, precision, recall, f1):
    [chosen] = choose_thresholds(*FIVE, wanted)
    assert (chosen.threshold, chosen.reached, chosen.objects) == (threshold, True, 3)
    assert (chosen.precision, chosen.recall, chosen.f1) == pytest.approx((precision, recall, f1))


def test_of_equal_f1_the_highest_threshold():
    found = [(0, True, 0.9), (0, False, 0.8), (0, False, 0.7), (1, True, 0.6)]  # 2/3 at the first cut and at the last
    [chosen] = choose_thresholds(*case(2, found))
    assert chosen.threshold == 0.85


def test_equal_scores_are_not_cut_apart():
    [chosen] = choose_thresholds(*case(3, [(0, True, 0.8), (1, True, 0.5), (1, False, 0.5), (2, True, 0.5)]))
    assert (chosen.threshold, chosen.precision, chosen.recall) == (0.2, 0.75, 1)  # the only other cut gives F1 1/2


def test_below_the_last_score_is_what_the_detector_left_out():
    [chosen] = choose_thresholds(*case(1, [(0, True, 0.0625)]), lowest=0.05)
    assert chosen.threshold == 0.06
    [left_out] = choose_thresholds(*case(1, [(0, True, 0.3)]), lowest=0.3)
    assert not left_out.reached


def test_what_cannot_be_reached_is_not_reported():
    for truth, rows, wanted in [(*case(2, [(0, False, 0.9), (1, True, 0.8)]), 0.6), (*case(2, []), None)]:
        [chosen] = choose_thresholds(truth, rows, wanted)
        assert (chosen.threshold, chosen.reached, chosen.objects) == (1, False, 2)
        assert (chosen.precision, chosen.precision_interval, chosen.recall, chosen.f1) == (None, None, 0, 0)
        assert chosen.recall_interval == (0, 0)


def test_a_class_without_objects_stays_at_the_default():
    truth, rows = case(1, [(0, True, 0.9)], categories=(1, 2))
    rows = np.concatenate([rows, [[0, *BOX, 0.8, 1]]])
    for wanted in (None, 0.9):
        _, unknown = choose_thresholds(truth, rows, wanted)
        assert (unknown.objects, unknown.threshold, unknown.threshold_interval) == (0, 0.3, (0, 1))
        assert (unknown.precision, unknown.recall, unknown.f1, unknown.reached) == (None, None, None, True)


def test_a_precision_out_of_range():
    with pytest.raises(ValueError, match="precision is 1.5, expected a number above 0 and at most 1"):
        choose_thresholds(*FIVE, precision=1.5)


scores = st.floats(0, 1, width=32)


@given(scores, scores)
def test_rounding_moves_no_score_across_the_threshold(a, b):
    low, high = sorted([np.float32(a), np.float32(b)])
    if low == high:
        high = np.nextafter(low, np.float32(2))
    threshold = shortest_number_between(low, high)
    kept = torch.tensor([low, high]) > torch.tensor([threshold], dtype=torch.float32)
    assert kept.tolist() == [False, True]
    assert (torch.tensor([low, high]) > threshold).tolist() == [False, True]
    if float(high) - float(low) > 0.21:
        assert len(str(threshold)) <= 3


def judged(truth, rows):
    """Of each class by pycocotools: (score, right) of the detections that count, and how many objects do."""
    classes = {category_id: ([], []) for category_id in truth.category_ids}
    evaluation = pycocotools_evaluation(truth, rows)
    everything = evaluation.params.areaRng[0]
    for found in evaluation.evalImgs:
        if found is None or found["aRng"] != everything:
            continue
        detections, objects = classes[found["category_id"]]
        objects.extend(ignored for ignored in found["gtIgnore"] if not ignored)
        for score, match, ignored in zip(found["dtScores"], found["dtMatches"][0], found["dtIgnore"][0], strict=True):
            if score > 0 and not ignored:
                detections.append((score, match > 0))
    return [(detections, len(objects)) for detections, objects in classes.values()]


@pytest.mark.parametrize("wanted", [None, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_loop_over_pycocotools(seed, wanted):
    truth, rows = random_case(seed)
    chosen = choose_thresholds(truth, rows, wanted, resamples=20)
    for found, (detections, objects) in zip(chosen, judged(truth, rows), strict=True):
        assert found.objects == objects
        if not objects:
            continue
        best = (0, 0, 0, 0)
        for cut in sorted({score for score, _ in detections}, reverse=True):
            accepted = [right for score, right in detections if score >= cut]
            precision, recall = sum(accepted) / len(accepted), sum(accepted) / objects
            f1 = 2 * sum(accepted) / (len(accepted) + objects)
            worth = f1 if wanted is None else recall * (precision >= wanted)
            if worth > best[0]:
                best = worth, precision, recall, len(accepted)
        _, precision, recall, number = best
        assert found.reached == (number > 0)
        assert (found.precision or 0, found.recall) == pytest.approx((precision, recall))
        assert sum(score > np.float32(found.threshold) for score, _ in detections) == number


def loop(ranking, images, wanted, cut, resamples, seed):
    """The intervals, one resample after the other."""
    rng = np.random.default_rng(seed)
    cuts, precisions, recalls = [], [], []
    for _ in range(resamples):
        counts = rng.multinomial(images, np.full(images, 1 / images))
        weights, objects = counts[ranking.image_index], counts[ranking.objects].sum()
        found = np.array([weights[:end].sum() for end in ranking.ends])
        right = np.array([(weights * ranking.correct)[:end].sum() for end in ranking.ends])
        if objects == 0:
            continue
        f1 = 2 * right / (found + objects)
        worth = f1 if wanted is None else right * (right >= wanted * found - 1e-9)
        cuts.append(worth.argmax())
        recalls.append(right[cut] / objects)
        if found[cut]:
            precisions.append(right[cut] / found[cut])
    ends = [np.sort(v)[[int(np.ceil(share * len(v))) - 1 for share in (0.025, 0.975)]] for v in (precisions, recalls)]
    low, high = np.sort(cuts)[[int(np.ceil(share * len(cuts))) - 1 for share in (0.025, 0.975)]]
    return (ranking.threshold(high), ranking.threshold(low)), *ends


@pytest.mark.parametrize("wanted", [None, 0.6])
def test_the_intervals_equal_those_of_a_loop(wanted):
    truth, rows = random_case(1)
    chosen = choose_thresholds(truth, rows, wanted, resamples=200, seed=3)
    for found, ranking in zip(chosen, make_rankings(truth, rows, 0), strict=True):
        if found.objects:
            assert found.reached
            cut = int(np.flatnonzero(ranking.scores <= found.threshold)[0])
            threshold, precision, recall = loop(ranking, len(truth), wanted, cut, 200, 3)
            assert found.threshold_interval == threshold
            assert found.precision_interval == pytest.approx(precision)
            assert found.recall_interval == pytest.approx(recall)


def many(images):
    """One object and one detection in each image, right as often as its score says."""
    rng = np.random.default_rng(images)
    found = rng.random(images)
    return case(images, list(zip(range(images), rng.random(images) < found, found, strict=True)))


def test_the_intervals_hold_the_estimate_and_narrow_with_data():
    [few], [more] = choose_thresholds(*many(100)), choose_thresholds(*many(3000))
    for name in ("threshold", "precision", "recall"):
        (a, b), (c, d) = (getattr(chosen, f"{name}_interval") for chosen in (few, more))
        assert a <= getattr(few, name) <= b and c <= getattr(more, name) <= d
        assert d - c < b - a


def test_the_seed_alone_decides(monkeypatch):
    truth, rows = random_case(2)
    first = choose_thresholds(truth, rows, resamples=50)
    assert choose_thresholds(truth, rows, resamples=50, seed=1) != first
    monkeypatch.setattr(module, "CHUNK", 2000)
    assert choose_thresholds(truth, rows, resamples=50) == first


def predictions(classes=3):
    generator = torch.Generator().manual_seed(0)
    corners = 80 * torch.rand(200, 2, generator=generator)
    anchors = torch.cat([corners, corners + 5 + 15 * torch.rand(200, 2, generator=generator)], dim=1)
    logits = 2 * torch.randn(1, 200, classes, generator=generator) - 1
    return Predictions([logits], [torch.zeros(1, 200, 4)], [anchors])


def test_detections_above_the_threshold_of_each_class():
    of_class = torch.tensor([0.2, 0.9, 0.55])
    settings = {"top_k": 1000, "max_detections": 1000}
    [every] = detect(predictions(), [(100, 100)], [(100, 100)], 0.05, **settings)
    [found] = detect(predictions(), [(100, 100)], [(100, 100)], of_class, **settings)
    above = every.scores > of_class.numpy()[every.labels]
    assert 0 < above.sum() < len(every)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(every, name)[above])


def test_a_class_below_its_threshold_takes_no_place_of_others():
    alone = torch.tensor([1.0, 1.0, 0.05])
    for settings in ({"top_k": 5}, {"max_detections": 5}):
        [found] = detect(predictions(), [(100, 100)], [(100, 100)], alone, **settings)
        assert set(found.labels.tolist()) == {2}
        assert len(found) == 5 or "top_k" in settings


@pytest.mark.parametrize("wanted", [None, 0.6])
def test_the_file_holds_every_bit(tmp_path, wanted):
    truth, rows = random_case(0)
    chosen = choose_thresholds(truth, rows, wanted, resamples=20)
    chosen[0] = replace(chosen[0], threshold=float(np.float32(1e-5)))
    file = tmp_path / "new folder" / "thresholds.yaml"
    save_thresholds(file, chosen, len(truth), wanted)
    assert load_thresholds(file, truth.classes, truth.category_ids) == tuple(each.threshold for each in chosen)


def test_the_file_as_it_looks(tmp_path):
    [chosen] = choose_thresholds(*FIVE, 0.9)
    unknown = replace(choose_thresholds(*case(0, [(0, False, 0.5)]))[0], label="cat: 'Tom'", category_id=7)
    save_thresholds(tmp_path / "t.yaml", [replace(chosen, label="no", threshold_interval=(0.5, 1.0)), unknown], 3, 0.9)
    assert (tmp_path / "t.yaml").read_text() == (
        "# Detections of a class are reported if their score exceeds its threshold: retina predict --thresholds FILE\n"
        "target: precision 0.9\n"
        "iou: 0.5\n"
        "images: 3\n"
        "classes:\n"
        "- label: 'no'\n"
        "  category_id: 1\n"
        "  threshold: 0.85\n"
        "  interval: [0.5, 1.0]\n"
        "  precision: 1.0\n"
        "  recall: 0.3333\n"
        "  f1: 0.5\n"
        "  objects: 3\n"
        "- label: 'cat: ''Tom'''\n"
        "  category_id: 7\n"
        "  threshold: 0.3\n"
        "  interval: [0.0, 1.0]\n"
        "  precision: null\n"
        "  recall: null\n"
        "  f1: null\n"
        "  objects: 0\n"
    )
    assert load_thresholds(tmp_path / "t.yaml", ("cat: 'Tom'", "no"), (7, 1)) == (0.3, 0.85)


def test_a_file_by_hand(tmp_path):
    (tmp_path / "t.yaml").write_text("classes: [{label: 7, threshold: 1}, {category_id: 4, threshold: 1e-3}]")
    assert load_thresholds(tmp_path / "t.yaml", ("cat", "7"), (4, 9)) == (0.001, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 3", "contains a list, expected a mapping with a list `classes`"),
        ("classes: {cat: 0.3}", "classes is not a list of mappings; expected label and threshold for each class"),
        ("classes: [0.3]", "classes is not a list of mappings; expected label and threshold for each class"),
        ("images: 3", "classes is not a list of mappings; expected label and threshold for each class"),
        (
            "classes: [{label: zebar, threshold: 0.3}]",
            "classes, entry 1: unknown class 'zebar'; did you mean zebra?",
        ),
        (
            "classes: [{label: house, threshold: 0.3}]",
            "classes, entry 1: unknown class 'house'; the detector knows cat, zebra, cat",
        ),
        (
            "classes: [{label: zebra, category_id: 3, threshold: 0.3}]",
            "classes, entry 1: unknown class 'zebra 3'; did you mean zebra 2?",
        ),
        (
            "classes: [{category_id: 5, threshold: 0.3}]",
            "classes, entry 1: unknown class '5'; the detector knows 1, 2, 3",
        ),
        (
            "classes: [{label: cat, threshold: 0.3}]",
            "classes, entry 1: cat is the name of 2 classes; expected category_id",
        ),
        (
            "classes: [{threshold: 0.3}]",
            "classes, entry 1 has no label; expected label or category_id, and threshold",
        ),
        (
            "classes: [{category_id: 2, threshold: 0.3}, {label: zebra, threshold: 0.4}]",
            "zebra (2) is listed twice; expected one threshold for each class",
        ),
        (
            "classes: [{label: zebra, threshold: 0.3}]",
            "has no threshold for cat (1), cat (3); expected one for each class",
        ),
        ("classes: [{label: zebra}]", "zebra (2): threshold is None, expected a number in 0..1"),
        *(
            (
                f"classes: [{{label: zebra, threshold: {value}}}]",
                f"zebra (2): threshold is {shown}, expected a number in 0..1",
            )
            for value, shown in [
                ("1.5", "1.5"),
                ("-0.1", "-0.1"),
                (".nan", "nan"),
                ("true", "True"),
                ("high", "'high'"),
                ("[0.3]", "[0.3]"),
                ("1" + "0" * 400, "1" + "0" * 99),
            ]
        ),
    ],
)
def test_faults_of_a_file(tmp_path, text, message):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ConfigError) as told:
        load_thresholds(tmp_path / "t.yaml", ("cat", "zebra", "cat"), (1, 2, 3))
    assert str(told.value) == f"{tmp_path / 't.yaml'}: {message}"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.yaml").write_text("classes: [")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\x00")
    for name, start in [
        ("none.yaml", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("broken.yaml", "is not readable YAML: "),
        ("bytes.yaml", "is not readable YAML: "),
    ]:
        with pytest.raises(ConfigError) as told:
            load_thresholds(tmp_path / name, ("cat",), (1,))
        assert str(told.value).startswith(f"{tmp_path / name}: {start}") and "\n" not in str(told.value)


def test_progress_ends_with_all_resamples(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 40)
    truth, rows = random_case(0)
    steps: list[tuple[int, int]] = []
    choose_thresholds(truth, rows, resamples=3, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 3 * 4) for done in range(1, 3 * 4 + 1)]  # four classes
