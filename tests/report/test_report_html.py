"""report.html: complete, without anything that runs or loads, and with names as plain text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from sample_reports import BOUND, HOSTILE, artifact, diagnosis, hostile, points, report, result, row

from converter.core.data import Golden, TensorSpec
from converter.core.jsonable import plain
from converter.core.results import Control, LayerError, Points, Stage
from converter.proof.points import LIMIT, pick
from converter.report.figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDE, WIDTH, histogram, layer_chart, scatter
from converter.report.html import MAX_FIGURES, MAX_LAYERS, to_html

VOID = {"meta", "rect", "path", "link", "img", "br"}
HEADINGS = {"Compared with Keras", "Negative controls", "Artifacts", "Environment"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails if tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[str]:
        return [text.strip() for text in self.texts.get(tag, [])]


def assert_harmless(text: str) -> Page:
    """Nothing in the page can run or load: no such element, attribute or address, and a policy that forbids it."""
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "embed", "link", "base", "form", "a", "image", "use"} & set(
        page.tags
    )
    assert not [
        name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "style", "action")
    ]
    (policy,) = [value for name, value in page.attributes if value.startswith("default-src")]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    (style,) = page.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "url(" not in style
    assert "@import" not in style
    return page


def test_a_pass_shows_everything():
    value = report(rows=(row(result(), points={"main": points()}, facts={"providers": ["CPU"]}),), warnings=("beware",))
    text = to_html(value, {"model.onnx": "ab" * 32})
    page = assert_harmless(text)
    assert page.all("title") == ["pass: net"]
    assert text.index('class="verdict">pass') < text.index("Compared with Keras")
    assert set(page.all("h2")) >= {*HEADINGS, "Value by value", "Files", "Warnings"}
    cells = " ".join(page.all("td"))
    for figure in ("onnx in onnxruntime", "main", "3.0e-06", "2.0e-06", "1.5", "1.6e-05", "54 ms"):
        assert figure in cells
    assert {"another-sample", "kernel-scaled-1.001"} <= set(page.all("td"))
    assert "ab" * 32 in page.all("code")
    assert any("beware" in each for each in page.all("li"))
    assert "untrained" in text
    assert {"numpy", "versions.numpy"} & set(page.all("dt"))
    assert {"verify onnx in onnxruntime", "providers"} <= set(page.all("dt"))
    assert text.count("<figure") == 1
    assert text.count("<svg") == 3  # meter, scatter, histogram
    assert ("class", "bar") in page.attributes
    assert ("class", "noise") in page.attributes
    for name, count in (("Conv", 3), ("Relu", 2), ("CONV_2D", 3)):
        assert re.search(rf"<span>{name}</span> <b>{count}</b>", text)


def test_a_failure_has_its_reason_and_failed_outputs_first():
    bad = row(result("main", False, 0.5, reason="relative L2 0.5 exceeds 1.6e-05"), subject="tflite", runtime="litert",
              points={"main": points(error=0.5)})  # fmt: skip
    value = report(
        rows=(row(result(), points={"main": points()}), bad, row(subject="saved-model", runtime="tensorflow")),
        controls=(Control("kernel", False, 1e-9, "not distinguished on main"),),
        verdict="fail",
        reasons=("tflite is off",),
        failures=("saved-model: no",),
    )
    text = to_html(value)
    page = assert_harmless(text)
    assert page.all("title") == ["fail: net"]
    assert {"tflite is off", "saved-model: no"} <= set(page.all("li"))
    assert page.all("td").count("relative L2 0.5 exceeds 1.6e-05") == 1
    assert "nothing compared" in text
    assert "not distinguished on main" in text
    captions = re.findall(r"<figcaption><b>(.*?)</b>", text)
    assert captions == ["tflite in litert", "onnx in onnxruntime"]


def test_a_diagnosis_is_shown_beside_the_verdict_and_drawn():
    found = diagnosis(3e-7, None, 2e-2, float("inf"), first=2)
    bad = row(result("main", False, 0.5), subject="tflite", runtime="litert", diagnosis=found)
    reasons = ("tflite is off", f"tflite in litert on cpu: {found.text}")
    text = to_html(report(rows=(row(result()), bad), verdict="fail", reasons=reasons))
    page = assert_harmless(text)
    head = text[: text.index("</header>")]
    assert '<p class="cause"><b>tflite in litert</b>: first divergence: conv2 (Conv2D): 1.0e-07 before' in head
    assert "tflite is off" in page.all("li")
    assert not [each for each in page.all("li") if "first divergence" in each]  # it is shown above
    assert "Layer by layer: tflite in litert" in page.all("h2")
    assert "read in litert without a delegate" in text
    assert "Layers without a tensor in the file: 1." in text
    assert [each for each in page.all("td") if each.endswith("conv2")] == ["3. conv2"]
    assert page.all("td").count("conv2_bn") == 1
    badges = [each for each in page.all("span") if each in ("within", "-", "first", "above")]
    assert badges == ["within", "-", "first", "above"]


def test_the_number_of_layers_is_limited_and_no_layers_give_no_chart():
    many = diagnosis(*[1e-7] * (MAX_LAYERS + 5))
    text = to_html(report(rows=(row(result(), diagnosis=many),), verdict="fail"))
    assert "… and 5 more" in text
    assert "<details><summary>405 layers in numbers" in text
    none = replace(diagnosis(), text="no layer found: nothing to compare with")
    text = to_html(report(rows=(row(result("main", False, 0.5), diagnosis=none),), verdict="fail"))
    assert "no layer found: nothing to compare with" in text
    assert "Layer by layer" not in text


def test_stages_and_layer_counts_before_the_export():
    stages = (
        Stage("keras", "keras in float64", {"main": 2e-6}),
        Stage("onnx in onnxruntime-noopt", "keras", {"main": 0.0}),
        Stage("onnx in onnxruntime", "onnx in onnxruntime-noopt", {"main": None}),
    )
    source = {"kind": "zoo", "layer_classes": {"loaded": {"Lambda": 512, "Conv2D": 3}, "rewritten": {"Conv2D": 4}}}
    text = to_html(report(stages=stages, source=source))
    page = assert_harmless(text)
    assert {"Stage by stage", "Before the export"} <= set(page.all("h2"))
    assert "1e-6 to 1e-4" in page.all("th")
    assert text.count('class="step"') == 2
    assert text.count('class="mark"') == 2
    assert text.index("Lambda") < text.index("515 layers") + 200
    assert re.search(r"4 layers:</p>\s*<ul class=\"operators\">\s*<li><span>Conv2D</span> <b>4</b>", text)
    assert "layer_classes" not in text


def test_nothing_compared_and_no_control_are_reported():
    text = to_html(report(rows=(), controls=(), artifacts=(), verdict="inconclusive"))
    assert_harmless(text)
    assert "Nothing was compared." in text
    assert "No negative control was run." in text


def test_nan_infinite_and_missing_numbers_are_shown():
    odd = row(result(error=float("nan")), result("b", False, float("inf")), result("c", False, None, reason="NaN"))
    assert_harmless(to_html(report(rows=(odd,), verdict="fail", tolerances={"main": replace(BOUND, noise=None)})))


def test_the_number_of_figures_is_limited():
    many = tuple(row(result(), points={"main": points(5)}) for _ in range(MAX_FIGURES + 5))
    assert to_html(report(rows=many)).count("<figure") == MAX_FIGURES


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_stay_text(name):
    text = to_html(hostile(name), {name: "00"})
    assert_harmless(text)
    assert all(each == "\n" or each.isprintable() for each in text)
    assert len(text) < 150_000
    assert "1337" not in text
    text.encode()


def test_markup_is_shown_as_text():
    name = HOSTILE["markup"]
    assert name in Page(to_html(report(model=name))).all("h1")
    tags = Page(to_html(report(artifacts=(artifact("onnx", **{name: 2}),)))).all("span")
    assert name in tags


# figures


def moves(path: str) -> np.ndarray:
    return np.array([[float(each) for each in pair] for pair in re.findall(r"M([-\d.]+) ([-\d.]+)h0", path)])


def test_equal_values_are_on_the_line_and_others_are_not():
    drawn = moves(scatter(points(error=0.0)).path)
    share = (drawn[:, 0] - LEFT) / (WIDTH - LEFT - RIGHT)
    height = (HEIGHT - BOTTOM - drawn[:, 1]) / (HEIGHT - BOTTOM - 22)
    assert np.abs(share - height).max() < 1e-3
    off = moves(scatter(points(error=1.0)).path)
    assert (off[:, 1] < np.interp(off[:, 0], [LEFT, WIDTH - RIGHT], [HEIGHT - BOTTOM, 22]) - 5).all()


def test_histogram_counts_every_element_once():
    errors = np.array([0.0, 1e-8, 1e-7, 1e-7, 1e-3])
    shown = histogram(Points(np.zeros(5), errors, np.array([0.0, 0, 1e-9, 1e-9, 1e-5])))
    assert (shown.count, shown.equal, shown.noiseless) == (5, 1, 2)
    assert [tick.label for tick in shown.ticks_y] == ["0", "1", "2"]
    unit = max(bar.height for bar in shown.bars) / 2
    assert sum(round(bar.height / unit) for bar in shown.bars) == 4
    assert [tick.label for tick in shown.ticks_x][:2] == ["1e-9", "1e-7"]
    assert shown.line.startswith("M")


@pytest.mark.parametrize(
    "odd",
    [
        Points(np.zeros(3), np.zeros(3)),
        Points(np.array([np.inf, np.nan]), np.zeros(2), np.array([np.nan, 1.0])),
        Points(np.zeros(0), np.zeros(0)),
        Points(np.array([1e30, -1e30]), np.array([1e30, 1e30])),
        Points(np.full(2, 1e-300), np.full(2, 2e-300)),
        Points(np.ones(1), np.ones(1), np.zeros(1)),
    ],
)
def test_figures_of_odd_values_stay_inside(odd):
    with np.errstate(all="raise"):
        dots, bars = scatter(odd), histogram(odd)
    drawn = moves(dots.path)
    if drawn.size:
        assert (drawn >= 0).all()
        assert (drawn[:, 0] <= WIDTH).all()
        assert (drawn[:, 1] <= HEIGHT).all()
    assert all(0 <= tick.at <= WIDTH for tick in (*dots.ticks_x, *dots.ticks_y, *bars.ticks_x, *bars.ticks_y))
    assert bars.ticks_x


@pytest.mark.parametrize("count", [1, 2, 17, 300])
@pytest.mark.parametrize("error", [None, 0.0, 1e-9, 1e-300, 1.0, float("inf"), float("nan")])
def test_layers_of_odd_errors_stay_inside(count, error):
    layers = [LayerError("a", "b", ("a",), "t", error, 1e-5, None if place % 3 else 0.0) for place in range(count)]
    with np.errstate(all="raise"):
        chart = layer_chart(layers, count - 1)
    assert (chart.beyond != "") == (error is not None and not error <= 1e-5)
    assert chart.within == "" or chart.beyond == ""
    for path in (chart.within, chart.beyond):
        for x, y in moves(path) if path else ():
            assert LEFT <= x <= WIDE - RIGHT
            assert TOP <= y <= HEIGHT - BOTTOM
    assert len(moves(chart.within + chart.beyond)) == (0 if error is None else count)
    assert all(LEFT <= tick.at <= WIDE for tick in chart.ticks_x)
    assert len(chart.ticks_x) <= 8
    assert 2 <= len(chart.ticks_y) <= 8


def test_layers_above_their_tolerance_are_drawn_above_its_line():
    chart = layer_chart([LayerError("a", "b", ("a",), "t", each, 1e-5, 2e-7) for each in (1e-6, 1e-3)], 1)
    (low,), (high,) = moves(chart.within), moves(chart.beyond)
    level = float(re.match(r"M[\d.]+ ([\d.]+)H", chart.tolerance)[1])
    assert high[1] < level < low[1]
    assert chart.first == high[0]


# the elements that are drawn


def test_points_are_few_in_the_right_domain_and_include_the_worst():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4, 5000))
    exact = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    golden = Golden({"x": np.zeros((4, 1))}, {"p": exact.astype(np.float32)}, {"p": exact}, {})
    wrong = golden.references["p"].copy()
    wrong[2, 1234] *= 3
    spec = {"p": TensorSpec("p", (None, 5000), activation="softmax")}
    found = pick(golden, {4: golden.references, 1: {"p": wrong}}, spec, [result("p")])["p"]
    assert len(found.reference) == len(found.actual) == len(found.noise)
    assert LIMIT * 0.9 <= len(found.reference) <= LIMIT + 8
    assert np.abs(found.actual - found.reference).max() == pytest.approx(np.log(3), rel=1e-2)
    assert np.abs(found.reference).max() > 1  # logits, not probabilities
    assert 0 < found.noise.max() < 1e-5


def test_outputs_without_numbers_have_no_points():
    golden = Golden({}, {"p": np.zeros((2, 3), np.float32)}, {}, {})
    spec = {"p": TensorSpec("p", (None, 3))}
    assert pick(golden, {2: {"p": np.zeros((2, 4))}}, spec, [result("p", False, None)]) == {}
    assert pick(golden, {2: golden.references}, spec, [result("p")])["p"].noise is None


def test_points_are_not_in_the_json():
    assert "points" not in plain(row(result(), points={"main": points()}))
