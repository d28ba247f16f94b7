"""Results files of other programs: images by id or name, classes by id, name or number, and what does not fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scoring_cases import dataset, jittered, random_case

from retinanet.data.dataset import Dataset, Strings
from retinanet.errors import DataError
from retinanet.evaluation.image_references import SEVERAL, UNKNOWN, ImageNames
from retinanet.evaluation.results_file import ResultsFile, read_results
from retinanet.inference.results import coco_results

NAMES = ("cat", "dog", "hat")


def cats(files=("a/one.jpg", "a/two.jpg", "b/two.jpg"), category_ids=(10, 20, 30), **columns: Any) -> Dataset:
    """Three images of 640 x 480 with ids 7, 8 and 9, and four objects of each class in each."""
    boxes = [[20 + 150 * i, 20 + 150 * label, 100, 100] for label in range(3) for i in range(4)] * 3
    labels = [label for label in range(3) for _ in range(4)] * 3
    truth = dataset([12, 12, 12], boxes, labels, image_ids=np.array([7, 8, 9]), category_ids=category_ids)
    return replace(truth, files=Strings(files), classes=NAMES, **columns)


def exact(truth: Dataset) -> np.ndarray:
    """(36, 7), each object detected."""
    scores = np.linspace(0.9, 0.1, len(truth.boxes))
    return np.column_stack([truth.image_index, truth.boxes, scores, truth.labels])


def as_entries(truth: Dataset, rows: np.ndarray) -> list[dict[str, Any]]:
    return coco_results(rows, truth.image_ids.tolist(), truth.category_ids)


def read(folder: Path, document: object, truth: Dataset, classes_from: int | None = None):
    """The rows, and the notes without the file's name."""
    file = folder / "results.json"
    file.write_text(json.dumps(document))
    rows, notes = read_results(ResultsFile(file, classes_from), truth)
    return rows, [note.removeprefix(f"{file}: ") for note in notes]


def refused(folder: Path, document: object, truth: Dataset, classes_from: int | None = None) -> str:
    with pytest.raises(DataError) as error:
        read(folder, document, truth, classes_from)
    return str(error.value).removeprefix(f"{folder / 'results.json'}: ")


@pytest.mark.parametrize("seed", range(3))
def test_what_is_saved_is_read_to_the_last_bit(tmp_path: Path, seed: int):
    truth, rows = random_case(seed)
    found, notes = read(tmp_path, as_entries(truth, rows), truth)
    assert np.array_equal(found, rows) and notes == []


def test_images_are_found_by_any_part_of_their_name():
    names = ImageNames(["a/one.jpg", "a/two.jpg", "b/two.jpg", "b/three.v2.png", "c/0012.jpg"])
    for name in ("a/one.jpg", "one.jpg", "one", "a/one", "/data/a/one.jpg", "other\\one.jpg"):
        assert names.find(name) == 0
    assert (names.find("a/two.jpg"), names.find("/x/b/two")) == (1, 2)
    assert (names.find("two.jpg"), names.find("c/two"), names.find("four")) == (SEVERAL, SEVERAL, UNKNOWN)
    assert names.find("three.v2") == names.find("three.v2.png") == 3
    assert names.by_number() == {12: 4}


@pytest.mark.parametrize(
    "image_ids", [(7, 8, 9), ("7", "8", "9"), (7.0, 8.0, 9.0), ("one", "a/two", "b/two.jpg"), (7, "a/two.jpg", "9")]
)
@pytest.mark.parametrize("category_ids", [(10, 20, 30), ("10", "20.0", "30"), NAMES, (10.0, "dog", "30")])
def test_images_and_classes_by_number_or_name(tmp_path: Path, image_ids, category_ids):
    truth = cats()
    rows = exact(truth)
    found, notes = read(tmp_path, coco_results(rows, image_ids, category_ids), truth)
    assert np.array_equal(found, rows) and notes == []


def test_a_file_name_decides_before_an_id(tmp_path: Path):
    truth = cats()
    rows = exact(truth)
    files = ["/photos/one.jpg", "a/two.jpg", "b/two.jpg"]
    entries = as_entries(truth, rows)
    for entry, row in zip(entries, rows, strict=True):
        entry |= {"image_id": 9, "file_name": files[int(row[0])]}
    assert np.array_equal(read(tmp_path, entries, truth)[0], rows)


def test_a_name_that_looks_like_a_number_of_two_images(tmp_path: Path):
    truth = cats(files=("0139.jpg", "139.jpg", "x.jpg"), image_ids_annotated=False)
    rows = exact(truth)
    assert np.array_equal(read(tmp_path, coco_results(rows, ("0139", "139", "x"), truth.category_ids), truth)[0], rows)


def test_the_id_of_a_file_that_the_data_lacks_means_nothing(tmp_path: Path):
    truth = cats()
    entries = [entry | {"file_name": "other.jpg"} for entry in as_entries(truth, exact(truth))]
    told = refused(tmp_path, entries, truth)
    assert "36 of 36 detections are of no image of the data, such as file_name 'other.jpg' in [0]" in told


