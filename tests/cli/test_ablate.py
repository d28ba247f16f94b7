"""`retina ablate`."""

import json
from pathlib import Path

import pytest
from helpers.support import installed, retina

from retinacli.render.ablate import _best
from retinacli.render.detector_comparison import print_comparison
from retinanet.evaluation.coco_metrics import METRICS
from retinanet.paper.detector_comparison import ComparedDetector, DetectorComparison

TABLE_2 = ("--table", "2")


@pytest.mark.slow
def test_a_table_beside_the_papers(tiny: Path):
    result = retina("ablate", "tiny.yaml", "--table", "1b", "--values", 0, 2, "--epochs", 1, "-o", "ab", cwd=tiny)
    assert result.code == 0, result.err
    assert "run 1 of 2: table 1b, 0, seed 0\n" in result.err and "run 2 of 2: table 1b, 2, seed 0\n" in result.err
    assert result.err.splitlines()[-1] == "wrote ab/ablation.json and ab/ablation.png; the runs are in ab"
    lines = result.out.splitlines()
    assert lines[0].startswith("Table 1b: focal loss with different values of gamma, each with its best alpha")
    zero, two = (next(line for line in lines if line.startswith(f"\u2502 {value} ")) for value in "02")
    assert "shapes" in zero and "31.1" in zero and "49.4" in zero and "33.0" in zero
    assert "34.0" in two and "52.5" in two and "36.5" in two
    assert lines[-2] == "all rows: images of 64 x 1333 pixels, at most 100 detections per image"
    assert lines[-1].startswith("best here (seeds a row: 1): ") and lines[-1].endswith("; best in the paper: 2")
    assert (tiny / "ab" / "ablation.png").read_bytes().startswith(b"\x89PNG")

    again = retina("ablate", "tiny.yaml", "--table=1b", "--values", 2, "--epochs", 1, "-o", "ab", "--json", cwd=tiny)
    assert "run 1" not in again.err  # it is done
    document = json.loads(again.out)
    assert document["resolution"] == {"short_side": 64, "long_side": 1333} and document["max_detections"] == 100
    (row,) = document["rows"]
    assert (row["table"], row["value"], row["paper"]["AP"]) == ("1b", "2", 34.0)
    held = json.loads((tiny / "ab" / "ablation.json").read_text())["rows"]
    assert [item["value"] for item in held] == ["0", "2"]


def cells(text: str) -> list[list[str]]:
    """The rows of all tables in `text`."""
    return [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in text.splitlines() if "\u2502" in line]


