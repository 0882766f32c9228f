"""The chi-square law, level by level and over 1 to 5 σ: right where features are Gaussian, refuted where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit_pages import open_page, part, png, texts, tiny_dataset, tiny_items
from sklearn.covariance import LedoitWolf

from adlib import decisions, gaussian_study, jobs, levels, lines, store, studies, worker, workflow
from adlib.contract import Backbone, DataError


@pytest.fixture
def fitted(workspace):
    """Runs of Gaussian-AD on tiny pictures: of all levels, or of those that are asked for."""

    def fit(*stages, **settings):
        items = tiny_items(normals=24)
        items += [(f"train/good/extra{i}.png", png(part(5000 + i))) for i in range(6)]
        dataset = tiny_dataset(items=items)
        request = workflow.Request(dataset.id, "gaussian", settings, Backbone(size=64, stages=stages))
        run = store.Run.create()
        run.write("request.json", {**request.as_json(), "key": workflow.identity(request)[0]})
        workflow.run_request(run)
        run.append({"status": "done"})
        return run

    return fit


def test_gaussian_normals_alarm_as_the_law_expects_and_heavy_tails_do_not():
    rng = np.random.default_rng(0)
    n, k = 600, 6
    fold = np.arange(n) % 5
    copies = torch.zeros(n, 1, k, dtype=torch.float64)
    honest = rng.normal(size=(n, k)) * (5, 4, 3, 2, 1.5, 1)
    tailed = rng.standard_t(2.5, size=(n, k))
    for values, holds in ((honest, True), (tailed, False)):
        row = gaussian_study.of_level(torch.from_numpy(values), copies, fold)[0]
        assert (row["augmented"], row["reduction"], row["dimension"]) == (False, "none", k)
        share = np.array(row["over"]) / n
        expected = np.array(gaussian_study.EXPECTED)
        apart = np.abs(share - expected) / np.sqrt(expected * (1 - expected) / n)
        assert (apart[:3] < 4).all() == holds
    assert share[3] > 20 * expected[3], "far out, tails decide"


def test_each_normal_is_judged_without_itself_and_without_its_copies():
    rng = np.random.default_rng(1)
    plain = torch.from_numpy(rng.normal(size=(20, 3)))
    fold = np.arange(20) % 5
    copies = plain[:, None] + 0.01 * torch.from_numpy(rng.normal(size=(20, 2, 3)))
    for with_copies in (False, True):
        away, k, rho = gaussian_study._judged(plain, copies, fold == 2, with_copies, "none", 0)
        rest = plain[fold != 2]
        rows = torch.cat([rest, copies[fold != 2].flatten(0, 1)]) if with_copies else rest
        twin = LedoitWolf().fit(rows.numpy())
        assert away == pytest.approx(np.sqrt(twin.mahalanobis(plain[fold == 2].numpy())), rel=1e-6)
        assert (k, rho) == (3, pytest.approx(twin.shrinkage_, abs=1e-9))


def test_pca_keeps_few_directions_and_npca_the_rest():
    rng = np.random.default_rng(2)
    plain = torch.from_numpy(rng.normal(size=(300, 6)) * (10, 5, 2, 1, 0.1, 0.01))
    rows = gaussian_study.of_level(plain, plain[:, None], np.arange(300) % 5)
    dimension = {(row["augmented"], row["reduction"]): row["dimension"] for row in rows}
    assert dimension == {(a, r): d for a in (False, True) for r, d in (("none", 6), ("pca", 3), ("npca", 5))}


def test_augmented_pictures_stay_pictures_and_come_again_with_their_seed():
    pixels = torch.rand(12, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    made = [gaussian_study.augmented(pixels, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*made)
    assert made[0].shape == pixels.shape
    assert 0 <= float(made[0].min()) <= float(made[0].max()) <= 1
    changed = sum(not torch.equal(a, b) for a, b in zip(made[0], pixels, strict=True))
    assert 2 <= changed <= 10, "about half"


# --- a run ------------------------------------------------------------------------------------------------------------


def test_one_level_has_a_chi_square_line_that_can_be_taken(fitted):
    run = fitted(2)
    seen = decisions.evidence(run)
    state = store.load_state(run.folder / "state.safetensors")
    assert seen.dimension == state["factor0"].shape[1]
    assert seen.shrinkage == float(state["shrinkage"][0])
    made = decisions.use_rule(run, "chi2")
    assert made.threshold.value == lines.chi_square(0.01, seen.dimension, seen.shrinkage, seen.fitted).value
    assert made.threshold.key == "chi2"
    (level,) = levels.by_level(run, 0.01)
    over = sum(score > level.line for score in made.scores)
    assert level.held_out == (over, 30), "one level's distance is the score, and scores of held-out normals are kept"
    assert (level.dimension, level.line) == (seen.dimension, made.threshold.value)


def test_a_sum_of_levels_and_another_distance_have_no_law_and_say_so(fitted):
    assert "adds the distances of" in str(levels.law(fitted()))
    run = fitted(2, distance="l2")
    assert "Only the Mahalanobis distance" in str(levels.law(run))
    assert levels.by_level(run, 0.01) == []


def test_each_levels_distances_are_those_of_the_method(fitted):
    """With every level's line at its own, the sum over levels is the run's score."""
    run = fitted()
    found = levels.by_level(run, 0.3)
    assert len(found) == len(run.card["backbone"]["stages"])
    rows = np.asarray(store.read_array(run.folder / "embeddings.npy"), dtype=float)
    state = store.load_state(run.folder / "state.safetensors")
    sums, start, good = 0.0, 0, np.array([row["label"] == 0 for row in run.read("scores.json")])
    for i, level in enumerate(found):
        mean, factor = state[f"mean{i}"].numpy(), state[f"factor{i}"].numpy()
        away = np.linalg.norm((rows[:, start : start + len(mean)] - mean) @ factor, axis=1)
        start += len(mean)
        sums = sums + away
        assert level.good == (int((away[good] > level.line).sum()), int(good.sum()))
        assert level.held_out == (0, 0), "cross-fitted: distances by level are not kept"
    assert sums == pytest.approx([row["score"] for row in run.read("scores.json")], rel=1e-4)


def test_the_study_is_a_job_kept_with_the_run_and_shown_on_the_page(fitted, monkeypatch):
    run = fitted(1, 2)
    monkeypatch.setattr(gaussian_study, "ROUNDS", 1)
    at = open_page("evaluate", run=run.id)
    at.session_state["levels"] = True
    at.run()
    at.button("study").click().run()
    job = f"{run.id}.chi_square"
    assert jobs.state(job).status == "queued"
    report = run.read("report.json")
    for entry in (store.workspace() / "queue").iterdir():
        entry.unlink()
    worker._run(job)
    assert jobs.state(job).status == "done"
    assert run.read("report.json") == report, "nothing else was done"
    made = studies.result(run, "chi_square")
    assert (made["n"], len(made["rows"])) == (30, 2 * 6)
    assert all(0 <= over <= 30 for row in made["rows"] for over in row["over"])
    at = open_page("evaluate", run=run.id)
    at.session_state["levels"] = True
    at.run()
    assert not at.exception
    assert "Run it again" in texts(at)
    assert any("5 σ" in frame.value.columns for frame in at.dataframe)


def test_the_study_says_how_many_normals_it_takes(fitted):
    run = fitted(2)
    dataset = store.Dataset.open(run.card["dataset"])
    dataset.meta["excluded"] = [row["digest"] for row in run.read("normals.json")[3:]]
    dataset.save()
    with pytest.raises(DataError, match="at least 10 normals; there are 3"):
        gaussian_study.study(run)
