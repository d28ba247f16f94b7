"""The ablations: their rows are the paper's, and all else is equal between two of them."""

import json
import math
from collections import deque
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from retinanet.config.schema import Config, LossConfig, ModelConfig, TrainConfig, loss_settings
from retinanet.config_file import load_config
from retinanet.errors import CheckpointError, ConfigError
from retinanet.paper.ablation import RESULT, ablate, merge
from retinanet.paper.tables import PAPER, TABLES, make_row, make_rows
from retinanet.training.events import Progress


@pytest.fixture
def config(tiny: Path) -> Config:
    return load_config(tiny / "tiny.yaml", ["train.epochs=1", "train.ema=null"])


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("table", "value", "classification", "settings"),
    [
        ("1a", "0.75", "balanced_ce", {"alpha": 0.75}),
        ("1b", "0", "focal", {"gamma": 0, "alpha": 0.75}),
        ("1b", "0.5", "focal", {"gamma": 0.5, "alpha": 0.5}),
        ("1b", "2.0", "focal", {"gamma": 2, "alpha": 0.25}),
        ("1d", "ohem-128-0.7", "ohem", {"count": 128, "nms_iou": 0.7}),
        ("1d", "ohem_1_3-512-.5", "ohem_1_3", {"count": 512, "nms_iou": 0.5}),
        ("1d", "sampled-0256", "sampled", {"count": 256}),
        ("1d", "focal", "focal", {"gamma": 2, "alpha": 0.25}),
        ("3", "balanced_ce", "balanced_ce", {"alpha": 0.75}),
        ("3", "focal", "focal", {"gamma": 2, "alpha": 0.25}),
        ("3", "focal_star-4.0-0", "focal_star", {"gamma": 4, "shift": 0, "alpha": 0.25}),
        ("prior", "none", "ce", {}),
        ("prior", "focal-none", "focal", {"gamma": 2, "alpha": 0.25}),
    ],
)
def test_rows_train_what_they_say(table, value, classification, settings):
    base = load_config("shapes.yaml", ["loss.gamma=1", "loss.alpha=0.9"])  # the rows replace them
    row = make_row(base, table, value)
    assert row.config.loss.classification == classification
    assert loss_settings(row.config.loss) == settings
    assert row.value in PAPER[table]
    assert row.config.model.prior == (None if value.endswith("none") else 0.01)


def test_rows_of_the_causes_differ_in_each():
    base = load_config("shapes.yaml", ["loss.gamma=1", "model.pyramid=lateral", "anchors.scales=[1, 2]"])
    for value in PAPER["causes"]:
        row = make_row(base, "causes", value)
        loss, pyramid, anchors = value.split("-")
        settings = {"gamma": 2, "alpha": 0.25} if loss == "focal" else {}
        assert (row.config.loss.classification, loss_settings(row.config.loss)) == (loss, settings)
        assert row.config.model.pyramid == pyramid
        assert len(row.config.anchors.scales) * len(row.config.anchors.ratios) == int(anchors)


@pytest.mark.parametrize(
    ("value", "scales", "ratios"),
    [("1x1", (1,), (1,)), ("2x3", (1, math.sqrt(2)), (0.5, 1, 2)), ("3x1", (1, 2 ** (1 / 3), 2 ** (2 / 3)), (1,))],
)
def test_anchor_rows_span_an_octave(value, scales, ratios):
    row = make_row(load_config("shapes.yaml"), "1c", value)
    assert row.config.anchors.scales == pytest.approx(scales)
    assert row.config.anchors.ratios == ratios
    assert row.config.anchors.sizes == (16, 32, 64, 128, 256)  # the config's own


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_the_paper_can_be_trained(table):
    rows = make_rows(Config(), table)
    assert [row.value for row in rows] == list(PAPER[table])
    assert len({row.folder for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("table", "value", "same_table", "same_value"),
    [
        ("1d", "focal", "1b", "2"),
        ("3", "focal", "1b", "2"),
        ("3", "balanced_ce", "1a", "0.75"),
        ("prior", "focal-0.01", "1b", "2"),
    ],
)
def test_rows_that_train_the_same_are_trained_once(table, value, same_table, same_value):
    row, same = make_row(Config(), table, value), make_row(Config(), same_table, same_value)
    assert (row.folder, row.config) == (same.folder, same.config)
    assert PAPER[table][value] == PAPER[same_table][same_value] or table == "1d"  # with ResNet-101


def test_beta_of_focal_star_may_be_negative():
    row = make_row(Config(), "3", "focal_star-2--1")
    assert loss_settings(row.config.loss) == {"gamma": 2, "shift": -1, "alpha": 0.25}


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("1a", "2"),
        ("1b", "-1"),
        ("1b", "two"),
        ("1c", "3x2"),
        ("1c", "3"),
        ("1d", "ohem_1_2-1-0.5"),
        ("1d", "sampled-1-0.5"),
        ("1d", "sampled-0"),
        ("2", "yolo"),
        ("3", "focal_star-2"),
        ("3", "focal_star-0-1"),
        ("3", "focal-2-1"),
        ("prior", "0.6"),
        ("prior", "ce-0.1"),
        ("causes", "ce-fpn"),
        ("causes", "ce-fpn-3"),
        ("causes", "ohem-fpn-1"),
        ("causes", "ce-p5-1"),
    ],
)
def test_a_value_that_a_table_has_not(table, value):
    with pytest.raises(ConfigError, match=f"table {table} has no row '{value}'; expected one like "):
        make_row(Config(), table, value)


