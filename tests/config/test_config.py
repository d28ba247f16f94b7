"""Configs from YAML files and overrides, and the message for each error in them."""

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from retinanet.config.parsing import changes, config_from_dict, config_to_dict
from retinanet.config.presets import PRESETS
from retinanet.config.schema import Config, SplitConfig, checkpoint_interval, loss_settings
from retinanet.config_file import load_config, shipped_examples
from retinanet.errors import ConfigError
from retinanet.model.backbone import TORCHVISION


@pytest.fixture
def write(tmp_path):
    """Write a configuration and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "my.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path, *overrides: str) -> str:
    """The message, without the file's path at its beginning."""
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def test_the_papers_defaults():
    config = Config()
    assert (config.model.backbone, config.model.prior, config.loss.classification) == ("resnet50", 0.01, "focal")
    assert loss_settings(config.loss) == {"gamma": 2, "alpha": 0.25}
    assert (config.anchors.foreground_iou, config.anchors.background_iou) == (0.5, 0.4)
    assert (config.train.batch_size, config.train.momentum, config.data.short_side) == (16, 0.9, 800)
    detect = config.detect
    assert (detect.score_threshold, detect.top_k, detect.nms_iou, detect.max_detections) == (0.05, 1000, 0.5, 100)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("{}", {"gamma": 2, "alpha": 0.25}),
        ("{gamma: 0}", {"gamma": 0, "alpha": 0.75}),
        ("{gamma: 0.5}", {"gamma": 0.5, "alpha": 0.5}),
        ("{gamma: 0, alpha: 0.25}", {"gamma": 0, "alpha": 0.25}),
        ("{alpha: [0.1, 2e-1]}", {"gamma": 2, "alpha": (0.1, 0.2)}),
        ("{classification: ce}", {}),
        ("{classification: balanced_ce}", {"alpha": 0.75}),
        ("{classification: focal_star}", {"gamma": 2, "shift": 1, "alpha": 0.25}),
        ("{classification: ohem}", {"count": 128, "nms_iou": 0.5}),
        ("{classification: ohem_1_3, count: 256}", {"count": 256, "nms_iou": 0.5}),
        ("{classification: sampled}", {"count": 256}),
        ("{classification: quality_focal}", {"gamma": 2}),
        ("{classification: varifocal, gamma: 1.5}", {"alpha": 0.75, "gamma": 1.5}),
    ],
)
def test_defaults_follow_the_loss(write, text, settings):
    config = load_config(write(f"data: shapes\nloss: {text}\nmodel: {{prior: null}}"))
    assert loss_settings(config.loss) == settings
    assert config.model.prior is None
    assert config_from_dict(config_to_dict(config), "again") == config


def test_a_preset_overrides_the_defaults_and_the_file_overrides_it(write):
    file = write("preset: torchvision\ndata: shapes\nloss: {box: giou}")
    config = load_config(file)
    assert (config.data.embedded, config.data.resize) == ("shapes", "float")
    assert (config.loss.box, config.model.p6_from, config.detect.max_detections) == ("giou", "p5", 300)
    other = load_config(file, ["detect.max_detections=7"], preset="detectron2")  # replaces the file's preset
    assert (other.loss.normalizer, other.model.p6_from, other.detect.max_detections) == ("exponential", "c5", 7)
    assert other.loss.box == "giou" and not other.detect.clip_first


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_config(write, name):
    config = load_config(write("data: {train: train}"), preset=name)
    assert config.anchors.force_best and config.data.train.name == "train"


def test_an_unknown_preset(write):
    for name in ("detectron", ""):
        expected = f"unknown preset {name!r}; expected detectron2, torchvision, torchvision_v2"
        with pytest.raises(ConfigError, match=f"^--preset: {expected}$"):
            load_config(write("data: shapes"), preset=name)
        assert refusal(write(f"data: shapes\npreset: {name!r}")) == f"preset: {expected}"


def test_a_word_stands_for_the_embedded_data(write):
    config = load_config(write("data: shapes"))
    assert config.data.embedded == "shapes"
    assert dataclasses.replace(config, data=Config().data) == Config()