def test_numbers_that_are_no_ids_are_file_names(tmp_path: Path):
    truth = cats(files=("0001.jpg", "0002.jpg", "0003.jpg"))
    rows = exact(truth)
    found, notes = read(tmp_path, coco_results(rows, (1, 2, 3), (10, 20, 30)), truth)
    assert np.array_equal(found, rows)
    assert notes == ["image_id is read as file name, which fits 3 of 3 numbers; as id, it fits 0"]


def test_numbers_that_are_ids_and_file_names_are_ids_only_where_the_data_has_ids(tmp_path: Path):
    truth = cats(files=("8.jpg", "9.jpg", "7.jpg"))
    rows = exact(truth)
    found, notes = read(tmp_path, as_entries(truth, rows), truth)
    assert np.array_equal(found, rows)
    assert notes == ["warning: image_id 7 is 8.jpg by id and 7.jpg by file name; it is read as id"]
    without_ids = replace(truth, image_ids_annotated=False)
    found, notes = read(tmp_path, as_entries(truth, rows), without_ids)
    assert found[:, 0].tolist() == [2] * 12 + [0] * 12 + [1] * 12
    assert notes == ["warning: image_id 7 is 7.jpg by file name and 8.jpg by id; it is read as file name"]


def test_text_that_is_the_name_of_a_class_is_a_name(tmp_path: Path):
    truth = replace(cats(category_ids=(1, 2, 3)), classes=("0", "1", "2"))
    rows = exact(truth)
    assert np.array_equal(read(tmp_path, coco_results(rows, (7, 8, 9), ("0", "1", "2")), truth)[0], rows)


@pytest.mark.parametrize(
    "ids, start, numbers",
    [
        ((10, 20, 30), 0, (0, 1, 2)),
        ((10, 20, 30), 1, (1, 2, 3)),
        ((1, 2, 3), 0, (0, 1, 2)),
        ((0, 1, 2), 1, (1, 2, 3)),  # what ultralytics writes for a data set in YOLO's format
    ],
)
def test_numbers_of_classes_are_refused_until_they_are_named_so(tmp_path: Path, ids, start, numbers):
    truth = cats(category_ids=ids)
    rows = exact(truth)
    entries = coco_results(rows, (7, 8, 9), numbers)
    message = refused(tmp_path, entries, truth)
    assert message.startswith(
        f"its category ids, {numbers[0]} to {numbers[-1]}, seem to be the numbers of classes, counted from {start}, "
        f"not the data's own, {ids[0]} to {ids[-1]}; add --classes-from {start}; of 36 detections"
    )
    found, notes = read(tmp_path, entries, truth, start)
    assert np.array_equal(found, rows) and notes == []


def test_wrong_classes_show_even_where_all_ids_are_known(tmp_path: Path):
    truth = cats(category_ids=(1, 2, 3))
    rows = exact(truth)
    rows = rows[rows[:, 6] > 0]  # without the first class, the numbers 1 and 2 are ids of the data, too
    entries = coco_results(rows, (7, 8, 9), (0, 1, 2))
    message = refused(tmp_path, entries, truth)
    assert "counted from 0" in message
    assert message.endswith("of 24 detections that overlap an object, 24 then have its class, not 0")


def test_classes_from_is_refused_for_ids(tmp_path: Path):
    truth = cats(category_ids=(1, 2, 3))
    message = refused(tmp_path, as_entries(truth, exact(truth)), truth, 0)
    assert "seem to be the data's own, 1 to 3, not numbers counted from 0; leave out --classes-from;" in message
    with pytest.raises(ValueError, match="classes_from is 2"):
        ResultsFile(tmp_path, 2)


def test_the_classes_of_a_bad_detector_are_not_mistaken(tmp_path: Path):
    truth = cats(category_ids=(1, 2, 3))
    rows = exact(truth)
    rows[:, 6] = np.random.default_rng(0).integers(3, size=len(rows))
    assert np.array_equal(read(tmp_path, as_entries(truth, rows), truth)[0], rows)


def test_a_detector_of_more_classes_than_the_data(tmp_path: Path):
    truth = cats(category_ids=(1, 3, 90))
    entries = as_entries(truth, exact(truth))
    others = [{**entries[0], "category_id": number} for number in (2, 4, 91)]
    found, notes = read(tmp_path, [*others, *entries], truth)
    assert np.array_equal(found, exact(truth))
    assert notes == ["3 of 39 detections are of no class of the data, such as category_id 2 in [0]; they do not count"]


GOOD = {"image_id": 7, "category_id": 10, "bbox": [20, 20, 100, 100], "score": 0.5}


