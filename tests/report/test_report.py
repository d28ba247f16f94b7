"""The report of an evaluation: its content, its safety, and how a browser shows it."""

import html
import json
import re
import shutil
import subprocess
import warnings
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scoring_cases import dataset, jittered, random_case

from retinanet.config.schema import DetectConfig
from retinanet.data.dataset import Dataset, Strings
from retinanet.data.shapes import open_shapes
from retinanet.evaluation.coco_metrics import score
from retinanet.evaluation.error_analysis import diagnose
from retinanet.evaluation.evaluate import Evaluation
from retinanet.evaluation.image_errors import image_errors, worst_images
from retinanet.evaluation.missed_objects import STAGES, MissedObjects, StageCount
from retinanet.evaluation.thresholds import choose_thresholds
from retinanet.report.charts import _shares, confusion_chart, precision_recall_chart
from retinanet.report.gallery import KINDS
from retinanet.report.report import write_report

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (SCRIPT, r'$\alpha$ & "quotes" font-family: x', "_hidden", "long" * 30, "\u202eevil\x1b[31m", "\u8840\u7403")
VOID = {"meta", "input", "br", "img", "hr", "link"}
TITLES = [
    "Result",
    "Classes",
    "Missed objects",
    "Kinds of errors (TIDE)",
    "Precision-recall curves",
    "Calibration",
    "Confusion matrix",
    "Worst images",
    "Notes",
]