def test_a_file_changes_the_keys_that_it_has(write):
    text = """
data:
  train: train2017
  val: {images: val, annotations: val.json}
  classes: [cat, 7]
model: {backbone: resnet18, trunk_norm: gn, pixel_mean: [1, 2, 3]}
anchors: {sizes: [8, 16, 32, 64, 128]}
train: {lr: 1e-4, epochs: "3", augment: {flip: 0, short_sides: [640, 800]}, milestones: [0.5], clip_norm: null}
"""
    config = load_config(write(text))
    assert config.data.train == SplitConfig(name="train2017")
    assert config.data.val == SplitConfig(images="val", annotations="val.json")
    assert config.data.classes == ("cat", "7")
    assert (config.model.trunk_norm, config.model.pixel_mean) == ("gn", (1, 2, 3))
    assert config.anchors.sizes == (8, 16, 32, 64, 128)
    assert config.train.lr == 1e-4  # text to PyYAML
    assert config.train.epochs == 3 and isinstance(config.train.epochs, int)
    assert (config.train.augment.flip, config.train.augment.short_sides) == (0, (640, 800))
    assert (config.train.milestones, config.train.clip_norm) == ((0.5,), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {ephocs: 3}", "unknown key train.ephocs; did you mean epochs?"),
        ("tarin: {}", "unknown key tarin; did you mean train?"),
        ("loss: {gama: 1}", "unknown key loss.gama; did you mean gamma?"),
        (
            "loss: {zzz: 1}",
            "unknown key loss.zzz; expected one of classification, gamma, alpha, shift, count, nms_iou, box, beta, "
            "box_weight, normalizer",
        ),
        (
            "loss: {classification: focall}",
            "loss.classification is 'focall', expected one of focal, ce, balanced_ce, focal_star, ohem, ohem_1_3, "
            "sampled, quality_focal, varifocal; "
            "did you mean focal?",
        ),
        (
            "loss: {classification: ce, gamma: 2}",
            "loss.gamma is set, but loss.classification ce has no gamma; it takes nothing",
        ),
        (
            "loss: {classification: ohem, alpha: 0.25}",
            "loss.alpha is set, but loss.classification ohem has no alpha; it takes count, nms_iou",
        ),
        ("loss: {shift: 1}", "loss.shift is set, but loss.classification focal has no shift; it takes gamma, alpha"),
        (
            "loss: {classification: quality_focal, gamma: 0.5}",
            "loss.gamma is 0.5, expected 0, or 1 or more for quality_focal",
        ),
        (
            "loss: {classification: varifocal, alpha: [0.5, 0.75]}",
            "loss.alpha is a list, expected one number for varifocal",
        ),
        (
            "loss: {classification: quality_focal, alpha: 0.25}",
            "loss.alpha is set, but loss.classification quality_focal has no alpha; it takes gamma",
        ),
        ("loss: {classification: focal_star, gamma: 0}", "loss.gamma is 0, expected a number above 0 for focal_star"),
        (
            "loss: {classification: ohem, normalizer: exponential}",
            "loss.normalizer is exponential, but loss.classification ohem divides by the number of its examples",
        ),
        ("loss: {gamma: -1}", "loss.gamma is -1.0, expected 0 to 100"),
        ("loss: {alpha: 2}", "loss.alpha is 2.0, expected 0 to 1"),
        ("loss: {alpha: [0.25, 2]}", "loss.alpha is [0.25, 2.0], expected 0 to 1"),
        ("loss: {alpha: [a]}", "loss.alpha[0] is 'a', expected a finite number"),
        ("data: {train: {annotation: a.json}}", "unknown key data.train.annotation; did you mean annotations?"),
        ("1: 2", "unknown key 1; expected one of data, model, anchors, loss, train, detect"),
        ("train: {epochs: 1.5}", "train.epochs is 1.5, expected a whole number"),
        ("train: {epochs: true}", "train.epochs is True, expected a whole number"),
        ("train: {epochs: many}", "train.epochs is 'many', expected a whole number"),
        ("train: {epochs: null}", "train.epochs is None, expected a whole number"),
        ("train: {lr: .nan}", "train.lr is nan, expected a finite number"),
        ("train: {lr: [1]}", "train.lr is [1], expected a finite number"),
        ("model: {pretrained: 1}", "model.pretrained is 1, expected true or false"),
        ("model: {backbone: [a]}", "model.backbone is ['a'], expected text"),
        ("data: {root: null}", "data.root is None, expected text"),
        ("data: {classes: cat}", "data.classes is text 'cat', expected a list"),
        ("data: {classes: [cat, true]}", "data.classes[1] is True, expected text"),
        (
            "loss: {box: smoothl1}",
            "loss.box is 'smoothl1', expected one of smooth_l1, l1, giou; did you mean smooth_l1?",
        ),
        ("data: shape", "data.embedded is 'shape', expected one of shapes; did you mean shapes?"),
        ("train: {optimizer: 7}", "train.optimizer is 7, expected one of sgd, adamw"),
        ("train: {epochs: 0}", "train.epochs is 0, expected 1 to 100,000"),
        ("train: {augment: {flip: 1.5}}", "train.augment.flip is 1.5, expected 0 to 1"),
        ("model: {prior: 0}", "model.prior is 0.0, expected 1e-06 to 0.5"),
        ("anchors: {ratios: []}", "anchors.ratios is [], expected at least one value"),
        ("anchors: {scales: [1, -1]}", "anchors.scales is [1.0, -1.0], expected 1e-06 to 1,000,000"),
        ("anchors: {sizes: [32, 64]}", "anchors.sizes is [32.0, 64.0], expected 5 values, for P3 to P7"),
        (
            "anchors: {matching: atss, foreground_iou: 0.6}",
            "anchors.foreground_iou is 0.6, but anchors.matching is atss, in which each object has its own threshold; "
            "set foreground_iou to 0.5, its default, or matching to iou",
        ),
        (
            "preset: detectron2\nanchors: {matching: atss}",
            "anchors.force_best is True, but anchors.matching is atss, in which each object has its own threshold; "
            "set force_best to false, its default, or matching to iou",
        ),
        (
            "anchors: {background_iou: 0.6}",
            "anchors.background_iou is 0.6, expected at most anchors.foreground_iou, 0.5",
        ),
        (
            "train: {augment: {short_sides: [16]}}",
            "train.augment.short_sides is [16], expected 32 to 8,192",
        ),
        ("model: {pixel_mean: [1, 2]}", "model.pixel_mean is [1.0, 2.0], expected 3 values, for R, G and B"),
        ("model: {pixel_std: [1, 0, 1]}", "model.pixel_std is [1.0, 0.0, 1.0], expected 1e-06 to 1,000,000"),
        ("train: [1]", "train is a list, expected a mapping"),
        ("train: 5", "train is a number, expected a mapping"),
        ("- data", "contains a list, expected a mapping with data, model, train, ..."),
        ("just text", "contains text, expected a mapping with data, model, train, ..."),
    ],
)
def test_refusals(write, text, message):
    assert refusal(write(text)) == message