@pytest.mark.parametrize(
    "entry, reason",
    [
        (7, "are no objects, such as 7"),
        ({**GOOD, "image_id": 1}, "are of no image of the data, such as image_id 1"),
        ({**GOOD, "image_id": "nine.jpg"}, "are of no image of the data, such as image_id 'nine.jpg'"),
        ({**GOOD, "image_id": "two"}, "are of an image whose name several have, such as image_id 'two'"),
        ({**GOOD, "image_id": [7]}, "are of no image of the data, such as image_id [7]"),
        ({**GOOD, "image_id": True}, "are of no image of the data, such as image_id True"),
        ({**GOOD, "category_id": 11}, "are of no class of the data, such as category_id 11"),
        ({**GOOD, "category_id": "cow"}, "are of no class of the data, such as category_id 'cow'"),
        ({**GOOD, "category_id": None}, "are of no class of the data, such as category_id None"),
        ({**GOOD, "category_id": 10**30}, f"are of no class of the data, such as category_id {10**30}"),
        ({**GOOD, "bbox": [1, 2, 3]}, "have no bbox of four numbers, such as bbox [1, 2, 3]"),
        ({**GOOD, "bbox": "1 2 3 4"}, "have no bbox of four numbers, such as bbox '1 2 3 4'"),
        ({**GOOD, "bbox": [1, 2, 3, "4"]}, "have no bbox of four numbers, such as bbox [1, 2, 3, '4']"),
        ({**GOOD, "bbox": [1, 2, float("nan"), 4]}, "have a bbox that is not finite, such as bbox [1, 2, nan, 4]"),
        ({**GOOD, "bbox": [float("inf"), 2, 3, 4]}, "have a bbox that is not finite, such as bbox [inf, 2, 3, 4]"),
        ({**GOOD, "bbox": [1, 2, -3, 4]}, "have a negative width or height, such as bbox [1, 2, -3, 4]"),
        ({**GOOD, "score": "0.5"}, "have no number as score, such as score '0.5'"),
        ({**GOOD, "score": True}, "have no number as score, such as score True"),
        ({**GOOD, "score": float("nan")}, "have a score that is not finite, such as score nan"),
        ({**GOOD, "score": 10**400}, "have a score that is not finite, such as score 1000"),
    ],
)
def test_what_does_not_fit_is_named_and_the_rest_counts(tmp_path: Path, entry, reason):
    truth = cats()
    rows = exact(truth)
    entries = as_entries(truth, rows)
    found, [note] = read(tmp_path, [*entries, entry, entry], truth)
    assert np.array_equal(found, rows)
    assert note.startswith(f"2 of 38 detections {reason}") and note.endswith(" in [36]; they do not count")
    assert refused(tmp_path, [entry], truth).startswith("no detection fits the data: 1 of 1 detections " + reason)


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_field_is_named(tmp_path: Path, field: str):
    without = {key: value for key, value in GOOD.items() if key != field}
    message = refused(tmp_path, [without], cats())
    assert message.startswith("no detection fits the data: 1 of 1 detections ") and "such as {" in message
    assert message.endswith(
        "; expected image_id such as 7 or 'a/one.jpg', and category_id such as 10, 20, 30, or its name: cat, dog, hat"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not JSON"),
        ("[{]", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"images": [], "annotations": []}', "is a mapping with images, annotations; expected a list of detections"),
        (
            "7",
            "is a number; expected a list of detections, each with image_id, category_id, bbox [x, y, width, height]",
        ),
    ],
)
def test_a_file_that_is_no_list(tmp_path: Path, text: str, message: str):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(DataError) as error:
        read_results(ResultsFile(file), cats())
    assert str(error.value).startswith(f"{file}: {message}") and "\n" not in str(error.value)


def test_no_detections(tmp_path: Path):
    rows, notes = read(tmp_path, [], cats())
    assert rows.shape == (0, 7) and notes == ["holds no detections"]


def test_boxes_of_another_format_are_noticed(tmp_path: Path):
    truth = cats()
    rows = exact(truth)
    rows[:, 3:5] += rows[:, 1:3]  # the right and lower edges
    _, [warning] = read(tmp_path, as_entries(truth, rows), truth)
    assert warning.startswith("warning: ") and "of 36 boxes reach beyond their images" in warning
    assert warning.endswith("; bbox is x, y, width and height in pixels of the original image")


def test_class_numbers_of_real_data(tmp_path: Path, shared_data: Path):
    from retinanet.data.formats.build import build_dataset
    from retinanet.data.formats.coco import read_coco

    folder = shared_data / "coco128"
    truth = build_dataset(read_coco(next(folder.rglob("*.jpg")).parent, next(folder.rglob("*.json"))), None)
    rows = jittered(truth, 0, copies=3)
    ids = truth.image_ids.tolist()
    for start in (0, 1):
        entries = coco_results(rows, ids, range(start, start + 80))
        assert f"counted from {start}, not the data's own, 1 to 90" in refused(tmp_path, entries, truth)
        found, _ = read(tmp_path, entries, truth, start)
        assert np.array_equal(found, rows)
    found, notes = read(tmp_path, as_entries(truth, rows), truth)
    assert np.array_equal(found, rows) and not [note for note in notes if "image_id" in note]
