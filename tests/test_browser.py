"""Journeys in a real browser: what a visitor can do from the first click on, alone and beside others, and what must not
happen to them.  One server for all; nothing waits for a fixed time."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
from kit_pages import finished_run, part, png, tiny_dataset, tiny_items
from PIL import Image

from adlib import curation, jobs, store
from browser import Visitor, served, word

FINISHED = word("fit.done").partition(".")[0]
PAGES = ("", "data", "fit", "evaluate", "heatmaps", "compare", "models")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The server's own workspace."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(place):
    with served(place) as address:
        yield address


@pytest.fixture
def visit(browser, server):
    """visit(**context) → a Visitor.  Afterwards: no page asked anything of anyone but the server, no script failed."""
    visitors = []

    def arrive(**context) -> Visitor:
        visitors.append(Visitor(browser, server, **context))
        return visitors[-1]

    yield arrive
    for visitor in visitors:
        visitor.close()
        assert visitor.outside == [], "a page asked for something outside the server"
        assert visitor.errors == []


@pytest.fixture
def here(place, monkeypatch):
    """This process looks into the server's workspace."""
    monkeypatch.setenv("ADLIB_WORKSPACE", str(place))
    return place


@pytest.fixture(scope="module")
def run(place, server) -> str:
    """Id of a small finished run with maps, tests and mistakes to look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADLIB_WORKSPACE", str(place))
        return finished_run(tiny_dataset("Plates for looking")).id


@pytest.fixture(scope="module")
def plates(place, server) -> str:
    """Id of a data set to fit on and to be stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADLIB_WORKSPACE", str(place))
        return tiny_dataset("Plates for long fits", tiny_items(normals=20, tests=2)).id