@pytest.mark.parametrize("text", ["data: {", "data: 2020-13-45", "\x00", "a: b: c", "[" * 1000], ids=range(5))
def test_invalid_yaml_is_refused(write, text):
    assert refusal(write(text)).startswith("is not readable YAML: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "train: {epochs: 12:30:45}",
            'line 1: YAML reads 12:30:45 as the number 45045; quote it, "12:30:45", or write',
        ),
        ("train: {lr: 1:30.5}", "line 1: YAML reads 1:30.5 as the number 90.5"),
        ("train:\n  epochs: 1\n  epochs: 2", "the key 'epochs' is on line 2 and again on line 3; keep one of them"),
        ("data: shapes\ndata: {root: x}", "the key 'data' is on line 1 and again on line 2"),
    ],
)
def test_yaml_that_says_something_else_than_it_seems_is_refused(write, text, reason):
    assert f"is not readable YAML: {reason}" in refusal(write(text))


def test_a_merged_key_is_no_repetition(write):
    assert (
        load_config(write("data: shapes\nloss: &a {gamma: 1}\ntrain: {<<: {epochs: 1}, epochs: 2}")).train.epochs == 2
    )


def test_an_empty_file_is_refused(write):
    message = refusal(write("# nothing\n"))
    assert "contains nothing" in message and message.endswith("expected a mapping with data, model, train, ...")


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xff\xfe\x00data")
    assert refusal(path).startswith("is not readable YAML: ")


def test_a_huge_file_is_refused_unread(write):
    path = write("#" * 1_000_001)
    assert refusal(path) == "has 1,000,001 bytes, expected at most 1,000,000"
    assert load_config(write("data: shapes\n" + "#" * 999_987)).data.embedded == "shapes"


def test_a_missing_file_names_the_shipped_examples(tmp_path):
    assert shipped_examples()
    expected = f"no such file here or among the shipped examples ({', '.join(shipped_examples())})"
    assert refusal(tmp_path / "none.yaml") == refusal("none.yaml") == expected
    assert refusal(f"elsewhere/{next(iter(shipped_examples()))}") == expected  # only a bare name is looked up


