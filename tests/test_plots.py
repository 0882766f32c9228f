"""Figures say the same to every eye: numbers are right, text is harmless, colours differ in more than hue."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from plotly.basedatatypes import BaseFigure
from plotly.colors import sequential

from adlib import alt_text, metrics, overlays, plots

HOSTILE = '<a href="https://evil.example">$x$</a>\n<img src=x>%{y}'
KINDS = {"scratch": [2.0, 3.0, 2.5], "good": [0.9, 1.0, 1.1, 1.6], HOSTILE: [4.0], "empty": []}
LABELS, SCORES = [0, 0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.35, 0.4, 0.3, 0.6, 0.8]


def _all_figures(words: dict[str, str] | None = None) -> list:
    fpr, tpr, _ = metrics.roc(LABELS, SCORES)
    recall, precision, _ = metrics.pr(LABELS, SCORES)
    said = [{} if words is None else words] * 4
    return [
        plots.roc(fpr, tpr, (0.25, 1.0), said[0]),
        plots.pr(recall, precision, (1.0, 0.75), said[1]),
        plots.boxes(KINDS, 1.5, said[2], names={"scratch": [HOSTILE] * 3}),
        plots.histogram(KINDS["good"], KINDS["scratch"], [1.0, 1.2], 1.5, said[3]),
    ]


def _texts(part: object) -> list[str]:
    """Every string in a figure, as the browser gets it."""
    if isinstance(part, BaseFigure):
        return _texts(json.loads(part.to_json())["data"]) + _texts(json.loads(part.to_json())["layout"])
    if isinstance(part, str):
        return [part]
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [text for item in inner for text in _texts(item)]


def _luminance(colour: str) -> float:
    channels = np.array(list(bytes.fromhex(colour.lstrip("#")))) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# --- charts -----------------------------------------------------------------------------------------------------------


def test_plotly_is_not_imported_until_a_figure_is_drawn():
    code = "import sys, adlib.plots, adlib.metrics, adlib.thresholds, adlib.projections; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"plotly", "sklearn", "scipy", "torch", "streamlit"} & set(modules)


def test_curves_carry_the_points_they_were_given():
    figure = _all_figures()[0]
    fpr, tpr, _ = metrics.roc(LABELS, SCORES)
    curve, point = figure.data[1], figure.data[2]
    np.testing.assert_array_equal(curve.x, fpr)
    np.testing.assert_array_equal(curve.y, tpr)
    assert (point.x, point.y) == ((0.25,), (1.0,))
    assert len(plots.roc(fpr, tpr).data) == 2, "without a working point none is drawn"


def test_guessing_lies_at_the_share_of_defects_in_a_precision_recall_curve():
    recall, precision, _ = metrics.pr(LABELS, SCORES)
    assert plots.pr(recall, precision).data[0].y[0] == pytest.approx(3 / 7)
    assert plots.pr(recall, precision, base=0.1).data[0].y[0] == 0.1


def test_normals_come_first_and_kinds_without_pictures_are_left_out():
    figure = plots.boxes(KINDS, 1.5)
    assert list(figure.layout.yaxis.ticktext)[:2] == ["good", "scratch"]
    assert len(figure.layout.yaxis.ticktext) == 3
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["normal", "defect", "threshold"]


def test_every_picture_is_counted_once_in_the_histogram():
    figure = plots.histogram([1.0] * 5 + [0.0], [9.0, 2.0], [], threshold=3.0)
    assert [int(np.sum(trace.y)) for trace in figure.data[:2]] == [6, 2]
    log = plots.histogram([0.01, 1.0], [500.0])
    assert log.layout.xaxis.type == "log"
    assert [int(np.sum(trace.y)) for trace in log.data] == [2, 1]
    assert int(np.sum(plots.histogram([2.0, 2.0], []).data[0].y)) == 2


@pytest.mark.parametrize("draw", [plots.boxes, lambda empty: plots.histogram([], [])])
def test_nothing_to_draw_is_an_empty_figure(draw):
    assert len(draw({}).data) == 0


def test_a_hostile_name_becomes_plain_text():
    hostile = dict.fromkeys(("x", "y", "curve", "point", "normal", "defect", "calibration", "threshold"), HOSTILE)
    for figure in (*_all_figures(), *_all_figures(hostile)):
        texts = _texts(figure)
        for text in texts:
            assert "<" not in text.removesuffix("</extra>").replace("<extra>", ""), text
            assert "$" not in text, "Plotly would read a formula"
            assert "\n" not in text
    assert any("evil.example" in text for text in _texts(_all_figures()[2])), "the name is shown, as text"


def test_every_word_on_a_figure_can_be_translated():
    everything = [alt_text.ROC_WORDS, alt_text.PR_WORDS, alt_text.BOXES_WORDS, alt_text.HISTOGRAM_WORDS]
    ours = {key: f"[{key}]" for words in everything for key in words}
    for words, figure in zip(everything, _all_figures(ours), strict=True):
        shown = _texts(figure)
        for key, english in words.items():
            if not key.startswith("alt"):
                assert f"[{key}]" in shown, key
                assert english not in shown


def test_colours_stand_out_from_a_light_and_a_dark_page_and_are_never_the_only_sign():
    for ground in ("#ffffff", "#0e1117"):
        for colour in (plots.BLUE, plots.VERMILLION, plots.GREEN, plots.GREY):
            lighter, darker = sorted((_luminance(ground), _luminance(colour)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 3, f"{colour} on {ground}"
    for figure in _all_figures():
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.title.text is None
    lines = [trace.line.dash for trace in _all_figures()[3].data]
    assert len(set(lines[:3])) == 3
    boxes = _all_figures()[2].data
    assert boxes[0].marker.symbol != boxes[1].marker.symbol


# --- the same in words ------------------------------------------------------------------------------------------------


def test_each_chart_tells_its_numbers_in_words():
    fpr, tpr, _ = metrics.roc(LABELS, SCORES)
    recall, precision, _ = metrics.pr(LABELS, SCORES)
    roc = alt_text.roc_text(fpr, tpr, (0.25, 1.0))
    assert "0.833" in roc
    assert "100.0% of defects" in roc
    assert "25.0% of normals" in roc
    assert "working point" not in alt_text.roc_text(fpr, tpr)
    assert "0.867" in alt_text.pr_text(recall, precision)
    boxes = alt_text.boxes_text(KINDS, 1.5)
    assert "good: 4 pictures" in boxes
    assert "1 of them lie above the threshold of 1.50" in boxes
    assert "above" not in alt_text.boxes_text(KINDS)
    histogram = alt_text.histogram_text(KINDS["good"], KINDS["scratch"], [], 1.5)
    assert "defects: 3 pictures from 2.00 to 3.00" in histogram
    assert "held-out" not in histogram
    assert alt_text.roc_text(fpr, tpr, None, {"alt": "面積 {area:.2f}"}) == "面積 0.83"


def test_braces_in_the_name_of_a_kind_are_only_text():
    assert "{area}: 1 pictures" in alt_text.boxes_text({"{area}": [1.0]})


# --- heatmaps ---------------------------------------------------------------------------------------------------------


def test_inferno_is_the_known_table_and_grows_lighter_all_the_way():
    table = plots.inferno()
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    for place, stop in zip(np.linspace(0, 255, len(sequential.Inferno)), sequential.Inferno, strict=True):
        np.testing.assert_allclose(table[round(place)], list(bytes.fromhex(stop[1:])), atol=4)
    light = [_luminance("#" + bytes(colour).hex()) for colour in table]
    assert (np.diff(light) > -1e-4).all()
    assert light[-1] > 0.9


def _grey(height: int = 60, width: int = 80, level: int = 120) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def test_a_calm_picture_keeps_its_look():
    image = _grey()
    np.testing.assert_array_equal(plots.overlay(image, np.zeros((60, 80))), image)
    half = plots.overlay(image, np.full((60, 80), 0.5))
    assert np.abs(half.astype(int) - image).max() < 0.16 * 120, "at half the threshold at most 15 % of the heat shows"


def test_heat_grows_up_to_the_threshold_and_is_the_same_on_every_picture():
    ratio = np.linspace(0, 3, 80)[None].repeat(60, axis=0).astype(np.float32)
    image = _grey()
    alone = plots.overlay(image, ratio, outline=False)
    changed = np.abs(alone.astype(int) - image).sum(axis=2)[0]
    assert changed[5] < changed[15] < changed[25]
    assert (alone[:, ratio[0] >= 2] == alone[0, -1]).all(), "beyond twice the threshold the scale is at its end"
    np.testing.assert_array_equal(alone[:, :40], plots.overlay(image[:, :40], ratio[:, :40], outline=False))
    full = plots.overlay(image, ratio, opacity=1.0, outline=False)
    beyond = ratio[0] > 1.01
    np.testing.assert_array_equal(full[0][beyond], plots.heat_only(ratio)[0][beyond])
    np.testing.assert_array_equal(plots.overlay(image, ratio, opacity=0.0, outline=False), image)


@pytest.mark.parametrize("level", [0, 120, 255])
def test_the_outline_is_white_on_black_just_where_the_map_crosses_one(level):
    ratio = np.zeros((60, 80), dtype=np.float32)
    ratio[20:40, 30:50] = 1.01
    drawn, plain = (plots.overlay(_grey(level=level), ratio, outline=line) for line in (True, False))
    assert (drawn[20, 30:50] == 255).all()
    assert (drawn[19, 30:50] == 0).all()
    assert (drawn[21, 31:49] == 0).all()
    np.testing.assert_array_equal(drawn[25:35, 35:45], plain[25:35, 35:45])
    np.testing.assert_array_equal(drawn[:15], plain[:15])


def test_a_map_exactly_at_the_threshold_is_no_alarm_and_has_no_outline():
    at = np.ones((60, 80))
    np.testing.assert_array_equal(plots.overlay(_grey(), at), plots.overlay(_grey(), at, outline=False))


def test_a_picture_that_alarms_all_over_has_a_frame():
    drawn = plots.overlay(_grey(), np.full((60, 80), 3.0))
    assert (drawn[0] == 255).all()
    assert (drawn[:, -1] == 255).all()


def test_the_given_picture_is_left_as_it_was():
    image, ratio = _grey(), np.full((60, 80), 1.5)
    plots.overlay(image, ratio)
    assert (image == 120).all()
    assert (ratio == 1.5).all()


def test_a_picture_and_a_map_that_do_not_fit_are_refused():
    for image, ratio in [
        (_grey(), np.zeros((60, 81))),
        (_grey().astype(np.float32), np.zeros((60, 80))),
        (_grey(), np.full((60, 80), np.nan)),
    ]:
        with pytest.raises(ValueError):
            plots.overlay(image, ratio)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (700, 900), (1, 1)])
def test_the_png_holds_the_picture_untouched_with_a_legend_under_it(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    sheet = Image.open(io.BytesIO(plots.legend_png(image, ["PatchCore", "2026-01-01"])))
    assert sheet.format == "PNG"
    pixels = np.asarray(sheet)
    left = (sheet.width - width) // 2
    np.testing.assert_array_equal(pixels[:height, left : left + width], image)
    scale = pixels[height + 20 if width < 500 else height + 30]
    assert (scale == plots.inferno()[128 // 2 * 1]).all(axis=1).any(), (
        "the colour of half the threshold stands in the legend"
    )


def test_text_that_the_font_cannot_draw_makes_no_boxes_and_long_text_is_broken():
    image = _grey(60, 400)
    plain = plots.legend_png(image, ["score 1.4x - defaut ??"])
    assert plots.legend_png(image, ["score 1.4× · défaut 日本"]) == plain
    one, many = (Image.open(io.BytesIO(plots.legend_png(image, ["x" * n]))).height for n in (10, 300))
    assert many > one
    assert Image.open(io.BytesIO(plots.legend_png(image, ["x" * 100_000, "", HOSTILE]))).height < 1000


@pytest.mark.parametrize("mode", ["RGB", "F"])
def test_the_sheet_of_a_judged_picture_tells_its_verdict(mode):
    photo = Image.fromarray(_grey()) if mode == "RGB" else Image.fromarray(np.full((60, 80), 120.5 / 255, np.float32))
    heat = np.zeros((60, 80), dtype=np.float32)
    heat[10:20, 10:20] = 2.0
    look = SimpleNamespace(picture=SimpleNamespace(image=photo), score=3.0, ratio=1.5, alarm=True, heat=heat)
    lines = ["ALARM: 1.50x the threshold (score 3)", "PatchCore - 2026-01-01"]
    assert overlays.heatmap_png(look, "PatchCore", date="2026-01-01") == plots.legend_png(
        plots.overlay(_grey(), heat), lines
    )
    look.heat, look.alarm = None, False
    calm = overlays.heatmap_png(look, "PatchCore", date="2026-01-01")
    assert calm == plots.legend_png(_grey(), ["normal: 1.50x the threshold (score 3)", lines[1]])