class Parsed(HTMLParser):
    """The tags, attributes and text of a page, whose tags must be closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def values(self, *names: str) -> list[str]:
        return [value or "" for _, given in self.tags for name, value in given.items() if name in names]


def write(folder: Path, truth: Dataset, results: np.ndarray, notes=(), missed_objects=None, about=None) -> str:
    scores = score(truth, results)
    chosen = choose_thresholds(truth, results, resamples=20)
    found = Evaluation(truth, DetectConfig(), results, scores.metrics, scores.per_class, tuple(notes), missed_objects)
    diagnosis = diagnose(truth, results, [each.threshold for each in chosen])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_report(folder, found, diagnosis, chosen, about or {})
    assert [path, *folder.iterdir()] == [folder / "index.html"] * 2
    return path.read_text(encoding="utf-8")


def lost(count: int) -> MissedObjects:
    stages = [StageCount(stage, count * (stage == "NMS"), 0, count * (stage == "NMS"), 0, 0.9876) for stage in STAGES]
    return MissedObjects(1234, stages, [], np.full(5, -1))


def shapes(images: int) -> Dataset:
    """The first images of the embedded data set, with names that must not be read as markup."""
    whole = open_shapes("val")
    objects = int(whole.first_object[images])
    columns = {name: getattr(whole, name)[:objects] for name in ("boxes", "areas", "labels", "crowd", "annotation_ids")}
    return replace(
        whole,
        **columns,
        classes=HOSTILE,
        files=Strings(f"{i}<img src=x onerror=alert(2)>\udcff.png" for i in range(images)),
        image_ids=whole.image_ids[:images],
        sizes=whole.sizes[:images],
        first_object=whole.first_object[: images + 1],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(folder) -> str:
    """The report of images that can be read."""
    truth = shapes(20)
    notes = ("<b>bold</b> \udc80 \u202e note",)
    about = {"weights": "</title><script>alert(3)</script>", "a<b": "'\""}
    return write(folder, truth, jittered(truth, 0, copies=4), notes, lost(7), about)


def test_the_page_shows_the_values_of_the_evaluation(tmp_path):
    truth, results = random_case(0)
    page = write(tmp_path / "new" / "report", truth, results, ["a note"], lost(7), {"weights": "w.safetensors"})
    parsed, metrics = Parsed(page), score(truth, results)
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == TITLES
    for name, value in metrics.metrics.items():
        assert re.search(rf'<th scope="row" class="text">{name}</th>.*<td class="number">{value:.3f}</td>', page)
    for result, chosen in zip(metrics.per_class, choose_thresholds(truth, results, resamples=20), strict=True):
        [row] = re.findall(
            rf'<tr><th scope="row" class="text">{result.label}</th><td class="number">{result.objects}<.*', page
        )
        assert (f">{result.AP:.3f}<" in row) == (f">{result.AP50:.3f}<" in row) == (result.AP >= 0)
        assert f">{chosen.threshold:g}<br>" in row and (f">{chosen.f1 or -1:.3f}<" in row) == (chosen.f1 is not None)
    for each in ("w.safetensors", "a note", "7 of 1,234 objects were missed", "0.988", "detections", "0.jpg"):
        assert each in parsed.text
    for each in diagnose(truth, results, [0] * 4).tide:
        assert each.kind in parsed.text and f"{each.AP50_lost:.4f}" in parsed.text
    assert "nan" not in parsed.text and "None" not in parsed.text.replace("None.", "")
    # the files of its images do not exist
    assert page.count('<p class="unreadable">') == page.count("<figcaption><strong>") == 12
    assert "data:image/jpeg" not in page
    again = write(tmp_path / "again", truth, results, ["a note"], lost(7), {"weights": "w.safetensors"})
    assert again == page


def test_the_worst_images_are_shown_with_their_boxes(page):
    truth = shapes(20)
    results = jittered(truth, 0, copies=4)
    cuts = [each.threshold for each in choose_thresholds(truth, results, resamples=20)]
    shown = worst_images(image_errors(truth, results, cuts), 12)
    assert page.count("data:image/jpeg;base64,") == len(shown) == 12
    for kind, name in zip(KINDS, ("missed", "false_positives", "true_positives"), strict=True):
        boxes = [getattr(each, name) for each in shown]
        assert page.count(f'<g class="{kind}"><rect class="rim"') == sum(map(len, boxes)) > 0
    first = re.search("<title>missed: ([^<]*)</title>", page[page.index('class="pictures"') :])
    assert first is not None and html.unescape(first[1]) in [
        repr(n)[1:-1] if not n.isprintable() else n for n in HOSTILE
    ]


def test_names_are_escaped(page):
    parsed = Parsed(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "b", "iframe", "object", "link"}
    assert not [name for _, given in parsed.tags for name in given if name.startswith("on")]
    for text in (*HOSTILE[:4], HOSTILE[5], r"\u202eevil\x1b[31m", "0<img src=x onerror=alert(2)>\\udcff.png"):
        assert text in parsed.text
    assert r"<b>bold</b> \udc80 \u202e note" in parsed.text and "</title><script>alert(3)</script>" in parsed.text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", page)


def test_the_page_loads_nothing_and_its_ids_are_unique(page):
    parsed = Parsed(page)
    ids = Counter(parsed.values("id"))
    assert max(ids.values()) == 1
    for link in parsed.values("src", "href", "xlink:href"):
        assert link.startswith("data:image/") or link[0] == "#" and link[1:] in ids
    for reference in re.findall(r"url\(#?([^)]*)\)", page):
        assert reference in ids
    assert "http:" not in page and "https:" not in page and page.count("<style") == 1
    for tag, given in parsed.tags:
        assert tag != "svg" or given.get("aria-label") or given.get("aria-hidden")


@pytest.mark.parametrize(("classes", "named"), [(10, True), (11, False)])
def test_curves_are_named_for_up_to_ten_classes(classes, named):
    curves = np.linspace(1, 0, 101)[:, None] * np.linspace(0.5, 1, classes)
    curves[:, 0] = np.nan  # a class without objects
    names = [f"class {i}" for i in range(classes + 1)]
    drawn = Parsed(precision_recall_chart(np.linspace(0, 1, 101), np.c_[curves, curves[:, 1]], names, "curves")).text
    assert ("class 7" in drawn) == named and (f"mean of {classes} classes" in drawn) != named
    assert "class 0" not in drawn


@pytest.mark.parametrize(("classes", "numbers", "named"), [(20, True, True), (21, False, True), (101, False, False)])
def test_a_large_matrix_has_no_numbers_or_names(classes, numbers, named):
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    matrix[3, 4] = 4321
    drawn = confusion_chart(matrix, [*(f"class {i}" for i in range(classes)), "none"], "matrix")
    shown = Parsed(drawn).text
    assert ("4321" in shown) == numbers and ("share of the row" in shown) != numbers
    assert ("class 7" in shown) == ("none" in shown) == named
    assert len(drawn) < 200_000


def test_the_cells_of_a_very_large_matrix_show_the_largest_share_of_several_classes():
    matrix = np.zeros((2002, 2002), np.int64)  # three classes a cell
    matrix[4, 9], matrix[4, 2001] = 1, 3
    matrix[2000, 3] = 2
    shares = _shares(matrix)
    assert shares.shape == (668, 668)
    assert (shares[1, 3], shares[1, 667], shares[666, 1]) == (0.25, 0.75, 1) and shares.sum() == 2
    assert (_shares(matrix[:5, :5]) == 0).all() and _shares(np.array([[1, 1], [0, 0]])).tolist() == [[0.5, 0.5], [0, 0]]


@pytest.mark.parametrize(("found", "labels"), [([], []), ([], [1]), ([[0, 10, 10, 50, 50, 0.9, 0]], [0])])
def test_a_report_of_few_objects_and_detections(found, labels, tmp_path):
    truth = dataset([len(labels), 0], [[10, 10, 50, 50]] * len(labels), labels)
    text = Parsed(write(tmp_path, truth, np.array(found).reshape(-1, 7))).text
    assert "Missed objects" not in text  # missed objects were not looked for
    assert "nan" not in text and "None" not in text.replace("None.", "") and "-1" not in text
    assert ("No image has an error at the thresholds." in text) == (labels != [1])


class Browser:
    """Headless Chromium. `load` returns the page after its scripts have run, and the messages of the console."""

    def __init__(self, program: str, profile: Path):
        self.command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        self.command += ["--hide-scrollbars"]  # as on phones, where they take no space
        self.command += [f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom"]

    def load(self, page: Path, width: int = 1400) -> tuple[str, list[str]]:
        command = [*self.command, f"--window-size={width},2000", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def ask(self, page: str, folder: Path, width: int, script: str) -> list[Any]:
        """The value of `script` in `page`, in a frame of this width: no window is narrower than 500 pixels."""
        tell = f"<script>addEventListener('load', () => parent.postMessage({script}, '*'))</script></body>"
        freed = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        (folder / "framed.html").write_text(freed.replace("</body>", tell), encoding="utf-8")
        outer = folder / "frame.html"
        outer.write_text(
            "<!doctype html><title></title><body style='margin: 0'>"
            "<script>onmessage = event => document.title = JSON.stringify(event.data)</script>"
            f"<iframe src='framed.html' style='border: 0; width: {width}px; height: 1000px'></iframe>"
        )
        shown, console = self.load(outer, max(width, 600))
        assert console == []
        title = re.search("<title>(.*?)</title>", shown)
        assert title is not None
        return json.loads(title[1])


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (program := shutil.which(name)) is not None:
            return Browser(program, tmp_path_factory.mktemp("profile"))
    pytest.skip("no chromium, chromium-browser or google-chrome is installed")


def test_a_browser_reports_no_error(page, folder, browser, tmp_path):
    shown, console = browser.load(folder / "index.html")
    assert console == [] and all(f">{title}</h2>" in shown for title in TITLES)
    # the console does report an error, and a script, which the page forbids
    (tmp_path / "faulty.html").write_text("<!doctype html><script>undefined_function()</script>")
    assert "undefined_function is not defined" in browser.load(tmp_path / "faulty.html")[1][0]
    (tmp_path / "scripted.html").write_text(page.replace("</body>", SCRIPT + "</body>"), encoding="utf-8")
    assert "Content Security Policy" in browser.load(tmp_path / "scripted.html")[1][0]


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_overflows_sideways(width, page, browser, tmp_path):
    widths = "[innerWidth, document.documentElement.scrollWidth]"
    assert browser.ask(page, tmp_path, width, widths) == [width, width]
    # an overflow is noticed
    wider = page.replace("</main>", f'<div style="width: {width + 1}px">wide</div></main>')
    assert browser.ask(wider, tmp_path, width, widths)[1] > width


def test_a_switch_hides_its_kind_of_box(page, browser, tmp_path):
    shown = ", ".join(f"getComputedStyle(document.querySelector('.pictures .{kind}')).display" for kind in KINDS)
    assert browser.ask(page, tmp_path, 1400, f"[{shown}]") == ["inline"] * 3
    for kind in KINDS:
        off = page.replace(f'id="show-{kind}" checked', f'id="show-{kind}"')
        assert browser.ask(off, tmp_path, 1400, f"[{shown}]") == ["none" if k == kind else "inline" for k in KINDS]