def test_a_folder_and_a_name_nearly_right_give_the_next_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my cells").mkdir()
    Path("cells.yaml").write_text("data: shapes")
    assert refusal("my cells") == (
        "is a folder, expected a YAML file; retina init 'my cells' writes one for its data set"
    )
    assert refusal("my cells.yaml").endswith("; retina init 'my cells' writes one for the data set there")
    assert refusal("cells.yml") == refusal("cells") == "no such file; did you mean cells.yaml?"
    assert refusal("cell.yaml").endswith("shapes.yaml); did you mean cells.yaml?")


def test_a_dangling_link_is_no_shipped_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("coco.yaml").symlink_to("gone.yaml")
    assert refusal("coco.yaml") == "is a link to gone.yaml, which does not exist"


def test_shipped_examples_load_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, path in shipped_examples().items():
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = load_config(name)
        if isinstance(values["data"], dict) and "root" in values["data"]:
            assert config.data.root == str(tmp_path / values["data"]["root"])


@pytest.mark.parametrize(
    ("name", "ap", "backbone", "short_side", "steps", "short_sides"),
    [
        ("coco_r101_600", 36.0, "resnet101", 600, 90_000, None),  # table 1e
        ("coco_r101_800", 37.8, "resnet101", 800, 90_000, None),  # table 1e
        ("coco_r101_800_jitter", 39.1, "resnet101", 800, 135_000, (640, 672, 704, 736, 768, 800)),  # table 2
        ("coco_x101_800_jitter", 40.8, "resnext101_32x8d", 800, 135_000, (640, 672, 704, 736, 768, 800)),  # table 2
    ],
)
def test_the_papers_rows_on_coco_have_its_schedule(name, ap, backbone, short_side, steps, short_sides):
    assert shipped_examples()[f"{name}.yaml"].read_text(encoding="utf-8").startswith(f"# AP {ap} on COCO test-dev")
    config, plain = load_config(f"{name}.yaml"), load_config("coco.yaml")
    assert config.model.backbone == backbone in TORCHVISION
    assert (config.data.short_side, config.train.steps) == (short_side, steps)
    assert config.train.augment.short_sides == short_sides
    milestones = [round(part * steps) for part in config.train.milestones]
    assert milestones == [steps * 2 // 3, steps * 8 // 9]
    # all else is that of coco.yaml
    data = replace(config.data, short_side=800, long_side=1333)
    train = replace(config.train, steps=90_000, augment=plain.train.augment)
    assert replace(config, data=data, model=plain.model, train=train) == plain
    assert replace(config.model, backbone="resnet50") == plain.model


def test_a_file_of_the_working_folder_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(iter(shipped_examples()))
    Path(name).write_text("data: shapes\ntrain: {seed: 77}")
    assert load_config(name).train.seed == 77


@pytest.mark.parametrize(
    ("text", "override", "expected"),
    [
        ("data: {root: coco}", (), "sub/coco"),
        ("data: {train: train}", (), "sub"),
        ("data: {root: /somewhere}", (), "/somewhere"),
        ("data: {root: coco}", ("data.root=other",), "other"),  # typed in the working folder
    ],
)
def test_a_root_is_relative_to_the_file(tmp_path, monkeypatch, text, override, expected):
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/my.yaml").write_text(text)
    assert load_config("sub/my.yaml", override).data.root == str(tmp_path / expected)


def test_overrides(write):
    path = write("data: {root: here, train: train}\ntrain: {lr: 0.1, epochs: 3}")
    overrides = ["train.lr=5e-3", "train.augment.flip=0", "data.train=other", "anchors.scales=[1, 2]", "train.ema=null"]
    config = load_config(path, [*overrides, "model.backbone=resnet18", "train.lr=0.005"])
    assert (config.train.lr, config.train.epochs, config.train.augment.flip) == (0.005, 3, 0)
    assert config.data.train == SplitConfig(name="other")
    assert (config.anchors.scales, config.model.backbone, config.train.ema) == ((1, 2), "resnet18", None)


def test_overrides_reach_into_short_forms(write):
    config = load_config(write("data: shapes"), ["data.short_side=256"])
    assert (config.data.embedded, config.data.short_side) == ("shapes", 256)
    config = load_config(write("data: {train: mine}"), ["data.train.images=pictures"])
    assert config.data.train == SplitConfig(name="mine", images="pictures")


@pytest.mark.parametrize("override", ["train.lr", "=3", ""])
def test_a_malformed_override_is_refused(write, override):
    expected = f"--set {override}: expected key.path=value, such as train.lr=0.005"
    assert refusal(write("data: shapes"), override) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.leraning_rate=1", "unknown key train.leraning_rate; expected one of "),
        ("train.batchsize=1", "unknown key train.batchsize; did you mean batch_size?"),
        ("train.lr.x=1", "train.lr is {'x': 1}, expected a finite number"),
        ("train.lr=[1", "train.lr is '[1', expected a finite number"),
        ("train.lr=2020-13-45", "train.lr is '2020-13-45', expected a finite number"),
        ("train.lr=" + "[" * 1000, "train.lr is '[[["),
    ],
)
def test_an_override_is_checked_like_the_file(write, override, message):
    assert refusal(write("data: shapes"), override).startswith(message)


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63 - 1])
def test_a_large_seed_is_kept_to_the_last_digit(write, seed):
    assert load_config(write(f"data: shapes\ntrain: {{seed: {seed}}}")).train.seed == seed