def test_table_2_differs_in_the_detector_and_its_loss_alone():
    base = load_config("shapes.yaml", ["loss.gamma=1", "loss.box_weight=2"])
    rows = {row.value: row for row in make_rows(base, "2")}
    assert [row.detector for row in rows.values()] == ["retinanet", "retinanet", "faster-rcnn", "ssd"]
    assert rows["focal"].folder == make_row(base, "1b", "2").folder
    assert rows["ce"].folder == make_row(base, "prior", "0.01").folder
    assert (rows["ce"].config.loss.classification, rows["ce"].config.model.prior) == ("ce", 0.01)
    assert rows["focal"].config.loss.box_weight == 2 and rows["ssd"].config.loss == LossConfig()
    for row in rows.values():
        assert replace(row.config, loss=base.loss) == base


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"train": TrainConfig(compile=True)},
            "train.compile is true, but only RetinaNet is compiled; table 2 needs false",
        ),
        (
            {"model": ModelConfig(pyramid="lateral")},
            "model.pyramid is lateral, but only RetinaNet has such a pyramid; table 2 needs fpn",
        ),
        (
            {"train": TrainConfig(init="a")},
            "train.init is set, but only RetinaNet can start from a checkpoint; table 2 needs null",
        ),
    ],
)
def test_table_2_refuses_what_only_retinanet_has(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_rows(Config(**setting), "2")


def test_rows_start_alike_and_differ_in_their_loss(config, tmp_path):
    rows = [*make_rows(config, "1b", ["0", "2"]), *make_rows(config, "1d", ["ohem-128-0.5", "ohem_1_3-128-0.5"])]
    outcomes = list(ablate(rows, tmp_path))
    first = [log(tmp_path / f"{row.folder}-seed0")[0] for row in rows]
    assert len({step["box"] for step in first}) == 1  # same weights, same pictures
    assert len({step["cls"] for step in first}) == 4
    assert [outcome.value for outcome in outcomes] == ["0", "2", "ohem-128-0.5", "ohem_1_3-128-0.5"]
    for outcome in outcomes:
        (run,) = outcome.runs
        assert (outcome.data, run["seed"], run["steps"], run["diverged_at"]) == ("shapes", 0, 2, None)
        assert outcome.mean == {name: run[name] for name in ("AP", "AP50", "AP75")}
        assert outcome.spread == dict.fromkeys(outcome.mean)
    assert outcomes[1].paper == {"AP": 34.0, "AP50": 52.5, "AP75": 36.5}

    def fail(row, seed, records):
        raise AssertionError("nothing is trained twice")

    again = list(ablate([*rows, make_row(config, "1d", "focal")], tmp_path, show=fail))
    assert again[:4] == outcomes
    assert again[4].mean == outcomes[1].mean  # 1d's focal is 1b's gamma 2
    with pytest.raises(
        CheckpointError,
        match="focal-gamma-0-seed0: contains a run with another config: train.epochs was 1, is 3; choose",
    ):
        longer = replace(config, train=replace(config.train, epochs=3))
        list(ablate(make_rows(longer, "1b", ["0"]), tmp_path))


def test_a_prior_is_the_first_score_of_every_anchor(config, tmp_path):
    rows = make_rows(config, "prior", ["none", "0.1", "focal-none", "focal-0.1"])
    # each head starts with small weights, so that all scores are near the prior; there are hardly any objects
    none, tenth, focal_none, focal_tenth = (outcome.runs[0]["first_loss"] for outcome in ablate(rows, tmp_path))
    assert none / tenth == pytest.approx(math.log(0.5) / math.log(0.9), rel=0.05)
    # alpha 0.25, gamma 2: background weighs 0.75 p^2
    assert focal_none / none == pytest.approx(0.75 * 0.5**2, rel=0.05)
    assert focal_tenth / tenth == pytest.approx(0.75 * 0.1**2, rel=0.3)
    assert [log(tmp_path / f"{row.folder}-seed0")[0]["cls"] for row in rows] == [none, tenth, focal_none, focal_tenth]


def test_a_run_that_diverges_is_a_result(config, tmp_path):
    wild = replace(config.train, optimizer="sgd", lr=100.0, warmup_steps=0, epochs=9, clip_norm=None)
    rows = [make_row(replace(config, train=wild), "1b", "1"), make_row(config, "1b", "2")]
    outcomes = list(ablate(rows, tmp_path))
    (run,) = outcomes[0].runs
    assert 1 < run["diverged_at"] <= 18 and run["AP"] is None
    assert run["first_loss"] == log(tmp_path / f"{rows[0].folder}-seed0")[0]["cls"]
    assert outcomes[0].mean == {"AP": None, "AP50": None, "AP75": None}
    assert outcomes[1].mean["AP"] is not None
    assert list(ablate(rows, tmp_path)) == outcomes


def test_seeds_give_mean_and_spread(config, tmp_path):
    (outcome,) = ablate(make_rows(config, "1b", ["2"]), tmp_path, seeds=2)
    first, second = outcome.runs
    assert (first["seed"], second["seed"]) == (0, 1)
    boxes = [log(tmp_path / f"focal-gamma-2-seed{seed}")[0]["box"] for seed in (0, 1)]
    assert boxes[0] != boxes[1]
    assert outcome.mean["AP50"] == pytest.approx((first["AP50"] + second["AP50"]) / 2)
    # the standard deviation of two numbers is their distance over the root of two
    assert outcome.spread["AP50"] == pytest.approx(abs(first["AP50"] - second["AP50"]) / math.sqrt(2))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])  # within the first epoch, within the second
