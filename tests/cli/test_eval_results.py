"""`retina eval RESULTS.json`: the files of other programs give pycocotools' numbers, and every analysis of them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.pycocotools_stats import METRICS, pycocotools_stats
from helpers.support import installed, retina, write_coco

IMAGES = 4
LOW = ("--set", "detect.score_threshold=0.0001")  # the tiny detector is sure of little


class Cells:
    """A data set of which a detector found most; its ids are neither file names nor without gaps."""

    def __init__(self, folder: Path):
        self.folder, self.annotations = folder, folder / "shapes" / "annotations" / "instances_val.json"
        write_coco(folder / "shapes", "val", IMAGES)
        document = json.loads(self.annotations.read_text())
        for image in document["images"]:
            name = f"cell-{image['id']}.png"
            (folder / "shapes" / "val" / image["file_name"]).rename(folder / "shapes" / "val" / name)
            image |= {"id": 100 + 7 * image["id"], "file_name": name}
        for annotation in document["annotations"]:
            annotation["image_id"] = 100 + 7 * annotation["image_id"]
        self.annotations.write_text(json.dumps(document))
        (folder / "cells.yaml").write_text("data: {root: shapes, val: val}\n")
        self.files = {image["id"]: image["file_name"] for image in document["images"]}
        self.names = {category["id"]: category["name"] for category in document["categories"]}
        rng = np.random.default_rng(0)
        self.found: list[dict[str, Any]] = [
            {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"],
                "bbox": (np.array(annotation["bbox"]) + rng.normal(0, spread, 4)).clip(1).tolist(),
                "score": float(rng.random()),
            }
            for annotation in document["annotations"]
            for spread in (0.5, 2, 6)
        ]
        self.write("plain.json", self.found)

    def write(self, name: str, found: object) -> str:
        (self.folder / name).write_text(json.dumps(found))
        return name

    def evaluate(self, *arguments: object, command=retina):
        return command("eval", *arguments, "--data", "cells.yaml", cwd=self.folder)

    def metrics(self, *arguments: object) -> list[float | None]:
        result = self.evaluate(*arguments, "--json")
        assert result.code == 0, result.err
        return [json.loads(result.out)["metrics"][name] for name in METRICS]

    @property
    def expected(self) -> list[float | None]:
        return pycocotools_stats(self.annotations, self.folder / "plain.json")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    return Cells(tmp_path_factory.mktemp("cells"))


def detectron2s(cells: Cells) -> list[dict[str, Any]]:
    """Ids of the data, as pycocotools reads them."""
    return cells.found


def torchvisions(cells: Cells) -> list[dict[str, Any]]:
    """Ids of the data, and up to 300 detections of an image, of which COCO counts 100 for each class."""
    weak = [{**each, "bbox": [1.0 + i, 1.0, 9.5, 9.5], "score": 1e-3} for i in range(40) for each in cells.found[::6]]
    return [*cells.found, *weak]


def ultralytics(cells: Cells) -> list[dict[str, Any]]:
    """Stems for ids, and rounded numbers."""
    return [
        {
            "image_id": Path(cells.files[each["image_id"]]).stem,
            "file_name": cells.files[each["image_id"]],
            "category_id": each["category_id"],
            "bbox": [round(x, 3) for x in each["bbox"]],
            "score": round(each["score"], 5),
        }
        for each in cells.found
    ]


@pytest.mark.parametrize("style", [detectron2s, torchvisions, ultralytics])
def test_the_files_of_other_programs_give_pycocotools_numbers(cells: Cells, style):
    found = style(cells)
    file = cells.write(f"{style.__name__}.json", found)
    id_of = {Path(name).stem: image_id for image_id, name in cells.files.items()}
    plain = [each | {"image_id": id_of.get(each["image_id"], each["image_id"])} for each in found]
    expected = pycocotools_stats(cells.annotations, cells.folder / cells.write("with-ids.json", plain))
    assert expected[0] is not None and 0.3 < expected[0] < 0.9
    assert cells.metrics(file) == expected
    result = json.loads(cells.evaluate(file, "--reference", "--json").out)
    assert result["reference"]["equal"]


def test_names_of_images_and_classes(cells: Cells):
    names = {
        "folders.json": lambda each: {"image_id": f"/data/{cells.files[each['image_id']]}"},
        "classes.json": lambda each: {"category_id": cells.names[each["category_id"]]},
        "text.json": lambda each: {key: str(each[key]) for key in ("image_id", "category_id")},
    }
    for name, changed in names.items():
        assert cells.metrics(cells.write(name, [each | changed(each) for each in cells.found])) == cells.expected


def test_class_numbers(cells: Cells):
    file = cells.write("numbers.json", [each | {"category_id": each["category_id"] // 10} for each in cells.found])
    result = cells.evaluate(file, "--json")
    assert (result.code, result.out) == (1, "") and result.err.count("\n") == 1
    assert "seem to be the numbers of classes, counted from 1, not the data's own, 10 to 60; add --classes-from 1" in (
        result.err
    )
    assert cells.metrics(file, "--classes-from", 1) == cells.expected
    assert cells.evaluate(file, "--classes-from", 1, "--save-coco", "ids.json").code == 0
    assert json.loads((cells.folder / "ids.json").read_text()) == cells.found


def test_what_does_not_fit_is_named_and_the_rest_counts(cells: Cells):
    wrong = [{"image_id": 1}, {"category_id": 1}, {"bbox": [1, 2, -3, 4]}, {"score": float("nan")}]
    result = cells.evaluate(cells.write("wrong.json", [*cells.found, *(cells.found[0] | each for each in wrong)]))
    assert result.code == 0
    assert len(result.err.splitlines()) == 4
    for line, what in zip(
        result.err.splitlines(), ("bbox [1, 2, -3, 4]", "score nan", "image_id 1 ", "category_id 1 "), strict=True
    ):
        assert line.startswith("wrong.json: 1 of ") and what in line and line.endswith("; they do not count")
    assert cells.metrics("wrong.json") == cells.expected
    nothing = cells.evaluate(cells.write("nothing.json", [cells.found[0] | wrong[0]]))
    assert nothing.code == 1 and nothing.err.startswith("retina: nothing.json: no detection fits the data: 1 of 1 ")
    assert "; expected image_id such as 100 or 'cell-0.png', and category_id such as 10, 20" in nothing.err


def test_every_analysis(cells: Cells):
    file = cells.write("analysed.json", cells.found)
    result = cells.evaluate(
        file,
        "--diagnose",
        "--thresholds",
        "best.yaml",
        "--report",
        "page",
        "--save-coco",
        "same.json",
        command=installed,
    )
    assert result.code == 0, result.err
    assert result.err == "wrote best.yaml\nwrote page/index.html\n"
    for title in ("Per class", "COCO metrics", "Score thresholds", "Errors (TIDE)", "Calibration", "Precision at"):
        assert title in result.out
    assert json.loads((cells.folder / "same.json").read_text()) == cells.found
    chosen = yaml.safe_load((cells.folder / "best.yaml").read_text())["classes"]
    assert [each["category_id"] for each in chosen] == list(cells.names)
    assert "Evaluation of analysed.json" in (cells.folder / "page" / "index.html").read_text()


def test_scores_that_are_no_probabilities(cells: Cells):
    file = cells.write("percent.json", [each | {"score": 100 * each["score"]} for each in cells.found])
    assert cells.metrics(file) == cells.expected
    result = cells.evaluate(file, "--diagnose")
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(
        r"retina: percent.json: has scores from \S+ to \S+; --diagnose, --thresholds and --report need scores from 0 "
        r"to 1\n",
        result.err,
    )


def test_two_files(cells: Cells):
    half = cells.write("half.json", cells.found[::2])
    document = json.loads(cells.evaluate("plain.json", half, "--compare", "--json").out)
    for name, (first, second) in zip(METRICS, zip(cells.expected, cells.metrics(half), strict=True), strict=True):
        assert (document["metrics"][name]["first"], document["metrics"][name]["second"]) == (first, second)
    unknown = {"resolution": None, "max_detections": None, "weights": None, "ms_per_image": None}
    assert document["detectors"] == [
        {"name": name, "detections_per_image": number / IMAGES} | unknown
        for name, number in (("plain.json", len(cells.found)), (half, len(cells.found[::2])))
    ]
    assert document["resolutions_differ"] is None


def test_a_detector_and_its_own_results_are_equal_to_the_last_bit(tiny: Path, tiny_run: Path, tmp_path: Path):
    file = tmp_path / "own.json"
    own = json.loads(retina("eval", "run", *LOW, "--json", "--save-coco", file, cwd=tiny).out)
    read = retina("eval", file, "--data", "tiny.yaml", "--json", cwd=tiny)
    assert json.loads(read.out) == own | {"precision": None} and read.err == ""
    for pair in (("run", file), (file, "run")):  # without --data, the data are the run's
        result = retina("eval", *pair, "--compare", "--json", *LOW, cwd=tiny)
        assert result.code == 0, result.err
        document = json.loads(result.out)
        assert [each["name"] for each in document["detectors"]] == list(map(str, pair))
        for name, each in document["metrics"].items():
            assert each["first"] == each["second"] == own["metrics"][name] and each["change"] in (0, None)
        [ran] = [each for each in document["detectors"] if each["name"] == "run"]
        assert ran["resolution"] == {"short_side": 64, "long_side": 1333} and ran["max_detections"] == 100
        assert ran["weights"] > 11e6 and ran["ms_per_image"] > 0  # ResNet-18
        assert len({each["detections_per_image"] for each in document["detectors"]}) == 1


def test_what_predict_saves_is_read_by_file_name(tiny: Path, tiny_run: Path, tmp_path: Path):
    files = [tiny / "shapes" / "val" / f"{i}.png" for i in (2, 0, 3, 1)]
    saved = retina("predict", *files, "-w", "run", "--score", "0.0001", "--save-coco", tmp_path / "p.json", cwd=tiny)
    assert saved.code == 0, saved.err
    own, read = (
        json.loads(retina("eval", *each, "--json", cwd=tiny).out)
        for each in (("run", *LOW), (tmp_path / "p.json", "--data", "tiny.yaml"))
    )
    assert read == own | {"precision": None}


def test_data_without_ids(cells: Cells, tmp_path: Path):
    """In YOLO's format, whose images other programs know by name, and its classes by numbers from 1."""
    numbers = {image_id: str(place) for place, image_id in enumerate(reversed(cells.files), 8)}
    objects = json.loads(cells.annotations.read_text())["annotations"]
    for image_id, name in cells.files.items():
        lines = []
        for each in objects:
            if each["image_id"] == image_id:
                x, y, w, h = (side / 128 for side in each["bbox"])
                lines.append(f"{each['category_id'] // 10 - 1} {x + w / 2} {y + h / 2} {w} {h}")
        for folder, suffix, content in (
            ("images", ".png", (cells.folder / "shapes" / "val" / name).read_bytes()),
            ("labels", ".txt", "\n".join(lines).encode()),
        ):
            file = tmp_path / "yolo" / folder / "val" / f"{numbers[image_id]}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    (tmp_path / "yolo" / "data.yaml").write_text(f"names: {list(cells.names.values())}\nval: images/val\n")
    (tmp_path / "yolo.yaml").write_text("data: {root: yolo, val: val}\n")
    found = [
        each | {"image_id": int(numbers[each["image_id"]]), "category_id": each["category_id"] // 10}
        for each in cells.found
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    arguments = ("--data", "yolo.yaml", "--json")
    assert "add --classes-from 1" in retina("eval", "found.json", *arguments, cwd=tmp_path).err
    result = retina("eval", "found.json", "--classes-from", 1, "--save-coco", "own.json", *arguments, cwd=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out)["metrics"]["AP"] == pytest.approx(cells.expected[0], abs=0.02)  # boxes for areas
    own = json.loads((tmp_path / "own.json").read_text())
    assert {each["file_name"] for each in own} == {f"{number}.png" for number in numbers.values()}
    assert json.loads(retina("eval", "own.json", *arguments, cwd=tmp_path).out) == json.loads(result.out)


def test_unequal_resolutions_are_marked(capsys):
    from retinacli.render.compare import show_comparison
    from retinanet.evaluation.comparison import Comparison
    from retinanet.evaluation.detector_facts import DetectorFacts

    def shown(*facts: DetectorFacts) -> str:
        show_comparison(["a", "b"], [None, None], facts, Comparison(4, 10, [], []), False)
        return capsys.readouterr().out

    large, small = DetectorFacts(10, (800, 1333), 100, 34_000_000, 12.3), DetectorFacts(9, (600, 1000))
    note = "note: the resolutions differ, 800 x 1333 and 600 x 1000 pixels, so that a difference may be due to them"
    assert note in shown(large, small)
    assert "800 x 1333" in shown(large, small) and "34.0 M" in shown(large, small) and "12.3" in shown(large, small)
    assert "note" not in shown(large, large) and "note" not in shown(large, DetectorFacts(9))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("r.json",), "r.json holds only detections; name the data set that they are of with --data CONFIG"),
        (("r.json", "s.json", "--compare"), "r.json holds only detections; name the data set that they are of"),
        (("r.json", "--data", "d", "--funnel"), "--funnel needs every score, but r.json gives only the best"),
        (
            ("r.json", "--data", "d", "--device", "cpu"),
            "--device is for running a detector; r.json holds its detections",
        ),
        (("r.json", "--data", "d", "--batch-size", "2"), "--batch-size is for running a detector; r.json holds"),
        (
            ("r.json", "--data", "d", "--set", "detect.nms_iou=0.6"),
            "--set detect.nms_iou=0.6: is for running a detector; r.json holds its detections",
        ),
        (("run", "--classes-from", "0"), "--classes-from is for results files (.json), not for run"),
    ],
)
def test_options_that_do_not_go_together(arguments, message):
    result = retina("eval", *arguments)
    assert (result.code, result.out) == (2, "") and result.err.startswith(f"retina: {message}")
    assert result.err.count("\n") == 1


def test_a_missing_file(cells: Cells):
    result = cells.evaluate("nowhere.json")
    assert (result.code, result.err) == (1, "retina: nowhere.json: cannot be read: No such file or directory\n")