def test_table_2_compares_detectors(tiny: Path):
    objects = json.loads((tiny / "shapes" / "annotations" / "instances_val.json").read_text())["annotations"]
    perfect = [{key: each[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0} for each in objects]
    (tiny / "perfect.json").write_text(json.dumps(perfect))
    places = [each | {"category_id": each["category_id"] // 10} for each in perfect]
    (tiny / "places.json").write_text(json.dumps(places))
    command = ("ablate", "tiny.yaml", "--table", "2", "--values", "focal", "ssd", "--epochs", 1, "-o", "two")
    others = ("--results", "yolo-n=perfect.json,5.25", "yolo-s=perfect.json")
    result = retina(*command, "--scale", 96, *others, cwd=tiny)
    assert result.code == 0, result.err
    assert "loss of torchvision's SSD; " in result.err and "run 2 of 2: table 2, ssd, seed 0\n" in result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("Table 2: RetinaNet compared with two-stage and one-stage detectors; ")
    first, second, boxes, change, _ = (line for line in lines if line.startswith("\u2502 ssd "))
    title = lines.index("Imbalance: candidates of an image, mean of 4 validation images")
    mined = next(line for line in lines[title:] if " mined boxes " in line)
    assert "about 100,000" in lines[title + 5] and " default boxes \u2502       390 " in boxes
    assert [cell.strip() for cell in mined.split("\u2502")[6:9]] == ["3.0", "\u2013", "3"]
    assert "31.2" in first and "50.4" in first and "33.3" in first
    assert "10.2" in second and "34.5" in second and "49.8" in second and " M \u2502" in second
    assert "better" not in change and change.endswith("\u2502   worse \u2502")
    rows = cells(result.out)
    quality, cost, equal, _ = (row for row in rows if row[0] == "yolo-s")
    assert quality == ["yolo-s", "shapes", "\u2013", "\u2013", *["100.0"] * 3, *["\u2013"] * 3]
    assert cost[-3:] == ["\u2013"] * 3 and equal[:5] == ["yolo-s", "\u2013", "1.0000", "1.0000", "+0.0000"]
    limits = "images of 64 x 1333 pixels, at most 100 detections per image"
    assert f"all rows but yolo-n, yolo-s: {limits}; yolo-n, yolo-s: resolution not known" in lines
    assert "stated: as given with --results, not measured here" in lines
    assert "best here: none; the interval includes 0 for yolo-s" in lines
    assert [row[:2] for row in rows[-6:-2]] == [["focal", "64"], ["", "96"], ["ssd", "64"], ["", "96"]]
    assert rows[-2] == ["yolo-n", "\u2013", "100.0", "100.0", "stated 5.25"]
    assert (tiny / "two" / "figure2.png").read_bytes().startswith(b"\x89PNG")

    other = ("--results", "yolo-n=places.json,5.25", "--classes-from", 1)
    again = installed(*command, "--json", "--scale", 96, 48, "--figure", "two/own.svg", *other, cwd=tiny)
    assert "run 1" not in again.err  # it is done
    assert again.err.startswith("wrote two/own.svg and two/figure2.json\n")
    assert b"<svg" in (tiny / "two" / "own.svg").read_bytes()[:1000]
    document = json.loads(again.out)
    assert [row["value"] for row in document["rows"]] == ["focal", "ssd"]
    compared = document["table_2"]
    assert (compared["leader"], compared["best"]) == ("yolo-n", "yolo-n")
    assert compared["section_5_2_ms"] == {"focal": 122, "faster-rcnn": 172}
    assert (compared["data"], compared["backbone"]) == ("shapes", "timm:lcnet_035")
    anchors, *_, mined = compared["imbalance"]["candidates"]
    assert (compared["imbalance"]["images"], compared["imbalance"]["dataset_images"]) == (4, 4)
    assert (anchors["detector"], anchors["kind"], anchors["number"]) == ("retinanet", "anchors", 774)
    assert anchors["paper"] == {"number": [100_000, 100_000], "background_per_foreground": None}
    assert mined["background"] == 3 * mined["foreground"] > 0 and mined["background_per_foreground"] == 3
    *trained, yolo = compared["detectors"]
    assert [(each["value"], each["results_file"]) for each in trained] == [("focal", None), ("ssd", None)]
    assert {name: yolo[name] for name in ("results_file", "resolution", "weights", "ms_per_image")} == {
        "results_file": "places.json",
        "resolution": None,
        "weights": None,
        "ms_per_image": 5.25,
    }
    assert trained[0]["resolution"] == {"short_side": 64, "long_side": 1333}
    changes = compared["changes_of_AP"]
    assert [(each["value"], each["seed"], each["change"]) for each in changes] == [("focal", 0, -1), ("ssd", 0, -1)]
    figure = document["figure_2"]
    assert figure == json.loads((tiny / "two" / "figure2.json").read_text()) and figure["figure"] == "two/own.svg"
    for each, detector in zip(figure["detectors"][:2], trained, strict=True):
        assert (each["value"], each["weights"]) == (detector["value"], detector["weights"])
        assert [point["scale"] for point in each["points"]] == [48, 64, 96]
        own = {"scale": 64, "ms": detector["ms_per_image"]} | {
            name: detector["metrics"][name] for name in ("AP", "AP50")
        }
        assert each["points"][1] == own
    assert figure["detectors"][2]["points"] == [{"scale": None, "AP": 1, "AP50": 1, "ms": 5.25}]
    paper = {each["detector"]: each["points"] for each in figure["paper"]}
    assert paper["RetinaNet-101"][2] == {"scale": 600, "AP": 36.0, "ms": 122}
    assert paper["Faster R-CNN, FPN"] == [{"scale": None, "AP": 36.2, "ms": 172}]

    refused = retina("predict", "shapes/val/0.png", "-w", "two/ssd-seed0", cwd=tiny)
    assert refused.code == 1 and refused.err.count("\n") == 1 and "does not fit its own config" in refused.err


def test_the_times_stand_beside_the_papers(capsys: pytest.CaptureFixture[str]):
    names = {"focal": 12.34, "faster-rcnn": 20.06, "ssd": 9.0}
    none, paper = dict.fromkeys(METRICS), dict.fromkeys(("APs", "APm", "APl"))
    detectors = [ComparedDetector(name, none, None, ms, None, paper, []) for name, ms in names.items()]
    line = (
        "paper, section 5.2: RetinaNet-101-600 122 ms, Faster R-CNN with FPN of equal AP 172 ms "
        "(Nvidia M40, ResNet-101, COCO); here: focal 12.3 ms, faster-rcnn 20.1 ms (a GPU, resnet18, cells)"
    )
    print_comparison(DetectorComparison(detectors, None, [], "cells", "resnet18", "a GPU"))
    assert line in capsys.readouterr().out.splitlines()
    print_comparison(DetectorComparison([*detectors[:1], detectors[2]], None, [], "cells", "resnet18", "a GPU"))
    assert "section 5.2" not in capsys.readouterr().out


def test_the_effects_of_the_causes(tiny: Path):
    command = ("ablate", "tiny.yaml", "--table", "causes", "--values", "ce-fpn-1", "focal-fpn-1", "--epochs", 1)
    result = retina(*command, "-o", "causes", cwd=tiny)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    title = "Effects: mean change of AP over pairs of runs, 1000 random resamples of the images"
    every, part = (line.split("\u2502") for line in lines[lines.index(title) :] if line.startswith("\u2502"))
    assert [cell.strip() for cell in every[1:4]] == ["loss: ce to focal", "all", "1"]
    assert [cell.strip() for cell in part[1:4]] == ["", "fpn, 1", "1"]
    document = json.loads(retina(*command, "-o", "causes", "--json", cwd=tiny).out)
    every, part = document["effects"]
    assert (every["cause"], every["before"], every["after"], every["others"]) == ("loss", "ce", "focal", [])
    assert part == every | {"others": ["fpn", "1"]}
    assert [every["first"], every["second"]] == [row["mean"]["AP"] for row in document["rows"]]
    assert every["interval"][0] <= every["change"] <= every["interval"][1]
    assert not list((tiny / "causes").glob("figure2.*"))


def test_equal_rows_have_no_best():
    assert _best({"0": 0.1, "2": 0.3}) == "2"
    assert _best({"0": 0.0, "1": 0.0, "2": -0.1}) == "none, 0 and 1 are equal"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--table", "2b"], 2, "retina: --table: unknown table '2b'; expected 1a, 1b, 1c, 1d, 3, prior, 2, causes\n"),
        (
            ["--table", "1c", "--values", "3by3"],
            1,
            "retina: table 1c has no row '3by3'; expected one like 1x1, 2x1, 3x1, ",
        ),
        (
            ["--table", "1a", "1b", "--values", "0"],
            2,
            "retina: --values needs one --table, not 1a, 1b; run them one by one, ",
        ),
        (["--results", "x=a.json"], 2, "retina: --results is for table 2; add --table 2\n"),
        ([*TABLE_2, "--results", "x"], 2, "retina: --results x: expected NAME=FILE.json or NAME=FILE.json,MS\n"),
        (
            [*TABLE_2, "--results", "x=a.txt,5"],
            2,
            "--results x=a.txt,5: expected NAME=FILE.json or NAME=FILE.json,MS\n",
        ),
        ([*TABLE_2, "--results", "=a.json"], 2, "--results =a.json: expected NAME=FILE.json or NAME=FILE.json,MS\n"),
        ([*TABLE_2, "--results", "x=a.json,0"], 2, "x=a.json,0: '0' is no number of milliseconds per image; expected "),
        (
            [*TABLE_2, "--results", "x=a.json,inf"],
            2,
            "'inf' is no number of milliseconds per image; expected one above 0",
        ),
        ([*TABLE_2, "--results", "ssd=a.json"], 2, "--results ssd=...: ssd is a row of table 2; choose another name\n"),
        ([*TABLE_2, "--results", "x=a.json", "x=b.json"], 2, "--results: two files have the name x; choose another "),
        ([*TABLE_2, "--results", "x=a.json"], 1, "retina: a.json: cannot be read: No such file or directory\n"),
        ([*TABLE_2, "--classes-from", "1"], 2, "--classes-from is for results files; it needs --results\n"),
        (["--scale", "96"], 2, "retina: --scale is for table 2; add --table 2\n"),
        ([*TABLE_2, "--figure", "a.png"], 2, "retina: --figure names the file of figure 2; it needs --scale\n"),
        (
            [*TABLE_2, "--scale", "96", "--figure", "a.gif"],
            2,
            "retina: --figure a.gif: expected a name that ends in .png, .pdf or .svg\n",
        ),
        (["--set", "train.epochs=x"], 1, "train.epochs is 'x', expected a whole number"),
    ],
)
def test_each_refusal_is_one_line(tiny: Path, arguments, code, words):
    result = retina("ablate", "tiny.yaml", "-o", "refused", *arguments, cwd=tiny)
    assert result.code == code
    assert words in result.err and result.err.count("\n") == 1 and result.out == ""
    assert not (tiny / "refused").exists()


def test_a_row_that_diverges_stands_in_the_table(tiny: Path):
    wild = [f"train.{key}" for key in ("optimizer=sgd", "lr=100", "warmup_steps=0")]
    result = installed(
        "ablate", "tiny.yaml", "--table", "prior", "--values", "none", "--epochs", 9, "-o", "wild",
        *(part for key in wild for part in ("--set", key)), cwd=tiny,
    )  # fmt: skip
    assert result.code == 0, result.err
    (line,) = (line for line in result.out.splitlines() if line.startswith("\u2502 none "))
    assert "diverged at step " in line
    log = tiny / "wild" / "ce-prior-none-seed0" / "metrics.jsonl"
    first = json.loads(log.read_text().splitlines()[0])
    assert line.split("\u2502")[5].strip() == f"{first['cls']:.3g}"
    assert (tiny / "wild" / "ablation.png").exists()
