"""A region of interest: outside it nothing counts, inside it nothing changes, and every step agrees where it lies."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from adlib import batches, curation, datasets, exchange, frames, images, jobs, regions, store, workflow
from adlib.__main__ import main
from adlib.contract import Backbone, DataError
from adlib.metrics import PixelCounts
from worlds import dataset, part, png, tree

LEFT = ((0.0, 0.0), (0.5, 1.0))
TRIANGLE = ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9))


def request(data: store.Dataset, **changes) -> workflow.Request:
    return workflow.Request(
        **{"dataset": data.id, "method": "pixel_median", "settings": {}, "backbone": None, **changes}
    )


def fitted(data: store.Dataset, **changes) -> workflow.Fitted:
    run = store.Run.create()
    run.write("request.json", request(data, **changes).as_json())
    workflow.run_request(run)
    return workflow.load(run)


def with_spot(x: float, y: float, side: int = 64) -> bytes:
    """A part with a black spot of a tenth of its side around (x, y), in fractions."""
    pixels = part(5, side=side)[0].copy()
    half = max(2, side // 20)
    row, column = round(y * side), round(x * side)
    pixels[max(0, row - half) : row + half, max(0, column - half) : column + half] = 0
    return png(pixels)


# --- the value --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corners", "wanted"),
    [
        ([], ()),
        ([(0.9, 0.8), (0.1, 0.2)], ((0.1, 0.2), (0.9, 0.8))),
        ([(0.1, 0.2), (0.9, 0.2), (0.9, 0.8), (0.1, 0.8)], ((0.1, 0.2), (0.9, 0.8))),
        ([(-1, -1), (2, 2)], ()),
        ([(0, 0), (1, 0), (0, 1)], ((0, 0), (1, 0), (0, 1))),
    ],
)
def test_a_region_is_clipped_put_upright_and_the_whole_picture_is_none(corners, wanted):
    assert regions.checked(corners) == wanted


@pytest.mark.parametrize(
    "corners",
    [[(0.5, 0.5)], [(0.1, 0.1), (0.1, 0.9)], [(0, 0), (float("nan"), 1)], [(0, 0), (0.5, 0.5), (1, 1)], [(0, "x"), 3]],
)
def test_what_is_no_region_is_refused_with_a_sentence(corners):
    with pytest.raises(DataError):
        regions.checked(corners)


def test_the_share_of_a_polygon_is_the_share_of_its_pixels():
    for region in (LEFT, TRIANGLE, ((0.2, 0.1), (0.8, 0.3), (0.9, 0.9), (0.4, 0.6), (0.1, 0.8))):
        assert regions.inside(region, 500, 400).mean() == pytest.approx(regions.share(region), abs=0.004)


def test_pixels_of_a_polygon_are_those_whose_centre_lies_in_it():
    found = regions.inside(TRIANGLE, 50, 40)
    y, x = np.mgrid[:40, :50] + 0.5
    x, y = x / 50, y / 40
    wanted = (x > 0.1) & (y > 0.1) & (x + y < 1.0)
    at_the_edge = np.minimum.reduce([abs(x - 0.1), abs(y - 0.1), abs(x + y - 1)]) < 0.02
    assert (found == wanted)[~at_the_edge].all()


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize("region", [LEFT, TRIANGLE, ((0.3, 0.25), (0.7, 0.9))])
def test_not_a_bit_that_the_network_sees_depends_on_what_lies_outside(region, letterbox):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
    other = pixels.copy()
    x0, y0, x1, y1 = regions.crop(region, 120, 90)
    outside = np.ones((90, 120), bool)
    outside[y0:y1, x0:x1] = False
    if len(region) > 2:
        outside |= ~regions.inside(region, 120, 90)
    other[outside] = 255 - other[outside]
    seen = [frames.to_pixels(images.read(png(p)), 64, letterbox, region)[0] for p in (pixels, other)]
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_cut_rectangle_equals_the_picture_cut_by_hand():
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    seen, frame = frames.to_pixels(images.read(png(pixels)), 64, region=((0.25, 0.1), (0.75, 0.8)))
    np.testing.assert_array_equal(seen, frames.to_pixels(images.read(png(pixels[9:72, 30:90])), 64)[0])
    assert frame.crop == (30, 9, 90, 72)


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize("region", [((0.2, 0.3), (0.9, 0.8)), ((0.2, 0.2), (0.95, 0.25), (0.9, 0.9), (0.25, 0.8))])
def test_a_spot_comes_back_to_its_place_in_the_original_and_outside_is_blank(region, letterbox):
    pixels = np.zeros((200, 320), np.uint8)
    pixels[100:120, 150:170] = 255
    square, frame = frames.to_pixels(images.read(png(pixels)), 128, letterbox, region)
    back = frame.to_original(square[0])
    assert back.shape == (200, 320)
    inside = regions.inside(region, 320, 200)
    assert not back[~inside].any()
    places = np.argwhere((back > 0.7) & inside)
    assert np.abs(places.min(0) - (100, 150)).max() <= 2
    assert np.abs(places.max(0) - (119, 169)).max() <= 2


def test_a_large_jpeg_read_small_is_cut_at_the_same_place():
    y, x = np.mgrid[:900, :1200]
    smooth = (np.stack([x / 1200, y / 900, (x + y) / 2100], axis=-1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95)
    region = ((0.11, 0.23), (0.52, 0.71))
    full = images.read(buffer.getvalue())
    small = images.read(buffer.getvalue(), least=frames.least_for(64, region))
    assert small.image.width < full.image.width
    left, right = (frames.to_pixels(one, 64, region=region)[0] for one in (full, small))
    assert np.abs(left - right).max() < 0.02


@pytest.mark.parametrize("letterbox", [False, True])
def test_a_mask_is_cut_like_its_picture(tmp_path, letterbox):
    mask = np.zeros((80, 100), np.uint8)
    mask[30:50, 40:60] = 255
    mask[:10, :10] = 255  # outside
    path = tmp_path / "m.png"
    path.write_bytes(png(mask))
    region = ((0.3, 0.3), (0.8, 0.9))
    seen = frames.read_mask(path, 64, letterbox, region)
    square = frames.to_pixels(images.read(png(mask)), 64, letterbox, region)[0][0] > 0.5
    assert (seen != square).mean() < 0.03
    assert seen.any()


def test_pixel_figures_leave_out_what_does_not_count():
    rng = np.random.default_rng(1)
    grid, mask = rng.random((40, 40)).astype(np.float32), rng.random((40, 40)) < 0.1
    counted = np.zeros((40, 40), bool)
    counted[:, :25] = True
    part_, cut = PixelCounts(), PixelCounts()
    part_.add(grid, mask, counted)
    cut.add(grid[:, :25], mask[:, :25])
    assert part_.normal_pixels + part_.defect_pixels == 40 * 25
    assert part_.auroc() == pytest.approx(cut.auroc(), abs=1e-3)
    assert part_.aupro() == pytest.approx(cut.aupro(), abs=1e-3)


# --- fit and score ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pixel_median", "padim", "knn"])
def test_a_defect_outside_raises_no_alarm_and_one_inside_does(method):
    backbone = None if method == "pixel_median" else Backbone(size=64)
    ready = fitted(dataset(normals=8), method=method, backbone=backbone, region=LEFT)
    clean, outside, inside = (
        workflow.look(ready, data) for data in (png(part(5)[0]), with_spot(0.8, 0.5), with_spot(0.25, 0.5))
    )
    assert outside.score == clean.score
    assert not clean.alarm
    assert inside.score > clean.score
    assert inside.alarm or method == "knn"  # a spot of a hundredth of the picture is little to a whole-picture method
    if outside.heat is not None:
        assert not outside.heat[:, 32:].any()
        assert not inside.heat[:, 32:].any()
        assert np.unravel_index(inside.heat.argmax(), inside.heat.shape)[1] < 32


@pytest.mark.parametrize("letterbox", [False, True])
def test_with_a_polygon_the_map_is_blank_outside_and_the_alarm_inside(letterbox):
    ready = fitted(dataset(normals=8), region=TRIANGLE, letterbox=letterbox)
    look = workflow.look(ready, with_spot(0.3, 0.3))
    assert look.alarm
    assert not look.heat[~regions.inside(TRIANGLE, 64, 64)].any()
    assert workflow.look(ready, with_spot(0.8, 0.8)).score == workflow.look(ready, png(part(5)[0])).score


def test_fit_and_score_see_the_same_pixels():
    data = dataset(normals=8)
    ready = fitted(data, region=TRIANGLE)
    sample = workflow.train_normals(datasets.samples(data)[0])[0]
    batch = next(iter(ready.batches([sample])))
    assert float(ready.detector.score(batch.pixels).scores[0]) == workflow.look(ready, sample.path).score


def test_a_blank_outside_never_holds_the_peak_of_a_map_below_zero():
    frame = frames.frame_of(64, 64, 16, region=TRIANGLE)
    made = batches.only_inside(
        batches.Prediction(np.zeros(1, np.float32), np.full((1, 16, 16), -3, np.float32)), [frame]
    )
    assert made.maps.max() == -3


def test_defects_outside_the_region_are_left_out_of_the_figures_and_named():
    """Of the world's defects, all lie between a quarter and two thirds of the picture."""
    data = dataset(normals=8, broken=6)
    report = fitted(data, region=((0.0, 0.0), (1.0, 0.3))).run.read("report.json")
    masks = [images.raw_mask(s.mask) for s in datasets.samples(data)[0] if s.mask]
    reached = sum(mask[: round(0.3 * 64) + 1].any() for mask in masks)
    assert 0 < report["n_defect"] <= reached < 6
    assert any("outside the region" in template for template, _ in report["skipped"])


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_region_is_kept_in_the_data_set_and_taken_by_the_next_fit():
    data = dataset(normals=6)
    whole = workflow.identity(request(data))
    curation.set_region(data, LEFT)
    assert curation.region(store.Dataset.open(data.id)) == LEFT
    assert workflow.identity(request(data))[0] != whole[0]
    assert workflow.identity(request(data, region=()))[0] == whole[0]
    assert fitted(data).region == LEFT
    curation.set_region(data, ())
    assert workflow.identity(request(data)) == whole


