"""Why: the nearest normal and patch against brute force, levels that add up, and what is said when pictures are gone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from adlib import features, registry, store, why, workflow
from adlib.contract import Backbone, DataError, Explains, Reconstructs
from adlib.frames import frame_of
from promises import Pictures, damaged, parts
from test_contract import QUICK
from worlds import dataset

SMALL = Backbone("offline", size=64)


def fitted(method: str, settings: dict | None = None, normals: int = 12) -> workflow.Fitted:
    made = dataset(normals=normals)
    backbone = SMALL if registry.uses_backbone(method) else None
    run = store.Run.create()
    run.write("request.json", {})
    workflow.fit(workflow.Request(made.id, method, settings or {}, backbone), made, run)
    return workflow.load(run)


def pictures_of(found: workflow.Fitted, kind: str):
    samples, _ = workflow.datasets.samples(store.Dataset.open(found.run.card["dataset"]))
    return [s for s in samples if s.split == "test" and s.kind == kind]


# --- what a method says itself ----------------------------------------------------------------------------------------


def test_patchcores_nearest_patch_is_that_of_all_patches_of_all_normals():
    normals, test = parts(5), damaged(parts(1, seed=8))
    detector = registry.build("patchcore", {"coreset": 1.0}, SMALL).fit(Pictures(normals, batch=2))
    place = detector.explain(test)[0].place
    look = features.extractor(features.resolve(SMALL, "middle"))

    def patches(pixels: torch.Tensor) -> np.ndarray:  # (N, h, w, D)
        return features.embed(look(pixels), pool=3).permute(0, 2, 3, 1).double().numpy()

    bank, here = patches(normals), patches(test)[0]
    h, w = bank.shape[1:3]
    best = (-1.0,)
    for y in range(h):
        for x in range(w):
            apart = np.linalg.norm(bank - here[y, x], axis=3)
            normal, row, column = np.unravel_index(apart.argmin(), apart.shape)
            best = max(
                best, (float(apart.min()), normal, (x + 0.5) / w, (y + 0.5) / h, (column + 0.5) / w, (row + 0.5) / h)
            )
    assert (place.normal, *place.here, *place.there) == best[1:]
    assert place.distance == pytest.approx(best[0], rel=1e-5)
    assert place.distance == pytest.approx(float(detector.score(test).scores[0]), rel=1e-6)


def test_a_coreset_keeps_the_origin_of_each_row_it_keeps():
    normals = parts(6)
    detector = registry.build("patchcore", {"coreset": 0.1, "max_patches": 300}, SMALL).fit(Pictures(normals, batch=4))
    state = detector.state()
    look = features.extractor(features.resolve(SMALL, "middle"))
    every = features.embed(look(normals), pool=3).permute(0, 2, 3, 1).flatten(1, 2)
    h, w = state["grid"].tolist()
    assert h * w == every.shape[1]
    assert len(state["origin"]) == len(state["bank"]) == 30
    for row, (normal, patch) in zip(state["bank"], state["origin"].tolist(), strict=True):
        assert torch.allclose(row, every[normal, patch], atol=1e-5)


def test_a_planted_copy_of_a_normal_is_its_own_nearest_at_distance_zero():
    normals = parts(7)
    knn = registry.build("knn", {}, SMALL).fit(Pictures(normals))
    core = registry.build("patchcore", {"coreset": 1.0}, SMALL).fit(Pictures(normals))
    for i in (0, 4, 6):
        told = knn.explain(normals[i : i + 1])[0].picture
        assert (told.normal, told.distance) == (i, 0.0)
        place = core.explain(normals[i : i + 1])[0].place
        assert (place.normal, place.distance, place.there) == (i, 0.0, place.here)


def test_gaussians_levels_sum_to_the_score():
    detector = registry.build("gaussian", {}, SMALL).fit(Pictures(parts(9)))
    tests = torch.cat([parts(2, seed=7), damaged(parts(2, seed=8))])
    told, scores = detector.explain(tests), detector.score(tests).scores
    assert all(len(one.levels) == len(detector.look_.channels) for one in told)
    assert [sum(one.levels) for one in told] == pytest.approx(scores.tolist(), rel=1e-6)


@pytest.mark.parametrize("method", ["patchcore", "knn"])
def test_a_state_from_before_origins_were_kept_still_loads_and_scores_the_same(method):
    tests = damaged(parts(2, seed=8))
    new = registry.build(method, {}, SMALL).fit(Pictures(parts(6)))
    old = registry.build(method, {}, SMALL).restore({"bank": new.state()["bank"]})
    assert np.array_equal(old.score(tests).scores, new.score(tests).scores)
    assert old.explain(tests)[0].place is None
    assert old.explain(tests)[0].picture is None
    assert old.state().keys() == {"bank"}


def test_an_origin_outside_its_grid_is_refused():
    detector = registry.build("knn", {}, SMALL).fit(Pictures(parts(3)))
    state = detector.state()
    for wrong in (state["origin"] - 5, state["origin"] + 1, state["origin"].float()):
        with pytest.raises(DataError):
            registry.build("knn", {}, SMALL).restore({**state, "origin": wrong})


# --- what a page is told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(registry.METHODS))
def test_every_method_names_a_normal_whose_picture_is_here(method):
    found = fitted(method, QUICK[method], normals=8)
    told = why.explain(found, pictures_of(found, "spot")[0].path)
    fitted_names = {row["name"] for row in found.run.read("normals.json") if row["fitted"]}
    assert told.picture is not None
    assert told.picture.name in fitted_names
    assert told.picture.path.exists()
    assert (told.place is not None) == registry.card(method).gives_map
    assert told.notes == ()
    if told.place is not None:
        assert told.place.exact == isinstance(found.detector, Explains)
        assert why.crop(found, told.place.path, told.place.there)[:2] == b"\xff\xd8"


def test_the_peak_is_where_the_defect_is_and_its_multiple_is_the_scores():
    found = fitted("patchcore", {"coreset": 1.0})
    sample = pictures_of(found, "spot")[0]
    place = why.explain(found, sample.path).place
    mask = np.asarray(Image.open(sample.mask)) > 0
    side = len(mask)
    rows, columns = np.nonzero(mask)
    assert columns.min() - 8 <= place.here[0] * side <= columns.max() + 8
    assert rows.min() - 8 <= place.here[1] * side <= rows.max() + 8
    assert place.times == pytest.approx(workflow.look(found, sample.path).ratio, rel=1e-5)


def test_a_fitted_normal_is_its_own_nearest_whatever_the_method():
    for method in ("padim", "pixel_median"):
        found = fitted(method)
        row = next(row for row in found.run.read("normals.json") if row["fitted"])
        path = why.paths_of(found.run.card["dataset"])[row["digest"]]
        told = why.explain(found, path)
        assert told.picture.digest == row["digest"]
        assert told.picture.distance == pytest.approx(0, abs=1e-4)


def test_when_the_data_set_is_gone_the_normal_is_named_and_its_picture_is_said_to_be_missing(tmp_path):
    found = fitted("patchcore")
    kept = tmp_path / "test.png"
    kept.write_bytes(pictures_of(found, "spot")[0].path.read_bytes())
    store.Dataset.open(found.run.card["dataset"]).delete()
    told = why.explain(found, kept)
    assert told.place.name
    assert told.place.path is None
    assert "not on this machine" in str(told.notes[0])


def test_levels_stand_beside_what_is_usual_for_held_out_normals(monkeypatch):
    from adlib import batches

    monkeypatch.setattr(batches, "CROSS_FIT_BELOW", 0)
    found = fitted("gaussian", normals=24)
    good, bad = (why.explain(found, pictures_of(found, kind)[0].path).levels for kind in ("good", "spot"))
    assert sum(level.share for level in bad) == pytest.approx(1)
    assert np.mean([level.distance / level.usual for level in good]) < 2
    assert np.mean([level.distance / level.usual for level in bad]) > 2


def test_a_run_that_comes_from_elsewhere_still_names_the_same_normal_and_patch():
    import io

    from adlib import exchange

    found = fitted("patchcore")
    path = pictures_of(found, "spot")[0].path
    here = why.explain(found, path).place
    other = workflow.load(exchange.unpack(io.BytesIO(exchange.pack(found.run))))
    there = why.explain(other, path).place
    assert (there.digest, there.here, there.there, there.exact) == (here.digest, here.here, here.there, True)


@dataclasses.dataclass
class Mirror:
    """A detector that rebuilds every picture as its mean colour."""

    seed: int = 0

    def score(self, pixels):
        from adlib.contract import Prediction

        return Prediction(np.ones(len(pixels), np.float32))

    def reconstruct(self, pixels):
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)


def test_a_method_that_rebuilds_pictures_is_shown_beside_its_input():
    found = fitted("pixel_median")
    told = why.explain(dataclasses.replace(found, detector=Mirror()), pictures_of(found, "good")[0].path)
    assert isinstance(Mirror(), Reconstructs)
    assert not isinstance(found.detector, Reconstructs)
    assert told.rebuilt.shape == (256, 256, 3)
    assert told.rebuilt.dtype == np.uint8
    pixels = np.asarray(Image.open(pictures_of(found, "good")[0].path))
    assert told.rebuilt[0, 0].tolist() == pytest.approx(pixels.mean((0, 1)).tolist(), abs=2)


@pytest.mark.parametrize("letterbox", [False, True])
def test_a_crop_shows_the_place_at_the_same_scale_and_stays_inside(letterbox):
    for at in ((0.5, 0.5), (0.02, 0.3), (0.97, 0.6)):
        left, top, right, bottom = (box := why.crop_box(frame_of(400, 200, 64, letterbox), at))[0]
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 200
        assert left <= box[1][0] <= right
        assert top <= box[1][1] <= bottom
    assert why.crop_box(frame_of(400, 200, 64, letterbox), (0.5, 0.5))[1] == (200, 100)


def test_with_a_region_a_place_of_the_square_lies_inside_it():
    frame = frame_of(
        400, 200, 64, region=((0.5, 0.5), (1.0, 1.0))
    )  # the lower right quarter, stretched over the square
    assert why.crop_box(frame, (0.0, 0.0))[1] == (200, 100)
    assert why.crop_box(frame, (0.5, 0.25))[1] == (300, 125)
    (left, top, right, bottom), _ = why.crop_box(frame, (0.5, 0.5))
    assert (right - left, bottom - top) == (0.3 * 200, 0.3 * 100)