def zipped(items: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in items:
            archive.writestr(name, data)
    return out.getvalue()


def file(name: str, data: bytes, kind: str = "image/png") -> dict:
    return {"name": name, "mimeType": kind, "buffer": data}


def choose(visitor: Visitor, family: str, method: str) -> None:
    """Opens a family's cards on the Fit page and takes a method that needs no network."""
    visitor.page.locator(f".st-key-family-{family} summary").click()
    visitor.settle()  # a click between a script and its rerun is lost
    visitor.page.locator(f".st-key-choose-{method} button:visible").click()
    visitor.until(lambda: visitor.sees(word("fit.no_network")), "the method was not chosen")
    visitor.settle()


def fit_for_hours(visitor: Visitor) -> str:
    """Begins a fit that is never over before a test stops it, however slow the machine; the run's id."""
    choose(visitor, "reconstruction", "ganomaly")
    visitor.page.get_by_text(word("fit.details"), exact=True).click()
    for count, (name, value) in enumerate((("Epochs", "2000"), (word("fit.seed"), "7")), 1):
        box = visitor.page.get_by_role("spinbutton", name=name)
        box.fill(value)
        box.press("Enter")
        visitor.until(lambda n=count: visitor.sees(word("fit.details_changed", n=n)), f"{name} was not taken over")
        visitor.settle()
    return fit(visitor)


def fit(visitor: Visitor) -> str:
    """Presses Fit; the run's id, once the address names it."""
    before = visitor.param("run")
    visitor.page.locator(".st-key-primary-fit button").click()
    visitor.until(lambda: visitor.param("run") not in ("", before), "no run in the address")
    return visitor.param("run")


# --- journeys ---------------------------------------------------------------------------------------------------------


def test_one_button_leads_a_newcomer_to_finished_heatmaps(visit):
    visitor = visit()
    visitor.open()
    visitor.page.locator(".st-key-primary-see button").click()
    visitor.until(lambda: visitor.sees(word("start.found")), "no heatmaps after the one button", seconds=150)
    visitor.settle()
    visitor.page.get_by_text(word("start.to_heatmaps_now")).click()
    visitor.page.locator("canvas.heat:visible").first.wait_for()
    assert visitor.sees("× threshold")


def test_own_pictures_from_a_zip_to_a_downloaded_heatmap(visit):
    visitor = visit(accept_downloads=True)
    visitor.open("data")
    archive = zipped(tiny_items(normals=20, tests=4))
    visitor.page.locator("input[type=file]").first.set_input_files(file("plates.zip", archive, "application/zip"))
    visitor.until(lambda: visitor.sees(word("data.taken", n=32)), "the zip was not taken in")
    visitor.settle()
    visitor.page.locator(".st-key-primary-fit button").click()
    visitor.until(lambda: "/fit" in visitor.page.url, "no way on to Fit")
    visitor.settle()
    assert visitor.sees(word("fit.about_time")), "the cost is told before the start"
    fit(visitor)
    visitor.until(lambda: visitor.sees(FINISHED), "the fit did not finish", seconds=120)
    visitor.settle()
    visitor.page.get_by_test_id("stMain").get_by_role("link", name=word("fit.to_evaluate")).click()
    visitor.until(lambda: visitor.sees(word("evaluate.on_tests", normal=4, defect=4)), "no figures")
    visitor.page.get_by_test_id("stSidebar").get_by_role("link", name=word("shell.heatmaps")).click()
    visitor.page.get_by_text(word("heatmaps.drop"), exact=True).click()
    visitor.page.locator("input[type=file]").first.set_input_files(file("new part.png", png(part(9, defect=True))))
    visitor.until(lambda: visitor.sees(word("heatmaps.alarm")), "no verdict")
    visitor.settle()
    with visitor.page.expect_download() as waiting:
        visitor.page.get_by_role("button", name=word("heatmaps.png")).first.click()
    assert waiting.value.path().read_bytes().startswith(b"\x89PNG")
    with visitor.page.expect_download() as waiting:
        visitor.page.get_by_role("button", name=word("heatmaps.zip")).click()
    assert zipfile.ZipFile(waiting.value.path()).namelist() == ["scores.csv", "001-new_part.png"]


def test_two_visitors_fit_and_one_stops_his_own(visit, here, plates):
    first, second = visit(), visit()
    first.open("fit", dataset=plates)
    his = fit_for_hours(first)
    second.open("fit", dataset=plates)
    choose(second, "baseline", "pixel_median")
    hers = fit(second)
    assert hers != his
    first.page.locator(f".st-key-stop-{his} button").click()
    first.until(lambda: first.sees("Stopped at your request"), "the fit was not stopped", seconds=20)
    assert jobs.state(his).status == "stopped"
    second.until(lambda: store.Run.open(hers).finished, "the other visitor's fit did not finish")
    second.until(lambda: second.sees(FINISHED), "her page does not say so")


def test_a_reload_in_mid_fit_finds_the_fit_again(visit, plates):
    visitor = visit()
    visitor.open("fit", dataset=plates)
    id = fit_for_hours(visitor)
    visitor.page.locator(f".st-key-stop-{id} button").wait_for()
    visitor.page.reload()
    visitor.settle()
    assert visitor.param("run") == id
    assert visitor.sees("seed 7"), "what is being fitted comes from the run's record"
    colleague = visit()
    colleague.open("fit", run=id)
    colleague.page.locator(f".st-key-stop-{id} button").click()
    for each in (visitor, colleague):
        each.until(lambda each=each: each.sees("Stopped at your request"), "not stopped for both")


def bomb() -> bytes:
    """A PNG of a few bytes that claims to be 60,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(mode: str, kind: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(part(31)).convert(mode).save(out, kind, **options)
    return out.getvalue()


def deep_ratio() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(40_000_000))
    return out.getvalue()


def test_a_folder_of_hostile_files_leaves_the_app_standing(visit, here):
    turned = Image.Exif()
    turned[0x0112] = 6
    refused = {
        "text.png": b"no picture at all", "empty.png": b"", "bomb.png": bomb(), "half.jpg": encoded("RGB", "JPEG")[:400],
        "movie.png": encoded("RGB", "GIF"), "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "ratio.zip": deep_ratio(), "torn.zip": zipped([("a.png", png(part(1)))])[:80],
        "![x](http:evil.example).png": b"<img src=x onerror=alert(1)>", "program.exe": b"MZ",
    }  # fmt: skip
    taken = {
        "cmyk.jpg": encoded("CMYK", "JPEG"), "alpha.png": encoded("RGBA", "PNG"), "grey.bmp": encoded("L", "BMP"),
        "turned.jpg": encoded("RGB", "JPEG", exif=turned), "=cmd|calc.png": png(part(40)), "<b>bold</b>.png": png(part(41)),
        "up.zip": zipped([("../../../etc/up.png", png(part(42)))]), "正常品 01.png": png(part(43)),
    }  # fmt: skip
    visitor = visit()
    visitor.open("data")
    visitor.page.reload()
    visitor.settle()
    if visitor.param("dataset"):  # others have brought pictures already; these shall not be added to theirs
        visitor.page.get_by_text(word("data.bring"), exact=True).click()
        visitor.page.get_by_text(word("data.into_new")).click()
        visitor.settle()
    visitor.page.on("dialog", lambda dialog: visitor.errors.append(f"a stranger's script ran: {dialog.message}"))
    files = [file(name, data, "application/octet-stream") for name, data in {**refused, **taken}.items()]
    known = {dataset.id for dataset in store.Dataset.all()}
    visitor.page.locator("input[type=file]").first.set_input_files(files)
    visitor.until(lambda: visitor.sees(word("data.refused", n=len(refused))), "no list of refusals")
    visitor.settle()
    (made,) = (dataset for dataset in store.Dataset.all() if dataset.id not in known)
    said = " ".join(row["name"] + str(row["reason"]) for row in made.meta["refused"])
    for name in refused:
        assert name in said or (name == "ratio.zip" and "zeros.png" in said), f"{name} was not refused by name"
    assert len(made.meta["pictures"]) == len(taken)
    assert all(dataset.folder.is_relative_to(here) for dataset in store.Dataset.all())
    assert not (here.parent / "etc").exists()
    for name in ("", "data", "fit"):
        visitor.open(name, dataset=made.id)
        assert "Error" not in visitor.page.title()
        assert visitor.page.locator("[data-testid=stException]").count() == 0


def test_a_deletion_does_not_put_the_next_one_under_the_pointer(visit, here, run):
    """The page goes on with another run; a second click in the same place must not delete that one too."""
    gone = finished_run(tiny_dataset("Plates to be deleted", tiny_items(normals=11))).id
    visitor = visit()
    visitor.open("models", run=gone)
    visitor.press(word("models.delete"))
    sure = visitor.page.locator(".st-key-delete-run button:visible")
    sure.click()
    visitor.until(lambda: not store.Run.exists(gone), "the run was not deleted")
    visitor.until(lambda: visitor.sees(run), "the page does not go on with the other run")
    visitor.settle()
    assert sure.count() == 0
    assert store.Run.exists(run)


# --- what every page promises -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "width", "lang"), [("light", 1280, "en"), ("dark", 390, "ja"), ("dark", 1280, "en")]
)
def test_every_page_can_be_used_by_everyone(scheme, width, lang, visit, run):
    visitor = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = []
    for name in PAGES:
        visitor.open(name, run=run, lang=lang)
        if name == "heatmaps":
            visitor.page.locator("canvas.heat:visible").first.wait_for()
        found += [f"{name or 'start'}: {violation}" for violation in visitor.violations()]
        assert not visitor.too_wide(), f"{name or 'start'} scrolls sideways at {width} pixels"
    assert found == []


def test_every_tab_of_an_evaluation_can_be_used_by_everyone(visit, run):
    visitor = visit(viewport={"width": 390, "height": 900}, color_scheme="light")
    visitor.open("evaluate", run=run)
    chart = "[data-testid=stPlotlyChart]"
    for place, drawn in enumerate((chart, chart, chart, "canvas.points", "canvas.heat")):
        visitor.page.get_by_role("tab").nth(place).click()
        visitor.page.locator(f"{drawn}:visible").first.wait_for()
        visitor.settle()
        assert visitor.violations() == []
        assert not visitor.too_wide()


def test_an_experiment_is_one_click_and_its_figures_survive_a_reload_and_can_be_used_by_everyone(visit):
    visitor = visit(viewport={"width": 390, "height": 900}, color_scheme="dark")
    visitor.open("compare")
    visitor.page.get_by_role("radio", name=word("compare.class-holdout")).check(force=True)
    visitor.settle()
    visitor.page.get_by_role("button", name="Metric learning").click()  # the others take seconds
    visitor.settle()
    visitor.page.get_by_role("spinbutton", name=word("compare.cases")).fill("1")
    visitor.page.get_by_role("spinbutton", name=word("compare.cases")).press("Enter")
    visitor.settle()
    visitor.page.locator(".st-key-primary-trial button").click()
    visitor.until(lambda: visitor.param("experiment") != "", "no experiment in the address")
    visitor.page.reload()
    visitor.until(lambda: visitor.sees(word("compare.missed")), "no figures of the first part", seconds=120)
    visitor.until(lambda: not visitor.sees(word("views.stop")), "the experiment did not end", seconds=120)
    visitor.settle()
    visitor.page.locator("[data-testid=stPlotlyChart]:visible").first.wait_for()
    assert visitor.violations() == []
    assert not visitor.too_wide()


def test_empty_pages_can_be_used_by_everyone_too(browser, tmp_path):
    with served(tmp_path / "fresh") as address:
        visitor = Visitor(browser, address)
        for name in PAGES:
            visitor.open(name)
            assert visitor.violations() == [], name or "start"
        visitor.close()
        assert visitor.outside == visitor.errors == []


def pixels(visitor: Visitor) -> str:
    return visitor.page.locator("canvas.heat:visible").first.evaluate("canvas => canvas.toDataURL()")


def test_sliding_the_overlay_asks_nothing_of_the_server_and_outlives_a_rerun(visit, run):
    visitor = visit()
    visitor.open("heatmaps", run=run)
    visitor.page.locator("canvas.heat:visible").first.wait_for()
    visitor.settle()
    opacity = visitor.page.get_by_role("slider", name=word("overlay.opacity")).first
    sent, before = visitor.sent, pixels(visitor)
    for _ in range(4):
        opacity.press("ArrowRight")
    visitor.until(lambda: pixels(visitor) != before, "the picture does not follow the slider")
    assert visitor.sent == sent, "sliding is the browser's own business"
    visitor.page.get_by_role("radio", name=word("overlay.map")).first.check(force=True)
    assert visitor.sent == sent
    visitor.page.get_by_test_id("stMain").get_by_text("spot", exact=True).first.click()  # a rerun with other pictures
    visitor.until(lambda: visitor.sent > sent, "no rerun")
    visitor.settle()
    assert opacity.input_value() == "80"
    assert visitor.page.get_by_role("radio", name=word("overlay.map")).first.is_checked()


def test_the_overlay_reads_its_value_under_pointer_and_arrow_keys(visit, run):
    visitor = visit(has_touch=True)
    visitor.open("heatmaps", run=run)
    heat = visitor.page.locator("canvas.heat:visible").nth(1)
    heat.wait_for()
    bubble = visitor.page.locator(".bubble:visible")
    heat.hover(position={"x": 5, "y": 5})
    visitor.until(lambda: bubble.count() == 1 and "× threshold" in bubble.inner_text(), "no value under the pointer")
    heat.focus()
    first = bubble.inner_text()
    for _ in range(12):
        heat.press("Shift+ArrowRight")
    visitor.until(lambda: bubble.inner_text() != first, "arrow keys do not move the point")
    box = heat.bounding_box()
    visitor.page.touchscreen.tap(box["x"] + box["width"] * 0.37, box["y"] + box["height"] * 0.33)
    visitor.until(lambda: "≥ 2" in bubble.inner_text(), "the defect's middle is not clipped by touch")


def test_the_map_of_pictures_shows_them_and_opens_one(visit, run):
    visitor = visit()
    visitor.open("evaluate", run=run)
    visitor.page.get_by_role("tab", name=word("evaluate.tab_plane")).click()
    points = visitor.page.locator("canvas.points")
    points.wait_for()
    visitor.settle()
    sent = visitor.sent
    points.focus()
    tip = visitor.page.locator(".tip output")
    visitor.page.keyboard.press("ArrowRight")
    visitor.until(lambda: "/" in tip.inner_text(), "no picture under the keys")
    for _ in range(30):
        if "spot" in tip.inner_text():
            break
        visitor.page.keyboard.press("ArrowRight")
    assert "× threshold" in tip.inner_text()
    assert visitor.sent == sent, "walking from point to point is the browser's own business"
    visitor.page.keyboard.press("Enter")
    visitor.until(lambda: visitor.sees(word("evaluate.nearest")), "the picture did not open")


def test_a_threshold_moved_in_the_browser_redraws_only_its_part(visit, run):
    visitor = visit()
    visitor.open("evaluate", run=run)
    visitor.page.get_by_test_id("stPlotlyChart").first.wait_for()
    thumb = visitor.page.get_by_role("slider", name=word("evaluate.threshold_slider"))
    thumb.focus()
    thumb.press("End")
    visitor.until(lambda: visitor.sees("Set by hand"), "the counts did not follow the line")
    visitor.until(lambda: visitor.sees(word("evaluate.use_line")), "the line cannot be kept")


def test_a_region_is_drawn_by_hand_or_by_numbers_and_kept(visit, plates, here):
    """Drag, undo, then the same by keyboard alone; nobody who cannot see or point is shut out."""
    visitor = visit()
    visitor.open("data", dataset=plates)
    sheet = visitor.page.locator("svg.sheet")

    def opened() -> (
        bool
    ):  # pictures that are still coming in push the fold, and a click may meet what stood there before
        if not visitor.page.locator(".st-key-region details[open]").count():
            visitor.page.locator(".st-key-region summary").click()
            visitor.settle()
        return bool(sheet.count())

    visitor.until(opened, "the region cannot be drawn")
    sheet.scroll_into_view_if_needed()
    visitor.settle()
    box = sheet.bounding_box()
    assert box["height"] <= 700, "taller than a window cannot be dragged over"
    visitor.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    visitor.page.mouse.up()
    assert visitor.page.locator(".drawing .said").inner_text() == word("drawing.share", share=30)
    visitor.page.locator(".drawing .undo").press("Enter")
    visitor.page.locator(".drawing .add").press("Enter")
    visitor.page.get_by_label(word("drawing.across", k=1)).fill("10")
    visitor.page.get_by_label(word("drawing.across", k=1)).press("Tab")
    assert visitor.violations() == []
    visitor.page.locator(".drawing .save").press("Enter")
    visitor.until(lambda: curation.region(store.Dataset.open(plates)) != (), "the region was not kept")
    assert curation.region(store.Dataset.open(plates)) == ((0.1, 0.25), (0.75, 0.75))
    curation.set_region(store.Dataset.open(plates), ())