def test_an_interrupted_ablation_goes_on(config, tmp_path, steps):
    config = replace(config, train=replace(config.train, epochs=2))
    rows = make_rows(config, "1b", ["2"])

    def cut(row, seed, records):
        for record in records:
            if isinstance(record, Progress) and record.step == steps:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ablate(rows, tmp_path / "cut", show=cut))
    (continued,) = ablate(rows, tmp_path / "cut", show=lambda row, seed, records: deque(records, maxlen=0))
    (whole,) = ablate(rows, tmp_path / "whole")
    assert continued == whole


def test_results_of_several_calls_are_kept_together(config, tmp_path):
    file = tmp_path / "ablation.json"
    (first,) = ablate(make_rows(config, "1b", ["2"]), tmp_path)
    assert merge([first], file) == [first]
    (other,) = ablate(make_rows(config, "1d", ["focal"]), tmp_path)
    assert merge([other], file) == [first, other]
    assert [row["table"] for row in json.loads(file.read_text())["rows"]] == ["1b", "1d"]
    file.write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"ablation\.json: is not a table of results; remove it to have it written again"
    ):
        merge([first], file)


def test_an_ablation_needs_data_to_evaluate_on(config, tmp_path):
    blind = replace(config, data=replace(config.data, val=None))
    with pytest.raises(ConfigError, match="data.val is not set; an ablation needs validation data"):
        list(ablate(make_rows(blind, "1b", ["2"]), tmp_path))


def test_a_stopped_ablation_goes_on_where_it_was(config, tmp_path):
    rows = [make_row(config, "1b", "2")]
    asks = count()
    assert list(ablate(rows, tmp_path, stop=lambda: next(asks) >= 1)) == []  # after the second step
    (outcome,) = ablate(rows, tmp_path)
    assert outcome.runs[0]["steps"] == 2
    steps = [record["step"] for record in log(tmp_path / "focal-gamma-2-seed0") if record["kind"] == "step"]
    assert steps == [1, 2]


def test_a_finished_run_of_automatic_precision_is_not_repeated(config, tmp_path):
    rows = [make_row(replace(config, train=replace(config.train, precision="auto")), "1b", "2")]
    assert list(ablate(rows, tmp_path)) == list(ablate(rows, tmp_path))
    other = [make_row(replace(config, train=replace(config.train, precision="auto", seed=0, lr=0.5)), "1b", "2")]
    with pytest.raises(CheckpointError, match="another config: train.lr was "):
        list(ablate(other, tmp_path))


def test_all_rows_train_in_the_precision_of_the_first_run(config, tmp_path):
    in_bf16, automatic = (replace(config, train=replace(config.train, precision=name)) for name in ("bf16", "auto"))
    list(ablate([make_row(in_bf16, "1b", "1")], tmp_path))
    list(ablate([make_row(automatic, "1b", value) for value in "21"], tmp_path))  # the finished row fits, too
    written = (tmp_path / "focal-gamma-2-seed0" / "config.yaml").read_text()
    assert "precision: bf16" in written


def test_an_ablation_reads_a_log_with_damaged_lines(config, tmp_path):
    rows = [make_row(config, "1b", "2")]
    whole = list(ablate(rows, tmp_path))
    folder = tmp_path / "focal-gamma-2-seed0"
    file = folder / "metrics.jsonl"
    first, *others = file.read_bytes().splitlines(keepends=True)
    (folder / RESULT).unlink()
    file.write_bytes(b"".join([bytes(len(first) - 1), b"\n", *others]))
    (outcome,) = ablate(rows, tmp_path)
    assert outcome == replace(whole[0], runs=[whole[0].runs[0] | {"first_loss": None}])
    (folder / RESULT).unlink()
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(
        CheckpointError, match=r"metrics\.jsonl: has no evaluation; remove .*focal-gamma-2-seed0 to have"
    ):
        list(ablate(rows, tmp_path))
