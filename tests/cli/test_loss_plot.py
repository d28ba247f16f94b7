"""`retina loss-plot`."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.support import installed, retina
from PIL import Image


@pytest.fixture
def here(in_process):
    return partial(in_process, "loss-plot")


@pytest.fixture
def plot(here):
    """The JSON document of a figure that is drawn."""

    def run(*options: object) -> dict:
        result = here(*options, "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    return run


def gammas(document: dict) -> list[float]:
    return [curve["gamma"] for curve in document["curves"]]


def test_figure_1_exactly_as_the_paper_asks_for_it(tmp_path: Path):
    result = installed("loss-plot", "--gamma", 0, 0.5, 1, 2, 5, cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.err == "wrote loss-plot.png\n"
    assert (tmp_path / "loss-plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.out.splitlines() if "│" in line]
    assert [row[0] for row in rows] == ["0 (CE)", "0.5", "1", "2", "5"]
    assert rows[3] == ["2", "0.1733", "4", "0.001054", "100", "3.33e-05", "976.6"]


def test_the_numbers(tmp_path: Path):
    result = retina("loss-plot", "--gamma", 2, 0.5, "-o", "x.pdf", "--json", cwd=tmp_path)
    assert (result.code, result.err) == (0, "wrote x.pdf\n")
    document = json.loads(result.out)
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF-")
    assert {name: document[name] for name in ("loss", "alpha", "shift", "figure")} == {
        "loss": "focal",
        "alpha": None,
        "shift": None,
        "figure": "x.pdf",
    }
    assert gammas(document) == [0, 0.5, 2]  # CE is always drawn, first
    for curve in document["curves"]:
        assert len(curve["p_t"]) == len(curve["loss"]) == 1000
        for p_t, loss in zip(curve["p_t"][::100], curve["loss"][::100], strict=True):
            assert loss == pytest.approx(-((1 - p_t) ** curve["gamma"]) * math.log(p_t), rel=1e-9)
    factors = {(point["gamma"], point["p_t"]): point["factor"] for point in document["table"]}
    assert factors[2, 0.9] == pytest.approx(100)
    assert factors[2, 0.968] == pytest.approx(976.5625)  # 1 / 0.032^2, the paper's "about 1000"
    assert factors[0, 0.9] == 1


@pytest.mark.parametrize("options", [("--gamma", 1, "--gamma", 2), ("--gamma=1", "--gamma=2"), ("--gamma=1", 2)])
def test_other_spellings(tmp_path: Path, plot, options):
    assert gammas(plot(*options, "-o", "x.svg")) == [0, 1, 2]
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()[:1000]


def test_defaults_and_a_new_folder(tmp_path: Path, plot):
    assert gammas(plot("-o", "a/b.png")) == [0, 0.5, 1, 2, 5]
    assert (tmp_path / "a" / "b.png").is_file()


def test_each_setting_gives_another_picture_and_the_same_setting_the_same(tmp_path: Path, plot):
    settings = {
        "plain": (),
        "gamma": ("--gamma", 2),
        "alpha": ("--alpha", 0.25),
        "star": ("--loss", "focal_star"),
        "shift": ("--loss", "focal_star", "--shift", 0),
        "gradient": ("--gradient",),
    }
    for name, options in settings.items():
        plot(*options, "-o", f"{name}.png")
    pixels = {np.asarray(Image.open(tmp_path / f"{name}.png")).tobytes() for name in settings}
    assert len(pixels) == len(settings)
    for name in ("x.svg", "x.pdf"):
        plot("-o", name)
        first = (tmp_path / name).read_bytes()
        plot("-o", name)
        assert (tmp_path / name).read_bytes() == first


def test_alpha_weighs_every_curve(plot):
    document = plot("--gamma", 2, "--alpha", 0.25)
    assert document["alpha"] == 0.25
    half = [curve["loss"][curve["p_t"].index(0.5)] for curve in document["curves"]]
    assert half == pytest.approx([0.25 * math.log(2), 0.25 * 0.25 * math.log(2)])


def test_focal_star(plot):
    document = plot("--loss", "focal_star", "--gamma", 2, 4, "--shift", 0.5)
    assert (document["loss"], document["shift"], gammas(document)) == ("focal_star", 0.5, [0, 2, 4])
    half = [curve["loss"][curve["p_t"].index(0.5)] for curve in document["curves"]]  # x_t 0
    star = math.log(1 + math.exp(-0.5))
    assert half == pytest.approx([math.log(2), star / 2, star / 4])
    assert gammas(plot("--loss", "focal_star")) == [0, 0.5, 1, 2, 5]


def test_gradient(plot):
    document = plot("--gradient", "--gamma", 2)
    assert document["curves"][0]["x_t"][0] == -5 and document["curves"][0]["x_t"][-1] == 5
    at_0 = [curve["gradient"][curve["x_t"].index(0)] for curve in document["curves"]]
    # paper, appendix B: CE p_t - 1; FL (1 - p_t)^gamma (gamma p_t log(p_t) + p_t - 1)
    assert at_0 == pytest.approx([-0.5, 0.25 * (2 * 0.5 * math.log(0.5) + 0.5 - 1)])
    assert [point["gradient"] for point in document["table"]][:2] == pytest.approx([-0.5, -0.1])
    star = plot("--gradient", "--loss", "focal_star", "--gamma", 2)  # sigmoid(gamma x_t + beta) - 1
    assert star["curves"][1]["gradient"][500] == pytest.approx(1 / (1 + math.exp(-1)) - 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gamma", 0, -1), ("--gamma", "-1")),
        (("--gamma", 0, "two"), ("--gamma", "two")),
        (("--gamma", "nan"), ("--gamma", "nan")),
        (("--gamma",), ("--gamma",)),
        (("--gamma", "--json"), ("--gamma",)),
        (("-o", "x.jpg"), ("-o x.jpg", ".png, .pdf or .svg")),
        (("--alpha", 2), ("--alpha", "2")),
        (("--loss", "focal_star", "--gamma", 0, 1), ("--gamma 0", "focal_star")),
        (("--shift", 1), ("--shift", "--loss focal_star")),
        (("--data", "x.yaml"), ("--data needs --cdf",)),
        (("--split", "test"), ("--split needs --cdf",)),
        (("--set", "data.root=x"), ("--set needs --cdf",)),
        (("--seed", 0), ("--seed needs --cdf",)),
        (("--cdf", "run", "--gradient"), ("--gradient cannot be combined with --cdf",)),
        (("--cdf", "run", "--alpha", 0.25), ("--alpha cannot be combined with --cdf",)),
        (("--cdf", "run", "--loss", "focal_star"), ("--loss focal_star cannot be combined with --cdf",)),
    ],
)
def test_usage_errors(tmp_path: Path, here, options, words):
    result = here(*options)
    assert (result.code, result.out) == (2, "")
    for text in words:
        assert text in result.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_cannot_be_written(tmp_path: Path, here):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for output in ("file/x.png", "folder.png", "file/deep/x.svg"):
        result = here("-o", output)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith(f"retina: {output}: cannot be written") and result.err.count("\n") == 1


def test_figure_4(tiny: Path, tiny_run: Path, tmp_path: Path, here):
    result = retina("loss-plot", "--cdf", "run", "-o", tmp_path / "4.png", "--json", cwd=tiny)
    assert result.code == 0, result.err
    assert result.err == f"wrote {tmp_path / '4.png'}\n"
    document = json.loads(result.out)
    assert (document["split"], document["seed"]) == ("val", 0)
    anchors = 9 * (8**2 + 4**2 + 2**2 + 1 + 1)  # 64 x 64 pixels
    assert 0 < document["foreground"]["of"] < 4 * anchors
    assert 0 < document["background"]["of"] <= 4 * anchors * 6 and document["background"]["of"] % 6 == 0
    for kind in ("foreground", "background"):
        part = document[kind]
        assert part["samples"] == part["of"]  # fewer than the paper draws: all of them
        assert gammas(part) == [0, 0.5, 1, 2]
        assert part["fraction"] == pytest.approx([i / 100 for i in range(101)])
        for curve, shares in zip(part["curves"], part["shares"], strict=True):
            steps = np.diff(curve["cumulative"])
            assert curve["cumulative"][0] == 0 and curve["cumulative"][-1] == pytest.approx(1)
            assert (steps >= -1e-9).all() and (np.diff(steps) >= -1e-6).all()  # easiest first
            assert shares["shares"] == pytest.approx([1 - curve["cumulative"][i] for i in (99, 90, 80)])
        hardest = [shares["shares"][0] for shares in part["shares"]]
        assert hardest == sorted(hardest)  # a higher gamma leaves more of the loss to the hard ones

    options = ("--split", "train", "--set", "data.short_side=128", "--seed", 1, "--gamma", 2, "-o", tmp_path / "5.png")
    table = here("--cdf", tiny_run / "last.safetensors", *options)
    assert table.code == 0, table.err
    assert "hardest 20 %" in table.out and "foreground: " in table.out
    assert (tmp_path / "4.png").read_bytes() != (tmp_path / "5.png").read_bytes()


def test_figure_4_of_nothing(tiny_run: Path, tmp_path: Path, here):
    result = here("--cdf", tmp_path / "nowhere")
    assert result.code == 1 and "nowhere: no such file or folder" in result.err
    iou = ("--set", "anchors.foreground_iou=1")
    result = here("--cdf", tiny_run, *iou)
    assert (result.code, result.out) == (1, "")
    assert result.err == "retina: val: none of its 4 images has foreground anchors; expected at least one\n"
