"""The report for the people who decide: it says what the run's files say, in both languages, and nothing else gets in."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from kit_report import Page, forged
from kit_report import run as run
from kit_runs import made as made
from PIL import Image

from adlib import (
    decisions,
    exchange,
    metrics,
    report,
    report_cases,
    report_charts,
    report_facts,
    report_pictures,
    store,
    svg,
    thresholds,
)
from adlib.__main__ import main
from adlib.contract import AdlibError, DataError, NotFitted
from adlib.report_pictures import SIDE, data_uri
from adlib.wording import Words, by_key
from conftest import ROOT

LANGUAGES = ("en", "ja")


def page(run: store.Run, language: str = "en") -> Page:
    return Page(report.page(run, language))


# --- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normals", "defects", "sentence"),
    [
        ([0.5] * 20, [1.5] * 23 + [0.9],
         "On these 44 test pictures the detector would miss 1 of 24 defects and raise no false alarm on 20 normal pictures."),
        ([0.5] * 18 + [1.1, 1.2], [1.5] * 24,
         "these 44 test pictures the detector would miss none of the 24 defects and raise a false alarm on 2 of 20 normal"),
        ([0.5] * 19 + [2.0], [0.8, 0.9, 2.0],
         "On these 23 test pictures the detector would miss 2 of 3 defects and raise a false alarm on 1 of 20 normal"),
        ([0.5] * 5, [1.5] * 5,
         "these 10 test pictures the detector would miss none of the 5 defects and raise no false alarm on 5 normal pictures."),
        ([0.5, 1.5], [], "Of these 2 normal test pictures, 1 would raise a false alarm; there was no defect to test on"),
        ([], [0.5, 1.5, 1.5], "Of these 3 defects the detector would miss 1; there was no normal test picture"),
    ],
)  # fmt: skip
def test_the_decision_is_one_sentence_with_the_counts_at_the_runs_own_threshold(run, normals, defects, sentence):
    assert sentence in page(forged(run, normals, {"spot": defects})).words


def test_the_sentence_about_long_use_quotes_the_exact_intervals(run):
    words = page(forged(run, [0.5] * 20, {"spot": [1.5] * 23 + [0.9]})).words
    low, high = metrics.rate_interval(1, 24)
    assert f"expect {100 * low:.1f} to {100 * high:.1f} % of defects to be missed" in words
    assert f"0 to {100 * metrics.rate_interval(0, 20)[1]:.1f} % of normal pictures" in words


def test_the_threshold_is_said_to_rest_on_normals_or_on_a_person(run):
    assert "The threshold was not chosen on these pictures. It rests on 12 normals" in page(run).words
    decisions.set_by_hand(run, max(row["score"] for row in run.read("scores.json")))
    said = page(run).words
    assert "The threshold was set by hand." in said
    assert "would miss 4 of 4 defects" in said


def test_an_oracles_threshold_is_called_one(run):
    calibration = run.read("calibration.json")
    labels, scores = zip(*((row["label"], row["score"]) for row in run.read("scores.json")), strict=True)
    calibration["threshold"]["rule"] = thresholds.best_f1(labels, scores).rule.as_json()
    run.write("calibration.json", calibration)
    assert "Oracle: the threshold was chosen on these very pictures." in page(run).words
    assert "参考値（オラクル）：しきい値はこのテスト画像そのもので選ばれています。" in page(run, "ja").words


def test_scores_that_could_do_more_than_the_threshold_are_pointed_out(run):
    said = page(forged(run, [0.5] * 10, {"spot": [0.9] * 10})).words
    assert (
        "a threshold chosen on these very pictures would miss 0 of 10 defects and raise a false alarm on 0 of 10"
        in said
    )
    assert "For comparison" not in page(forged(run, [0.5] * 10, {"spot": [1.9] * 10})).words


def test_warnings_stand_at_the_top_and_among_the_limits(run):
    said = page(forged(run, [2.0] * 10, {"spot": [0.5] * 10})).words
    assert said.count("below 0.5: normals score higher than defects") == 2
    assert said.count("10 of 10 good tests raise one") == 2
    assert said.index("below 0.5") < said.index("In long use")


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_of_the_report_stands_beside_its_interval_and_its_pictures(run):
    values = run.read("report.json")
    said = page(run).words
    for name in ("image_auroc", "image_ap", "pixel_auroc", "aupro"):
        assert f"{values[name]:.3f}" in said
    low, high = values["intervals"]["image_auroc"]
    assert f"{low:.3f} – {high:.3f}" in said
    assert "4 normal and 4 defect pictures" in said
    assert "4 normal pictures, 4 defects with masks" in said


def test_intervals_that_are_added_later_are_shown_too(run):
    values = run.read("report.json")
    values["intervals"] |= {"aupro": [0.1234, 0.5678], "cost_per_part": [0.2222, 0.3333]}
    run.write("report.json", values | {"cost_per_part": 0.2987})
    said = page(run).words
    assert "0.123 – 0.568" in said
    assert "cost per part" in said
    assert "0.299" in said
    assert "0.222 – 0.333" in said


def test_kinds_are_counted_one_by_one(run):
    said = page(forged(run, [0.5] * 4, {"crack": [2.0, 2.0, 0.5], "dent": [0.4, 0.5]})).words
    assert re.search(r"crack 3 2 66\.7 % \(9\.4–99\.2 %\)", said)
    assert re.search(r"dent 2 0 0 % \(0–84\.2 %\)", said)
    assert "Only these kinds of defect were tested: crack, dent." in said


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_sections_are_there_in_their_order_and_in_one_language(language, run):
    text = report.page(run, language)
    found = Page(text)
    assert [attributes["id"] for attributes in found.all("h2")] == [
        name for name in report.SECTIONS if name != "studies"
    ]
    for name in set(report.SECTIONS) - {"studies"}:
        assert Words(language).t(f"report.{name}") in found.words
    assert found.all("html")[0]["lang"] == language
    assert not re.search(r"\{\w+[:}]|report\.\w+", found.words), "a template was left unfilled"
    if language == "ja":
        english = [words for key, words in by_key("en").items() if key.startswith("report.") and len(words) > 12]
        assert not [words for words in english if words in found.words and words != "AUROC"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_file_is_whole_html_and_asks_nothing_of_anyone(language, run):
    found = page(run, language)
    assert found.wrong == []
    names = {name for name, _ in found.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base", "foreignobject"}
    for name, attributes in found.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), f"<{name} {key}>"
            if key in ("src", "href", "srcset", "xlink:href", "action", "data", "poster"):
                assert str(value).startswith("data:image/webp;base64,"), f"<{name} {key}={value!r}>"
            elif key != "xmlns":
                assert "://" not in str(value)
    for css in found.styles:
        assert "@import" not in css
        assert set(re.findall(r"url\((.)", css)) <= {"#"}
    policy = next(m for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_every_picture_and_chart_says_in_words_what_it_shows(run):
    found = page(run)
    assert found.all("img")
    assert all(image["alt"] for image in found.all("img"))
    drawings = found.all("svg")
    assert all(d.get("aria-hidden") == "true" or (d["role"] == "img" and d["aria-label"]) for d in drawings)
    assert sum(d.get("role") == "img" for d in drawings) == 5, "ROC, PR, boxes, histogram, colours"


def test_ids_are_unique_and_every_reference_finds_its_own(run):
    text = report.page(run)
    ids = [attributes["id"] for _, attributes in Page(text).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([\w-]+)\)", text)) <= set(ids)


def test_even_pictures_of_noise_stay_within_a_few_megabytes():
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    pictures = 3 * (report_cases.MISTAKES + report_cases.CATCHES)
    assert len(data_uri(Image.fromarray(noise))) * pictures < 8_000_000


def test_making_it_needs_no_torch(run):
    code = "import sys\nfrom adlib import report, store\n"
    code += (
        f"run = store.Run.open({str(run.folder)!r})\nreport.page(run, 'ja'), report.sheet(run), report.heatmaps(run)\n"
    )
    code += "heavy = {'torch', 'timm', 'plotly'} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_word_of_the_report_is_used():
    files = [*(ROOT / "adlib").glob("report*.py"), ROOT / "pages" / "parts" / "handing.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    built = ("about_", "alarmed", "caught", "decision_", "figure_", "means_", "missed", "passed", "verdict_", "word_")
    for key in json.loads((ROOT / "assets/words/en/report.json").read_text(encoding="utf-8")):
        assert re.search(rf"[\"'.]{key}\b", text) or key.startswith(built), key


# --- strangers' texts -------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'; DROP TABLE runs;--", "]]></style><b>", "&lt;b&gt;",
    "\u202egnp.exe", "a\u0000b\x1b[31m", "\ud800 lone", "=cmd|calc", "{0.__class__}", "正常品", "x" * 5000, "", " ", "${jndi}",
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_strangers_text_is_only_ever_text(language, run):
    plain = page(forged(run, [0.5] * 3, {"spot": [2.0] * 15}), language)
    forged(run, [0.5] * 3, {f"k{i}": [2.0] for i in range(15)})
    rows = run.read("scores.json")
    for i, row in enumerate(rows):
        row["name"] = HOSTILE[i % len(HOSTILE)]
        row["kind"] = HOSTILE[i % len(HOSTILE)]
    (run.folder / "scores.json").write_text(json.dumps(rows))  # as ASCII, so that halves of letters survive
    run.rename(HOSTILE[0])
    card = run.read("run.json") | {"dataset_title": HOSTILE[1], "device": HOSTILE[3], "versions": {"torch": HOSTILE[1]}}
    run.write("run.json", card)
    text = report.page(run, language)
    text.encode("utf-8")
    found = Page(text)
    assert found.wrong == []
    assert {name for name, _ in found.tags} <= {name for name, _ in plain.tags}, "an element came in with a name"
    keys = {key for _, attributes in plain.tags for key in attributes}
    assert {key for _, attributes in found.tags for key in attributes} <= keys, "an attribute came in with a name"
    assert "<script>alert(1)</script>" in found.words
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b\ud800-\udfff]", text)
    assert "x" * 200 not in text, "a name of 5000 letters is cut"


def test_names_that_read_alike_keep_their_own_rows(run):
    said = page(forged(run, [0.5], {"good": [2.0, 2.0], "a_b": [2.0], "a b": [2.0, 2.0, 2.0]})).words
    assert "good 1 0 " in said
    assert "good (2) 2 2 " in said
    assert "a b 1 1 " in said
    assert "a b (2) 3 3 " in said


# --- charts -----------------------------------------------------------------------------------------------------------


def points(path: str) -> np.ndarray:
    return np.array([[float(v) for v in pair.split()] for pair in re.split("[ML]", path) if pair.strip()])


def drawn(markup: str, cls: str) -> list[str]:
    return [str(a["d"]) for a in Page(markup).all("path") if a.get("class") == cls]


def test_the_roc_goes_through_the_corners_of_the_curve_and_the_point_in_use():
    labels, scores = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1]), np.array([1, 2, 3, 6, 2.5, 4, 5, 7, 8.0])
    fpr, tpr, _ = metrics.roc(labels, scores)
    chart = report_charts.roc(fpr, tpr, (0.25, 0.6), "x", "y", "alt")
    x, y = svg.Axis(0, 1, 44, report_charts.HALF - 14), svg.Axis(0, 1, 238, 24)
    at = points(drawn(chart, "curve")[0])
    found = np.stack([(at[:, 0] - x.start) / (x.end - x.start), (at[:, 1] - y.start) / (y.end - y.start)], axis=1)
    expected = [(0, 0), (0, 0.4), (0.25, 0.4), (0.25, 0.8), (0.5, 0.8), (0.5, 1), (1, 1)]
    np.testing.assert_allclose(found, expected, atol=0.003)
    diamond = points(drawn(chart, "point")[0].rstrip("Z"))
    np.testing.assert_allclose(diamond.mean(axis=0), (x(0.25), y(0.6)), atol=0.1)


def test_precision_recall_keeps_each_steps_precision():
    labels, scores = np.array([0, 1, 0, 1]), np.array([1, 2, 3, 4.0])
    recall, precision, _ = metrics.pr(labels, scores)
    at = points(drawn(report_charts.pr(recall, precision, None, 0.5, "x", "y", "alt"), "curve")[0])
    x, y = svg.Axis(0, 1, 44, report_charts.HALF - 14), svg.Axis(0, 1, 238, 24)
    expected = [(0, 1), (0.5, 1), (0.5, 0.5), (0.5, 2 / 3), (1, 2 / 3), (1, 0.5)]
    np.testing.assert_allclose(at, [(x(a), y(b)) for a, b in expected], atol=0.1)


def test_a_box_ends_at_the_quartiles_and_whiskers_at_the_farthest_picture_within_reach():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 30.0]
    over = svg.axis_over([values], 100, 600)
    chart = report_charts.boxes({"good": values}, ["good"], 6.0, over, "x", "t", "alt")
    numbers = [float(v) for v in re.findall(r"[MH](\d+\.?\d*)", drawn(chart, "box normal")[0])]
    low, high = np.quantile(values, (0.25, 0.75))
    np.testing.assert_allclose(numbers[:6], [over(v) for v in (1, low, high, 5, low, high)], atol=0.1)
    assert len(Page(chart).all("circle")) == 6


def test_the_histogram_holds_every_picture_once():
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 1, 500)
    over = svg.axis_over([values], 0, 640)
    chart = report_charts.histogram({"normal": values, "defect": [], "held": []}, 3.0, over, "x", "y", "t", "alt")
    (bars,) = drawn(chart, "bars normal")
    at = points(bars)
    highest = np.histogram(values, (np.geomspace if over.log else np.linspace)(over.low, over.high, 33))[0].max()
    bottom, top = 172, 36
    counts = (bottom - at[1:-1:2, 1]) / (bottom - top) * highest * 1.05
    assert round(counts.sum()) == 500


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [-5.0, 3.0], [0.01, 100.0], [1e6, 1e6 + 1], [-2e-9, 1e-9]])
def test_an_axis_holds_all_its_values_and_has_numbers(values):
    axis = svg.axis_over([values], 0, 100)
    assert all(0 <= axis(value) <= 100 for value in values)
    assert 2 <= len(axis.ticks()) <= 13


def test_of_many_kinds_some_are_drawn_and_the_rest_is_counted(run):
    found = page(forged(run, [0.5], {f"kind {i}": [2.0, 3.0] for i in range(99)}))
    assert sum(a.get("class") == "box defect" for a in found.all("path")) == 23
    assert "76 more kinds are in the table of scores." in found.words  # of the boxes
    assert "40 more kinds are in the table of scores." in found.words  # of the table


# --- what may be missing ----------------------------------------------------------------------------------------------


def with_embeddings(run: store.Run) -> store.Run:
    rng, held = np.random.default_rng(0), run.read("normals.json")
    rows = run.read("scores.json")
    store.write_array(run.folder / "embeddings.npy", rng.normal(size=(len(rows), 5)).astype(np.float32))
    store.write_array(run.folder / "normals.npy", rng.normal(size=(len(held), 5)).astype(np.float32))
    run.write("explored.json", [{key: row[key] for key in ("digest", "name", "kind")} for row in held])
    return run


def test_with_embeddings_there_is_a_map_and_a_nearest_normal(run):
    found = page(with_embeddings(run))
    label = next(str(d["aria-label"]) for d in found.all("svg") if "Map of" in str(d.get("aria-label")))
    assert "12 normal pictures of the fit and 8 test pictures" in label
    nearest = [image for image in found.all("img") if "Nearest normal" in str(image["alt"])]
    assert len(nearest) == len([i for i in found.all("img") if "Test picture" in str(i["alt"])])
    assert all("train/good/" in str(image["alt"]) for image in nearest)


def test_the_nearest_normal_is_the_one_with_the_nearest_embedding(run):
    with_embeddings(run)
    facts = report.facts_of(run, "en")
    tests, normals = np.load(run.folder / "embeddings.npy"), np.load(run.folder / "normals.npy")
    for i in range(len(tests)):
        expected = np.argmin(((normals - tests[i]) ** 2).sum(axis=1))
        assert facts.nearest(i) == run.read("explored.json")[expected]


def test_studies_are_shown_where_the_run_has_them(run):
    plain = [attributes["id"] for attributes in page(run).all("h2")]
    assert "studies" not in plain
    on = {"normals": 4, "good": 5, "defects": 6}
    curve = {
        "normals": [5, 10, 20], "auroc": [[0.7, 0.8], [0.8, 0.9], [0.9, 0.95]], "false_alarms": [[0.1, 0.2]] * 3, "repeats": 2,
        "measured_on": on, "sentence": ["Add {n} more", {"n": 7}], "promise": ["Promised", {}],
    }  # fmt: skip
    run.write("curve.json", curve)
    run.write("directions.json", {"measured_on": on, "sentence": ["The smallest {n}", {"n": 3}]})
    found = page(run)
    assert [attributes["id"] for attributes in found.all("h2")] == [*plain[:8], "studies", *plain[8:]]
    for said in ("Add 7 more", "Promised", "The smallest 3", "2 fits each, measured on 5 normal and 6 defect pictures"):
        assert said in found.words
    (alt,) = [str(d["aria-label"]) for d in found.all("svg") if "20 normal pictures: 0.925" in str(d.get("aria-label"))]
    assert alt.startswith("5 normal pictures: 0.750 on average, from 0.700 to 0.800.")
    run.write("curve.json", curve | {"auroc": None})
    assert "measured on 4 normal pictures that were set aside" in page(run).words
    run.write("curve.json", {"normals": []})
    with pytest.raises(DataError, match=r"curve\.json"):
        report.page(run)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_without_tests_says_what_cannot_be_said(language, run):
    for name in ("report.json", "scores.json", "scores.csv", "maps.npy"):
        (run.folder / name).unlink()
    found = page(run, language)
    assert found.wrong == []
    assert [attributes["id"] for attributes in found.all("h2")] == [
        name for name in report.SECTIONS if name != "studies"
    ]
    for key in ("decision_untested", "no_figures", "limit_untested", "pictures_none"):
        assert Words(language).t(f"report.{key}") in found.words
    rows = list(csv.DictReader(io.StringIO(report.sheet(run).decode("utf-8-sig"))))
    assert {row["used_as"] for row in rows} == {"calibration"}
    with pytest.raises(DataError, match="no heatmaps"):
        report.heatmaps(run)


def test_a_run_without_maps_says_so_and_shows_two_pictures_a_case(run):
    (run.folder / "maps.npy").unlink()
    run.write("calibration.json", run.read("calibration.json") | {"map_unit": None})
    found = page(run)
    assert "This method judges the whole picture and gives no heatmap." in found.words
    assert not [image for image in found.all("img") if "Heatmap" in str(image["alt"])]


def test_a_run_from_elsewhere_shows_what_was_computed(run, workspace):
    packed = exchange.pack(run)
    dataset = run.card["dataset"]
    store.Dataset.open(dataset).delete()
    there = exchange.unpack(io.BytesIO(packed))
    found = page(there)
    assert found.wrong == []
    assert "The test pictures are not on this machine" in found.words
    assert [image for image in found.all("img") if "Heatmap" in str(image["alt"])]
    assert "Taken in from another machine" in found.words
    with zipfile.ZipFile(io.BytesIO(report.heatmaps(there))) as archive:
        assert len(archive.namelist()) == 9


@pytest.mark.parametrize("file", ["report.json", "scores.json", "run.json"])
def test_damaged_files_are_one_sentence(file, run):
    (run.folder / file).write_text("{")
    with pytest.raises(DataError, match=file):
        report.page(run)


def test_an_unfinished_run_and_a_foreign_language_are_refused(run, workspace):
    with pytest.raises(AdlibError, match="no words in 'fr'"):
        report.page(run, "fr")
    (run.folder / "run.json").unlink()
    with pytest.raises(NotFitted):
        report.page(run)


def test_a_heatmap_of_a_region_lies_where_the_region_does(run):
    run.write("run.json", run.read("run.json") | {"region": [[0.5, 0.0], [1.0, 1.0]]})
    ratio = report_pictures.ratio_map(report_facts.facts_of(run, "en"), 0, (48, 48))
    assert (ratio[:, :24] == 0).all()
    assert (ratio[:, 24:] > 0).any()
    said = page(run).words
    assert "50 % of each picture’s area" in said
    assert "Outside the region of interest nothing is looked at." in said


# --- beside it --------------------------------------------------------------------------------------------------------


def test_the_sheet_holds_every_score_and_no_formula(run):
    rows = run.read("scores.json")
    rows[0]["name"] = "=HYPERLINK(1)"
    run.write("scores.json", rows)
    table = list(csv.DictReader(io.StringIO(report.sheet(run).decode("utf-8-sig"))))
    assert [row["used_as"] for row in table] == ["test"] * 8 + ["calibration"] * 12
    assert table[0]["name"] == "'=HYPERLINK(1)"
    assert [float(row["score"]) for row in table[:8]] == pytest.approx([row["score"] for row in rows], rel=1e-5)
    line = run.read("calibration.json")["threshold"]["value"]
    assert [int(row["alarm"]) for row in table] == [int(float(row["score"]) > line) for row in table]


def test_the_zip_holds_a_heatmap_for_each_test_mistakes_first(run):
    scores = sorted(row["score"] for row in run.read("scores.json"))
    decisions.set_by_hand(run, scores[-2])  # all defects but one are missed
    with zipfile.ZipFile(io.BytesIO(report.heatmaps(run))) as archive:
        names = archive.namelist()
        assert names[0] == "scores.csv"
        assert len(names) == 9
        assert ["mistake-" in name for name in names[1:]] == [True] * 3 + [False] * 5
        assert all(re.fullmatch(r"\d{4}-[\w.-]+\.png", name) for name in names[1:])
        assert Image.open(io.BytesIO(archive.read(names[1]))).format == "PNG"


def test_the_command_writes_all_three(run, tmp_path, capsys):
    out, sheet, heat = tmp_path / "new" / "r.html", tmp_path / "s.csv", tmp_path / "h.zip"
    asked = ["report", run.id, "--out", str(out), "--lang", "ja", "--scores", str(sheet), "--heatmaps", str(heat)]
    assert main(asked) == 0
    assert Page(out.read_text(encoding="utf-8")).all("html")[0]["lang"] == "ja"
    assert sheet.read_bytes().startswith(b"\xef\xbb\xbfname,")
    assert zipfile.is_zipfile(heat)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [str(out), str(sheet), str(heat)]


def test_what_a_person_can_mend_is_one_sentence_and_exit_code_1(run, tmp_path, capsys):
    assert main(["report", "nobody", "--out", str(tmp_path / "r.html")]) == 1
    assert main(["report", run.id, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "no run 'nobody'" in error
    assert "cannot be written" in error
    assert "Traceback" not in error
    with pytest.raises(SystemExit, match="2"):
        main(["report", run.id, "--out", "x.html", "--lang", "fr"])