def test_a_queued_fit_keeps_the_region_it_was_asked_with():
    data = dataset(normals=6)
    curation.set_region(data, LEFT)
    run = store.Run.open(jobs.submit(request(data)))
    curation.set_region(data, TRIANGLE)
    workflow.run_request(run)
    assert regions.from_json(run.card["region"]) == LEFT
    assert jobs.submit(request(data)) != run.id


def test_a_run_keeps_its_region_when_the_data_set_gets_another_and_says_so():
    data = dataset(normals=6)
    ready = fitted(data, region=LEFT)
    picture = with_spot(0.25, 0.5)
    before = workflow.look(ready, picture)
    assert curation.since(ready.run, data)
    curation.set_region(data, LEFT)
    assert curation.since(ready.run, data) == []
    curation.set_region(data, TRIANGLE)
    assert curation.since(ready.run, data)
    after = workflow.look(workflow.load(ready.run), picture)
    assert after.score == before.score
    np.testing.assert_array_equal(after.heat, before.heat)


def test_a_run_of_an_earlier_version_judges_whole_pictures_and_has_its_old_key():
    data = dataset(normals=6)
    ready = fitted(data)
    card = {name: value for name, value in ready.run.card.items() if name != "region"}
    ready.run.write("run.json", card)
    assert workflow.load(ready.run).region == ()
    old = request(data)
    assert "region" not in {**old.as_json(), **card}.keys() - {"region"}
    assert old.key("x") == dataclasses.replace(old, region=()).key("x")