def test_an_override_of_one_split_leaves_the_other(write):
    path = write("data: {train: &same {images: a, annotations: b}, val: *same}")
    data = load_config(path, ["data.val.images=c"]).data
    assert (data.train, data.val) == (
        SplitConfig(images="a", annotations="b"),
        SplitConfig(images="c", annotations="b"),
    )


def test_no_classes_at_all_are_refused(write):
    assert "data.classes" in refusal(write("data: {classes: []}"))


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("500", (500, "steps")),
        ("1 step", (1, "steps")),
        ("10 min", (10, "min")),
        ("0.5minutes", (0.5, "min")),
    ],
)
def test_checkpoints_are_due_by_steps_or_minutes(text, interval):
    assert checkpoint_interval(text) == interval


@pytest.mark.parametrize("text", ["0", "-5", "2.5", "often", "10 hours", "nan min", "0 min", "1e3"])
def test_other_intervals_are_refused(write, text):
    words = f"train.checkpoint_every is '{text}', expected steps, such as 500, or minutes, such as 10 min"
    assert words in refusal(write(f"train: {{checkpoint_every: '{text}'}}"))


def test_milestones_are_parts_of_the_run(write):
    # the paper's 60000 and 80000 would never be reached, and never lower the learning rate
    assert "train.milestones" in refusal(write("train: {milestones: [60000, 80000]}"))


@pytest.mark.parametrize("text", ["data: shapes", "data: {classes: [a], val: b}\ntrain: {ema: 0.9, lr: 1e-4}"])
def test_the_dictionary_of_a_config_gives_it_back(write, text):
    config = load_config(write(text))
    values = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(values, "here") == config
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(values)), "here") == config
    scales = config_from_dict(values, "here").anchors.scales
    assert math.isclose(scales[1] ** 3, 2) and isinstance(scales, tuple)


def test_a_dictionarys_fault_names_its_source():
    with pytest.raises(ConfigError, match=r"^run/last: unknown key train\.epoch; did you mean epochs\?$"):
        config_from_dict({"train": {"epoch": 3}}, "run/last")


def test_a_split_that_is_set_or_left_out_is_a_change():
    before = Config()
    now = dataclasses.replace(before, data=dataclasses.replace(before.data, val=SplitConfig(name="val")))
    assert changes(before, now)["data.val.name"] == "data.val.name was None, is val"
    assert changes(now, before)["data.val.name"] == "data.val.name was val, is None"


def test_a_data_file_of_ultralytics_is_a_config_of_its_data(tmp_path):
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "data.yaml"
    file.write_text("path: ../datasets/set\ntrain: images/train\nval: images/val\nnc: 2\nnames: [a, b]\n")
    config = load_config(file, ["train.lr=0.5"])
    data = config.data
    assert (data.root, data.train.name, data.val.name) == (str(tmp_path / "set"), "train", "val")
    assert config == dataclasses.replace(load_config(file), train=dataclasses.replace(config.train, lr=0.5))
    file.write_text("train: images/train\nvalid: images/v\nnames: {0: a}\n")
    assert load_config(file).data.val.name == "valid"
    file.write_text("train: images/train\nval:\nnames: {0: a}\n")
    assert load_config(file).data.val is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "coco8.yaml",
            "train: images/train\nval: images/val\nnames: [a]",
            "is a data file of Ultralytics, not a config; move it to the data set's folder as data.yaml and give that "
            "file, or write a config with data: {root: FOLDER, train: train, val: val}",
        ),
        (
            "data.yaml",
            "val: images/val\nnc: 1",
            "is a data file of Ultralytics without train; expected train: FOLDER of the images",
        ),
    ],
)
def test_a_data_file_of_ultralytics_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / name)
    assert str(error.value) == f"{tmp_path / name}: {message}"
