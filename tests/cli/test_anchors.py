"""`retina anchors`."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.support import installed, retina
from PIL import Image
from torchvision.ops import box_iou

from retinacli.render.anchors import anchors_document, imbalance_line, shortfall
from retinanet.config.schema import AnchorConfig
from retinanet.config_file import load_config
from retinanet.data import open_dataset
from retinanet.data.shapes import open_shapes
from retinanet.data.transforms import padded
from retinanet.dataset_analysis.anchor_coverage import Coverage, Share, data_coverage
from retinanet.dataset_analysis.anchor_picture import LEVEL_COLOURS, find_image, matches_panel
from retinanet.dataset_analysis.imbalance import Imbalance, imbalance
from retinanet.errors import DataError
from retinanet.losses.atss import match_atss
from retinanet.model.anchors import image_anchors, make_anchors


@pytest.fixture(scope="module")
def coverage(tiny: Path) -> dict:
    """That of tiny.yaml's training images, as the command gives it."""
    return json.loads(retina("anchors", "tiny.yaml", "--json", cwd=tiny).out)["coverage"]


def one_line(result, code: int, text: str) -> None:
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1), result
    assert text in result.err


def test_the_nine_anchors_of_each_level(tmp_path: Path):
    result = installed("anchors", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "sides (square root of the area): 32 to 813 pixels\n" in result.out
    rows = [line.replace(" ", "").split("│") for line in result.out.splitlines() if line.startswith("│")]
    assert len(rows) == 45
    assert [row[1:3] for row in rows if row[1]] == [
        ["P3", "8"],
        ["P4", "16"],
        ["P5", "32"],
        ["P6", "64"],
        ["P7", "128"],
    ]
    assert rows[0][3:9] == ["1", "0.5", "45.3", "22.6", "1024", "32.0"]
    assert rows[-1][3:9] == ["1.59", "2", "574.7", "1149.4", "660561", "812.7"]


def test_the_document_without_data():
    made = anchors_document(AnchorConfig(ratios=(1,)), None, None, None)
    assert made["coverage"] is made["imbalance"] is made["optimized"] is None
    assert made["anchors"]["per_cell"] == 3 and made["anchors"]["smallest"] == 32
    assert [level["stride"] for level in made["anchors"]["levels"]] == [8, 16, 32, 64, 128]
    first = made["anchors"]["levels"][0]["anchors"][0]
    assert first == {"scale": 1, "ratio": 1, "width": 32, "height": 32, "area": 1024, "side": 32}


def test_tables(tiny: Path, coverage: dict):
    result = retina("anchors", "tiny.yaml", "--min-coverage", 0.98, cwd=tiny)
    assert result.code == 3
    for text in (
        "IoU >= 0.5",
        "0.4 to 0.5",
        "< 0.4",
        "mean IoU",
        "small",
        "red circle",
        "P7",
        "Objects with the lowest IoU",
    ):
        assert text in result.out
    share, everything = coverage["share"], coverage["all"]
    assert 0.1 < share < 0.9
    missed = everything["ignored"] + everything["missed"]
    assert result.err == (
        f"retina: coverage is {share:.6g}, below --min-coverage 0.98: {missed} of {everything['objects']} objects have "
        "no anchor of IoU >= 0.5\n"
    )
    found = imbalance(load_config(tiny / "tiny.yaml"), open_dataset(load_config(tiny / "tiny.yaml").data, "train"))
    assert f"\n{imbalance_line(found)}\n" in result.out
    met = retina("anchors", "tiny.yaml", "--min-coverage", share, "--json", cwd=tiny)
    document = json.loads(met.out)
    assert (met.code, met.err, document["coverage"]) == (0, "", coverage)
    assert document["imbalance"] == dataclasses.asdict(found) | {"ratio": found.ratio}


def test_the_line_of_the_imbalance():
    assert imbalance_line(Imbalance(200, 76725.4, 42.34, 12.06, 76671.0)) == (
        "imbalance: 76,725 anchors per image, 42.3 of them foreground (1 to 1,811 of background) and 12.1 ignored; "
        "mean of 200 images"
    )
    assert "0.0 of them foreground (none) and" in imbalance_line(Imbalance(1, 9, 0, 0, 9))


def test_with_atss_coverage_counts_the_objects_with_a_selected_anchor(tiny: Path, coverage: dict):
    atss = ("--set", "anchors.matching=atss")
    document = json.loads(retina("anchors", "tiny.yaml", *atss, "--json", cwd=tiny).out)
    config = load_config(tiny / "tiny.yaml", [atss[1]])
    data = open_dataset(config.data, "train")
    objects = data_coverage(config, data)[0]
    selected = 0
    for box, size in zip(objects.boxes, objects.image_sizes, strict=True):
        levels = image_anchors(tuple(padded(size).tolist()))
        one = torch.from_numpy(box[None]).float()
        selected += int((match_atss(levels, one, torch.tensor([False]), per_cell=9) >= 0).any())
    everything, by_iou = document["coverage"]["all"], coverage["all"]
    assert (everything["covered"], everything["ignored"]) == (selected, 0)
    assert everything["missed"] == everything["objects"] - selected
    assert everything["covered"] > by_iou["covered"] and everything["mean_iou"] == by_iou["mean_iou"]
    found = imbalance(config, data)
    assert document["imbalance"] == dataclasses.asdict(found) | {"ratio": found.ratio}

    result = retina("anchors", "tiny.yaml", *atss, "--min-coverage", 1, cwd=tiny)
    for text in ("whether ATSS selects an anchor for each object", "anchor selected", "none selected"):
        assert text in result.out
    assert "IoU >=" not in result.out
    assert result.code == (0 if selected == everything["objects"] else 3)


def test_the_message_about_atss_coverage():
    share = Share("all", 10, 9, 0, 1, 0.5)
    message = shortfall(Coverage(share, [], [], [], []), 0.95, AnchorConfig(matching="atss"))
    assert message == ("coverage is 0.9, below --min-coverage 0.95: 1 of 10 objects have no anchor that ATSS selects")


def test_the_worst_are_named(tiny: Path, coverage: dict):
    truth = json.loads((tiny / "shapes" / "annotations" / "instances_train.json").read_text())
    assert coverage["all"]["objects"] == len(truth["annotations"])
    ids = {annotation["id"]: annotation for annotation in truth["annotations"]}
    assert len(coverage["worst"]) == 10
    for item in coverage["worst"]:  # the short side of 128 px becomes 64
        annotation = ids[item["annotation_id"]]
        assert item["file"] == f"{annotation['image_id']}.png"
        assert (item["width"], item["height"]) == pytest.approx((annotation["bbox"][2] / 2, annotation["bbox"][3] / 2))


def test_short_sides_of_training_count_each(tiny: Path, coverage: dict):
    config = load_config(tiny / "tiny.yaml", ["train.augment.short_sides=[64, 64, 128]"])
    _, covered = data_coverage(config, open_dataset(config.data, "train"))
    assert covered.all.objects == 3 * coverage["all"]["objects"]
    assert covered.all.covered > 2 * coverage["all"]["covered"]


def test_coco128_counted_anew(shared_data: Path):
    root = shared_data / "coco128"
    result = retina("anchors", "coco128.yaml", "--set", f"data.root={root}", "--json")
    coverage = json.loads(result.out)["coverage"]

    truth = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    images = {image["id"]: image for image in truth["images"]}
    best, levels = {}, {}
    for a in truth["annotations"]:
        if a["iscrowd"] or min(a["bbox"][2:]) <= 0:
            continue
        width, height = images[a["image_id"]]["width"], images[a["image_id"]]["height"]
        scale = min(256 / min(width, height), 448 / max(width, height))
        w, h = int(width * scale + 0.5), int(height * scale + 0.5)
        rows, columns = -(-h // 32), -(-w // 32)  # cells of P5
        cells = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns)]
        cells += [(-(-rows // n), -(-columns // n)) for n in (2, 4)]
        x, y, box_w, box_h = a["bbox"]
        box = torch.tensor([[x, y, min(x + box_w, width), min(y + box_h, height)]], dtype=torch.float64)
        box *= torch.tensor([w / width, h / height] * 2)
        ious = [float(box_iou(box, level.double()).max()) for level in make_anchors(cells)]
        best[a["id"]], levels[a["id"]] = max(ious), int(np.argmax(ious))

    values = np.array(list(best.values()))
    everything = coverage["all"]
    assert everything["objects"] == len(values) > 900
    assert everything["covered"] == (values >= 0.5).sum()
    assert everything["missed"] == (values < 0.4).sum()
    assert everything["mean_iou"] == pytest.approx(values.mean(), abs=1e-6)
    assert coverage["share"] == (values >= 0.5).mean()
    assert [item["objects"] for item in coverage["per_level"]] == np.bincount(
        list(levels.values()), minlength=5
    ).tolist()
    areas = {a["id"]: a["area"] for a in truth["annotations"]}
    assert coverage["per_size"][0]["objects"] == sum(areas[i] < 32**2 for i in best)
    assert [item["annotation_id"] for item in coverage["worst"]] == sorted(best, key=lambda i: best[i])[:10]


def test_optimize_prints_what_can_be_pasted(tiny: Path):
    command = ("anchors", "tiny.yaml", "--optimize", "--seed", 3, "--set", "anchors.foreground_iou=0.6")
    result = retina(*command, "--per-cell", 9, cwd=tiny)  # as many as there are
    assert result.code == 0 and "before" in result.out and "after" in result.out
    block = result.out[result.out.index("\nanchors:\n") :]
    found = json.loads(retina(*command, "--json", cwd=tiny).out)["optimized"]
    # a pasted block takes the place of another: it keeps what is no default
    assert yaml.safe_load(block)["anchors"] == found["anchors"] | {"foreground_iou": 0.6}
    assert found["after"]["coverage"] > found["before"]["coverage"]
    assert found["after"]["mean_iou"] > found["before"]["mean_iou"]
    (tiny / "pasted.yaml").write_text((tiny / "tiny.yaml").read_text() + block)
    config = load_config(tiny / "pasted.yaml")
    _, covered = data_coverage(config, open_dataset(config.data, "train"))
    assert (covered.share, covered.all.mean_iou) == (found["after"]["coverage"], found["after"]["mean_iou"])


def test_a_picture_of_the_data_has_two_panels(tiny: Path, tmp_path: Path):
    result = retina("anchors", "tiny.yaml", "--vis", "shapes/train/0.png", "-o", tmp_path / "new" / "a.png", cwd=tiny)
    assert result.code == 0 and result.err.startswith(f"wrote {tmp_path}/new/a.png: the anchors on ")
    both = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    for colour in LEVEL_COLOURS:
        assert (both == colour).all(axis=2).any()
    other = retina("anchors", "tiny.yaml", "--vis", tmp_path / "new" / "a.png", "-o", tmp_path / "c.jpg", cwd=tiny)
    assert other.code == 0 and "without objects, since train has no such image" in other.err
    assert Image.open(tmp_path / "c.jpg").format == "JPEG"


def test_verdicts():
    image = np.full((128, 128, 3), 128, np.uint8)
    boxes = np.array([[48, 48, 80, 80], [53.5, 53.5, 74.5, 74.5], [10, 100, 14, 104], [0, 0, 90, 90]], np.float32)
    crowd = np.array([False, False, False, True])
    legend = matches_panel(image, boxes, crowd, AnchorConfig(scales=(1,), ratios=(1,))).legend
    assert [text.split(":")[0] for _, text in legend] == [
        "1 matched",
        "1 only in the ignore band",
        "1 not covered",
        "1 crowd",
    ]


def test_verdicts_of_atss():
    image = np.full((128, 128, 3), 128, np.uint8)
    # the second lies between the centres of P3, which are 8 px apart
    boxes = np.array([[48, 48, 80, 80], [81, 81, 87, 87]], np.float32)
    legend = matches_panel(image, boxes, np.array([False, False]), AnchorConfig(matching="atss")).legend
    assert [text.split(" (")[0] for _, text in legend] == [
        "1 matched: ATSS selects anchors",
        "1 not covered: ATSS selects no anchor, or its anchors match others",
    ]


def test_images_are_found_by_path_or_by_a_name_of_their_own():
    dataset = open_shapes("val")
    assert find_image(dataset, Path("shapes-val-00007.png")) == 7
    assert find_image(dataset, Path("elsewhere/shapes-val-00007.png")) == 7
    assert find_image(dataset, Path("shapes-val-7.png")) is None
    dataset.files = type(dataset.files)(["a/1.png", "b/1.png", "2.png"])
    dataset.image_ids = dataset.image_ids[:3]
    assert find_image(dataset, Path("b/1.png")) == 1
    assert find_image(dataset, Path(dataset.folder / "a" / "1.png").resolve()) == 0
    with pytest.raises(DataError, match="2 images of the data set have this name"):
        find_image(dataset, Path("c/1.png"))


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nowhere.yaml"], 1, "nowhere.yaml: no such file here or among the shipped examples"),
        (["tiny.yaml", "--vis", "tiny.yaml"], 1, "tiny.yaml: not an image"),
        (["--optimize"], 2, "--optimize needs the objects of a data set; name a CONFIG"),
        (["--min-coverage", "0.9"], 2, "--min-coverage needs the objects of a data set; name a CONFIG"),
        (["tiny.yaml", "--per-cell", "9"], 2, "add --optimize"),
        (
            ["tiny.yaml", "--optimize", "--set", "anchors.matching=atss"],
            2,
            "--optimize searches for anchors that reach anchors.foreground_iou, but anchors.matching is atss",
        ),
        (["--vis", "a.png", "-o", "a.gif"], 2, "expected a name that ends in .png or .jpg"),
        (["--vis", "a.png", "-o", "./a.png"], 2, "is the image of --vis; choose another file"),
    ],
)
def test_faults_are_one_line(tiny: Path, arguments, code, text):
    one_line(retina("anchors", *arguments, cwd=tiny), code, text)


def test_a_share_is_0_to_1(tiny: Path):
    result = retina("anchors", "tiny.yaml", "--min-coverage", "1.5", cwd=tiny)
    assert (result.code, result.out) == (2, "") and "--min-coverage" in result.err


def test_data_without_objects(tiny: Path, tmp_path: Path):
    truth = json.loads((tiny / "shapes" / "annotations" / "instances_val.json").read_text())
    (tmp_path / "none.json").write_text(json.dumps(truth | {"annotations": []}))
    images = tiny / "shapes" / "val"
    (tmp_path / "none.yaml").write_text(
        f"data: {{root: /, train: {{images: '{images}', annotations: '{tmp_path}/none.json'}}}}\n"
    )
    one_line(retina("anchors", "none.yaml", cwd=tmp_path), 1, "none of its 4 images has an object")