@pytest.mark.parametrize("region", [LEFT, TRIANGLE])
def test_a_run_takes_its_region_along_when_it_travels(region):
    ready = fitted(dataset(normals=6), region=region)
    arrived = workflow.load(exchange.unpack(io.BytesIO(exchange.pack(ready.run))))
    assert arrived.region == region
    picture = with_spot(0.25, 0.4)
    np.testing.assert_array_equal(workflow.look(arrived, picture).heat, workflow.look(ready, picture).heat)


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> dict:
    """What the record of a run says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADLIB_WORKSPACE", str(tmp_path_factory.mktemp("made")))
        return fitted(dataset(normals=4)).run.card


@pytest.mark.parametrize("region", ["x", [[0.1, 0.2]], [[0, 0], [1e400, 1]], {"a": 1}, [[0, 0]] * 500])
def test_a_region_that_is_none_is_refused_with_the_run_it_came_with(region, card):
    from adlib import vetting

    with pytest.raises(DataError):
        vetting.file("run.json", {**card, "region": region})


def test_the_command_line_takes_a_region(tmp_path, capsys):
    for name, data in tree(normals=10).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    fit = ["fit", "disc", "--normals", str(tmp_path / "train/good"), "--method", "pixel_median", "--region"]
    assert main([*fit, "0,0,0.5,1"]) == 0
    assert regions.from_json(store.Run.open("disc").card["region"]) == LEFT
    capsys.readouterr()
    assert main([*fit, "0,0,1"]) == 1
    assert "x0,y0,x1,y1" in capsys.readouterr().err
