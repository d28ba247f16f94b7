"""`retina predict`."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.support import installed, retina
from PIL import Image

SCORE = ("--score", "0.0001", "--max-detections", "3")


@pytest.fixture
def images(tiny: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("0.png", "1.png"):
        (folder / name).write_bytes((tiny / "shapes" / "val" / name).read_bytes())
    return folder


def test_json_shape(images: Path, tiny_run: Path):
    result = installed("predict", images, "-w", tiny_run, "--json", *SCORE)
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert [Path(image["file"]).name for image in document["images"]] == ["0.png", "1.png"]
    for image in document["images"]:
        assert (image["width"], image["height"]) == (128, 128)
        scores = [found["score"] for found in image["detections"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        for found in image["detections"]:
            x1, y1, x2, y2 = found["box"]
            assert 0 <= x1 <= x2 <= 128 and 0 <= y1 <= y2 <= 128
            assert found["category_id"] == 10 * (1 + CLASSES.index(found["label"]))


CLASSES = ["red circle", "blue circle", "red square", "green square", "green triangle", "blue triangle"]


def test_bf16_finds_nearly_the_same_and_says_so(images: Path, tiny_run: Path):
    found = {}
    for precision in ("fp32", "bf16"):
        result = retina("predict", images, "-w", tiny_run, "--precision", precision, "--json", *SCORE)
        assert (result.code, result.err) == (0, "")
        document = json.loads(result.out)
        assert document["precision"] == precision
        found[precision] = [each["score"] for image in document["images"] for each in image["detections"]]
    assert found["fp32"] != found["bf16"]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=4 * 2**-8 * 5)  # the logits are about -5
    table = retina("predict", images, "-w", tiny_run, "--precision", "bf16", *SCORE).out
    assert table.startswith("Detections in bf16\n")
    table = retina("eval", tiny_run, "--precision", "bf16", "--funnel", cwd=tiny_run.parent)
    assert table.code == 0 and "COCO metrics in bf16\n" in table.out


def test_auto_chooses_and_says_what(images: Path, tiny_run: Path):
    result = installed("predict", images, "-w", tiny_run, "--precision", "auto", *SCORE)
    assert (result.code, result.err) == (0, "") and re.match("Detections in (fp32|bf16)\n", result.out)
    table = retina("eval", tiny_run, "--precision", "auto", cwd=tiny_run.parent)
    assert table.code == 0 and re.search("^COCO metrics in (fp32|bf16)$", table.out, re.MULTILINE)
    refused = retina("predict", images, "--precision", "auto", "--shard", "0/2")
    message = "--precision auto may differ from shard to shard; with --shard, name fp32, bf16 or fp16"
    assert (refused.code, refused.out, refused.err) == (2, "", f"retina: {message}\n")


def test_vis_writes_copies_and_leaves_the_input_alone(images: Path, tiny_run: Path):
    before = [(images / name).read_bytes() for name in ("0.png", "1.png")]
    result = retina("predict", images / "*.png", "-w", tiny_run, "--vis", "-o", images, *SCORE)
    assert result.code == 0, result.err
    assert result.err == f"wrote 2 annotated images to {images}\n"
    assert [(images / name).read_bytes() for name in ("0.png", "1.png")] == before
    copy = np.asarray(Image.open(images / "0-1.png"))
    assert copy.shape == (128, 128, 3)
    assert (copy != np.asarray(Image.open(images / "0.png"))).any()


def test_without_a_detection_the_way_to_weaker_ones_is_shown(images: Path, tiny_run: Path):
    hint = "no detection has a score above 0.3; a lower --score shows weaker ones\n"
    for options, expected in (((), hint), (("--score", "0.3"), ""), (("--json",), "")):
        result = retina("predict", images, "-w", tiny_run, *options)
        assert (result.code, result.err) == (0, expected)


def test_a_batch_and_single_images_give_the_same(images: Path, tiny_run: Path):
    single, batch = (
        json.loads(retina("predict", images, "-w", tiny_run, "--json", "--batch-size", size, *SCORE).out)
        for size in (1, 2)
    )
    for one, two in zip(single["images"], batch["images"], strict=True):
        for a, b in zip(one["detections"], two["detections"], strict=True):
            assert a["box"] == pytest.approx(b["box"], abs=1e-2)
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_only_the_named_classes(images: Path, tiny_run: Path):
    result = retina("predict", images, "-w", tiny_run, "--json", "--classes", "blue circle,red square", *SCORE)
    labels = {found["label"] for image in json.loads(result.out)["images"] for found in image["detections"]}
    assert labels and labels <= {"blue circle", "red square"}
    result = retina("predict", images, "-w", tiny_run, "--classes", "blue circel")
    assert result.code == 2
    assert result.err == "retina: --classes: unknown class 'blue circel'; did you mean blue circle?\n"


def test_an_unreadable_file_is_named_and_the_rest_go_on(images: Path, tiny_run: Path):
    (images / "a text.png").write_text("no picture")
    result = retina("predict", images, "-w", tiny_run, "--json", *SCORE)
    assert result.code == 1
    assert "a text.png: not an image" in result.err and result.err.count("\n") == 1
    assert len(json.loads(result.out)["images"]) == 2


def test_coco_results_and_table(images: Path, tiny_run: Path, tmp_path: Path):
    result = retina("predict", images, "-w", tiny_run, "--save-coco", tmp_path / "results.json", *SCORE)
    assert result.code == 0
    assert "Detections" in result.out and "x1" in result.out
    saved = json.loads((tmp_path / "results.json").read_text())
    assert len(saved) == 6
    assert {Path(item["file_name"]).name for item in saved} == {"0.png", "1.png"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x.jpg", "-w", "RUN"], 1, "retina: x.jpg: no such file or folder, and no file matches it as a pattern\n"),
        (["empty", "-w", "RUN"], 1, "retina: empty: contains no image (.jpg, .jpeg, .png, .bmp, .webp, .tif, .tiff)\n"),
    ],
)
def test_refusals(tmp_path: Path, tiny_run: Path, arguments, code, message):
    (tmp_path / "empty").mkdir()
    arguments = [str(tiny_run) if argument == "RUN" else argument for argument in arguments]
    result = retina("predict", *arguments, cwd=tmp_path)
    assert (result.code, result.out, result.err) == (code, "", message)


def test_the_library_gives_what_the_command_gives(images: Path, tiny_run: Path):
    import retinanet

    detector = retinanet.load(tiny_run, score_threshold=0.0001, max_detections=3)
    found = detector.predict(images / "0.png")
    again = detector.predict(np.asarray(Image.open(images / "0.png")))
    document = json.loads(retina("predict", images / "0.png", "-w", tiny_run, "--json", *SCORE).out)
    listed = document["images"][0]["detections"]
    assert [detector.classes[label] for label in found.labels] == [item["label"] for item in listed]
    assert found.scores.tolist() == pytest.approx([item["score"] for item in listed], abs=1e-4)
    assert (found.boxes == again.boxes).all()


def write_thresholds(path: Path, **of_class: float) -> Path:
    """A file by hand: what is not named (with _ for a space) is never reported."""
    lines = (f"- {{label: {name}, threshold: {of_class.get(name.replace(' ', '_'), 1)}}}\n" for name in CLASSES)
    path.write_text("classes:\n" + "".join(lines))
    return path


def test_a_threshold_for_each_class(images: Path, tiny_run: Path, tmp_path: Path):
    def found(*options: object) -> list[list[dict]]:
        result = retina("predict", images, "-w", tiny_run, "--json", *options)
        assert result.code == 0, result.err
        return [image["detections"] for image in json.loads(result.out)["images"]]

    best = {item["label"] for image in found(*SCORE) for item in image}
    [other, *_] = [name for name in CLASSES if name not in best]
    alone = write_thresholds(tmp_path / "alone.yaml", **{other.replace(" ", "_"): 0.0001})
    only = found("--thresholds", alone, "--max-detections", 3)
    assert only == found(*SCORE, "--classes", other)  # no place goes to classes below their threshold
    assert [len(image) for image in only] == [3, 3]


def test_thresholds_apply_to_the_named_classes(images: Path, tiny_run: Path, tmp_path: Path):
    import retinanet

    picture = np.asarray(Image.open(images / "0.png"))
    every = retinanet.load(tiny_run, score_threshold=0.0001).predict(picture)
    middle = float(np.median(every.scores[every.labels == 0]))
    both = write_thresholds(tmp_path / "both.yaml", red_circle=middle, blue_circle=0.0001)
    detector = retinanet.load(tiny_run, thresholds=both)
    found = detector.predict(picture)
    assert set(found.labels.tolist()) == {0, 1} and (found.scores[found.labels == 0] > middle).all()
    [blue] = detector.predict_batch([picture], [1, 3])
    assert set(blue.labels.tolist()) == {1}


def test_thresholds_of_the_library_and_the_file(tiny: Path, tiny_run: Path, images: Path, tmp_path: Path):
    import retinanet
    from retinanet.evaluation.thresholds import choose_thresholds, save_thresholds

    evaluation = retinanet.evaluate(tiny_run, tiny / "tiny.yaml", overrides=["detect.score_threshold=0.0001"])
    chosen = choose_thresholds(evaluation.dataset, evaluation.results, lowest=0.0001, resamples=20)
    file = tmp_path / "thresholds.yaml"
    save_thresholds(file, chosen, len(evaluation.dataset))
    result = retina("predict", images, "-w", tiny_run, "--thresholds", file, "--json")
    assert result.code == 0, result.err
    loaded = retinanet.load(tiny_run, thresholds=file)
    assert loaded.thresholds == tuple(each.threshold for each in chosen)
    for image in json.loads(result.out)["images"]:
        expected = loaded.predict(image["file"])
        assert [item["score"] for item in image["detections"]] == pytest.approx(expected.scores.tolist(), abs=1e-4)
        for item in image["detections"]:
            assert item["score"] > loaded.thresholds[CLASSES.index(item["label"])] - 1e-5


def test_faults_of_thresholds(images: Path, tiny_run: Path, tmp_path: Path):
    (tmp_path / "t.yaml").write_text("classes: [{label: red circel, threshold: 0.5}]")
    for options, code, message in [
        (
            ["--score", "0.3"],
            2,
            "--score sets one threshold for all classes, --thresholds one for each class; use only one of them",
        ),
        ([], 1, "t.yaml: classes, entry 1: unknown class 'red circel'; did you mean red circle?"),
    ]:
        result = retina("predict", images, "-w", tiny_run, "--thresholds", "t.yaml", *options, cwd=tmp_path)
        assert (result.code, result.out, result.err) == (code, "", f"retina: {message}\n")


def test_folders_with_subfolders_and_files_of_macos(images: Path, tiny_run: Path, in_process, tmp_path: Path):
    inner = tmp_path / "all" / "inner"
    inner.mkdir(parents=True)
    picture = next(images.glob("*.png"))
    shutil.copy(picture, inner / "a.png")
    (inner / "._a.png").write_bytes(b"resource fork")
    (inner / "b.png").mkdir()
    refused = in_process("predict", "all", "-w", tiny_run)
    assert refused.code == 1 and refused.err.endswith("; its subfolders are searched with --recursive\n")
    found = in_process("predict", "all", "-w", tiny_run, "--recursive", "--json", "--vis", "-o", "one.jpg")
    assert [image["file"] for image in json.loads(found.out)["images"]] == ["all/inner/a.png"]
    assert (tmp_path / "one.jpg").is_file()
    shutil.copy(picture, tmp_path / "all" / "b.png")
    outer = in_process("predict", "all", "-w", tiny_run, "--json")
    assert [image["file"] for image in json.loads(outer.out)["images"]] == ["all/b.png"]
    assert outer.err == "all: left out the images in inner; its subfolders are searched with --recursive\n"


def test_the_ids_of_a_data_set_can_be_scored(tiny: Path, tiny_run: Path, tmp_path: Path):
    from hotcoco import COCO

    annotations = tmp_path / "instances.json"
    document = json.loads((tiny / "shapes" / "annotations" / "instances_val.json").read_text())
    for number, image in enumerate(document["images"]):
        image["id"] = 100 - number
    for each in document["annotations"]:
        each["image_id"] = 100 - each["image_id"]
    document["images"][3]["file_name"] = "val\\3.png"
    annotations.write_text(json.dumps(document))
    save = ("--save-coco", tmp_path / "found.json", "--image-ids", annotations, *SCORE)
    result = retina("predict", tiny / "shapes" / "val", "-w", tiny_run, *save)
    assert (result.code, result.err) == (0, "")
    found = json.loads((tmp_path / "found.json").read_text())
    assert {each["image_id"]: Path(each["file_name"]).name for each in found} == {100 - i: f"{i}.png" for i in range(4)}
    COCO(str(annotations)).load_res(str(tmp_path / "found.json"))


def test_ids_that_do_not_fit(images: Path, tiny_run: Path, tmp_path: Path, in_process):
    from retinanet.inference.results import match_image_ids

    def refused(*names: str, other: str = "images/1.png") -> str:
        entries = [{"id": index, "file_name": name} for index, name in enumerate(names)]
        (tmp_path / "i.json").write_text(json.dumps({"images": entries}))
        options = ("--save-coco", "x.json", "--image-ids", "i.json")
        result = in_process("predict", "images/0.png", other, "-w", tiny_run, *options)
        assert (result.code, result.out) == (1, "") and not (tmp_path / "x.json").exists()
        return result.err

    assert refused("0.png") == "retina: images/1.png: i.json has no image of this name\n"
    several = "retina: images/0.png: i.json has several images of this name, such as a/0.png and b/0.png\n"
    assert refused("a/0.png", "b/0.png", "1.png") == several
    (tmp_path / "0.png").write_bytes((images / "0.png").read_bytes())
    same = "retina: 0.png: has the same id 0 in i.json as images/0.png; name one of them\n"
    assert refused("0.png", other="0.png") == same
    assert match_image_ids([Path("a/b/0.png"), Path("0.png")], {"0.png": 1, "b/0.png": 2}, "i") == [2, 1]
    assert refused().startswith('retina: i.json: "images" is empty')
    result = in_process("predict", "x.jpg", "--image-ids", "i.json")
    assert (result.code, result.err) == (
        2,
        "retina: --image-ids sets the ids of the images in --save-coco; add --save-coco FILE\n",
    )


def test_an_output_without_vis_is_refused(tiny_run: Path, in_process):
    result = in_process("predict", "x.jpg", "-w", tiny_run, "-o", "there")
    assert (result.code, result.err) == (2, "retina: -o sets where --vis writes copies of the images; add --vis\n")


def test_one_file_as_output(images: Path, tiny_run: Path, in_process, tmp_path: Path):
    def outcome(output: str, *sources: str) -> tuple[int, str]:
        result = in_process("predict", *sources, "-w", tiny_run, "--vis", "-o", output, *SCORE)
        return result.code, result.err

    one, other = "images/0.png", "images/1.png"
    assert outcome("a.jpg", one) == (0, "wrote 1 annotated image to a.jpg\n")
    several = "is one file, for 2 annotated images; expected a folder"
    assert outcome("a.jpg", one, other) == outcome("a.jpg", "images") == (1, f"retina: a.jpg: {several}\n")
    before = (images / "0.png").read_bytes()
    itself = "is the image itself; expected another file, or a folder"
    assert outcome("images/../images/0.png", one) == (1, f"retina: images/../images/0.png: {itself}\n")
    assert (images / "0.png").read_bytes() == before
    (tmp_path / "folder.png").mkdir()
    assert outcome("folder.png", one) == (0, "wrote 1 annotated image to folder.png\n")
    assert (tmp_path / "folder.png" / "0.png").is_file()
    (tmp_path / "taken").touch()
    assert outcome("taken", one, other) == (1, "retina: taken/0.png: cannot be written: taken is a file\n")


def test_the_home_folder(images: Path, tiny_run: Path, in_process, monkeypatch):
    monkeypatch.setenv("HOME", str(images.parent))
    options = ("-w", tiny_run, "--json", "--vis", "-o", "~/copies")
    assert in_process("predict", f"~/{images.name}", *options).code == 0
    assert len(list((images.parent / "copies").iterdir())) == 2


def test_many_images_are_summed_up(images: Path, tiny_run: Path, in_process, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("retinacli.render.predict.MOST_SHOWN", 1)
    result = in_process("predict", images, "-w", tiny_run, "--score", "0.0001")
    assert re.search(r"^\d images in fp32, \d+ ms per image", result.out) and "images with it" in result.out


def test_a_checkpoint_that_asks_for_huge_images_warns_first(tiny: Path, tiny_run: Path, images: Path, monkeypatch):
    from retinanet.benchmark.subject import open_subject
    from retinanet.config.schema import DataConfig
    from retinanet.data.transforms import memory_warning
    from retinanet.export.export import export

    huge = DataConfig(short_side=8192, long_side=8192)
    assert memory_warning(DataConfig(), "a") is memory_warning(DataConfig(short_side=8192), "a") is None
    expected = "warning: a: resizes images to up to 8192 x 8192 pixels; one takes about 12.5 GiB"
    assert memory_warning(huge, "a") == expected

    class Warned(Exception):
        pass

    def stop(text: str) -> None:
        raise Warned(text)

    monkeypatch.setattr("retinanet.data.transforms.MUCH_MEMORY", 1)
    warning = f"warning: {tiny_run}: resizes images to up to 64 x 1333 pixels; one takes about 0.0 GiB"
    for result in (retina("predict", images, "-w", tiny_run, *SCORE), retina("eval", tiny_run, cwd=tiny)):
        assert (result.code, result.err) == (0, f"{warning}\n")
    with pytest.raises(Warned, match=warning), open_subject(str(tiny_run), progress=stop):
        pass
    with pytest.raises(Warned, match=warning):
        export(tiny_run, "onnx", images / "x.onnx", progress=stop)


def test_an_interrupt_leaves_what_was_found(images: Path, tiny_run: Path, in_process, monkeypatch):
    from retinanet.inference.detector import Detector

    read, calls = Detector.read, iter(range(99))

    def interrupted(self, file):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return read(self, file)

    monkeypatch.setattr(Detector, "read", interrupted)
    files = sorted(images.glob("*.png"))
    result = in_process("predict", *files, "-w", tiny_run, "--json")
    assert len(json.loads(result.out)["images"]) == 1
    assert (result.code, result.err) == (130, f"retina: interrupted after 1 of {len(files)} images\n")
