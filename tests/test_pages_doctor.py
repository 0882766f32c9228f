"""The Data page's doctor and region: a verdict on demand, one click to leave out, one to take back, and it stays so."""

from __future__ import annotations

import io

from kit_pages import finished_run, open_page, part, png, texts, tiny_dataset, tiny_items
from PIL import Image

from adlib import curation, datasets, doctor, intake, regions, store
from adlib.contract import say


def with_a_dark_one() -> store.Dataset:
    """Twelve plates and one that is nearly black."""
    return tiny_dataset(items=[*tiny_items(), ("train/good/dark.png", png(part(77) // 4))])


def opened(dataset: store.Dataset, *folds: str, lang: str = "", checked: bool = True):
    """The page with folds open; AppTest knows no folding, so their state is given."""
    at = open_page("data", dataset=dataset.id, lang=lang)
    for fold in folds:
        at.session_state[fold] = True
    at.run()
    if checked:
        at.button("doctor-check").click().run()
    assert not at.exception
    return at


def keys(at) -> list[str]:
    return [button.key or "" for button in at.button]


def taking_part(dataset: store.Dataset) -> int:
    return len(datasets.samples(store.Dataset.open(dataset.id))[0])


def test_a_sound_set_gets_one_calm_line_when_it_is_asked_for():
    dataset, words = tiny_dataset(), "Nothing suspicious in 20 pictures"
    at = opened(dataset, checked=False)
    assert words not in texts(at)
    at.button("doctor-check").click().run()
    assert words in texts(at)
    assert not [key for key in keys(at) if key.startswith("out-")]
    assert words in texts(opened(dataset, checked=False))  # a reload remembers
    assert "20 枚に疑わしい点はありません" in texts(opened(dataset, lang="ja", checked=False))


def test_leaving_out_and_undo_are_one_click_each_and_survive_a_reload():
    dataset = with_a_dark_one()
    before = taking_part(dataset)
    at = opened(dataset, "doctor-findings")
    assert "Findings: 1" in texts(at) or "Findings: 2" in texts(at)
    assert "much darker" in texts(at)
    key = next(key for key in keys(at) if key.startswith("out-dark-"))
    at.button(key).click().run()
    assert taking_part(dataset) == before - 1
    assert "Left out by you: 1" in texts(at)
    assert "much darker" not in "\n".join(m.value for m in at.markdown if "Good pictures" in m.value)
    again = opened(dataset, "doctor-findings", checked=False)  # another visitor
    assert "Left out by you: 1" in texts(again)
    assert again.metric[0].value == "12"
    again.button("doctor-undo").click().run()
    assert taking_part(dataset) == before
    assert "Left out by you" not in texts(again)
    assert "much darker" in texts(again)


def test_a_whole_finding_can_be_left_out_and_single_pictures_taken_back():
    dataset = tiny_dataset(items=[*tiny_items(), *((f"train/good/d{i}.png", png(part(70 + i) // 4)) for i in range(2))])
    at = opened(dataset, "doctor-findings", "doctor-out")
    at.button("out-all-dark").click().run()
    assert len(curation.excluded(store.Dataset.open(dataset.id))) == 2
    back = [key for key in keys(at) if key.startswith("back-")]
    at.button(back[0]).click().run()
    assert len(curation.excluded(store.Dataset.open(dataset.id))) == 1
    at.button("out-all-dark" if "out-all-dark" in keys(at) else next(k for k in keys(at) if "dark-" in k)).click().run()
    at.button("all-back").click().run()
    assert curation.excluded(store.Dataset.open(dataset.id)) == {}


def test_a_check_of_before_says_that_the_pictures_have_changed():
    dataset = tiny_dataset()
    opened(dataset)
    changed = "have changed since this check"
    curation.exclude(dataset, [datasets.samples(dataset)[0][0].digest], say("left out by hand"))
    assert changed not in texts(opened(dataset, checked=False))  # what it says of the others stands
    intake.take(store.Dataset.open(dataset.id), intake.from_uploads([("train/good/new.png", png(part(99)))]))
    assert changed in texts(opened(dataset, checked=False))


def test_the_unusual_normals_and_the_smallest_defect_are_shown():
    at = opened(with_a_dark_one(), "doctor-unusual", "doctor-smallest", "region")
    assert [key for key in keys(at) if key.startswith("out-unusual-")]
    at.number_input("smallest-size").set_value(64).run()
    at.number_input("smallest-keep").set_value(1.0).run()
    assert not at.exception
    assert "choose size 64" in texts(at)  # plates of 48 pixels are never made smaller


def test_the_smallest_defect_of_pictures_that_are_made_smaller_is_shown():
    items = [(f"train/good/{i}.png", png(part(i, side=600))) for i in range(3)]
    at = opened(tiny_dataset(items=items), "doctor-smallest", checked=False)  # 600 pixels are more than the usual 256
    assert at.number_input("smallest-keep").value > 2
    assert "choose size" in texts(at)


def test_a_name_that_is_markdown_is_written_letter_by_letter():
    dataset = tiny_dataset(items=[*tiny_items(), ("train/good/![x](http:evil).png", png(part(77) // 4))])
    at = opened(dataset, "doctor-findings", "doctor-unusual")
    assert not any("![x](" in m.value for m in at.markdown)


def test_a_region_is_told_where_it_counts_and_a_run_of_before_says_so():
    run = finished_run()
    dataset = store.Dataset.open(run.card["dataset"])
    assert "another region" not in texts(open_page("evaluate", run=run.id).run())
    curation.set_region(dataset, ((0.0, 0.0), (0.5, 0.5)))
    at = opened(dataset, "region", checked=False)
    assert any("25%" in box.label for box in at.expander)
    assert "Only the region of interest is judged: 25%" in texts(open_page("fit", dataset=dataset.id).run())
    assert "another region" in texts(open_page("evaluate", run=run.id).run())


def test_what_the_browser_sends_as_a_region_is_checked(monkeypatch):
    from pages.parts import examining

    dataset = tiny_dataset()
    kept: dict = {}
    monkeypatch.setattr(examining.st, "session_state", kept)
    monkeypatch.setattr(examining.st, "toast", lambda *_, **__: None)
    monkeypatch.setattr(examining, "bare", lambda *_, **__: "")

    class Sent:
        def __init__(self, saved: object) -> None:
            self.saved = saved

    kept["d"] = Sent([[0.1, 0.1], [0.6, 0.9]])
    examining._keep(dataset.id, "d")
    assert curation.region(dataset) == ((0.1, 0.1), (0.6, 0.9))
    for bad in ([["a", 1], [2, 3]], [[0.1, 0.1]], [[0, 0], [0.001, 1]], [[0, 0]] * 1000):
        kept["d"] = Sent(bad)
        examining._keep(dataset.id, "d")
        assert "region-refused" in kept
        kept.pop("region-refused")
    assert curation.region(dataset) == ((0.1, 0.1), (0.6, 0.9))
    kept["d"] = Sent([])
    examining._keep(dataset.id, "d")
    assert curation.region(dataset) == regions.WHOLE


def test_heatmaps_drawn_from_kept_maps_lie_in_the_region(workspace):
    """The Start page's pictures: the map of the cut square comes back to its place."""
    from adlib import workflow
    from pages.parts import found

    dataset = tiny_dataset()
    run = store.Run.create()
    region = ((0.0, 0.0), (0.6, 1.0))
    run.write("request.json", workflow.Request(dataset.id, "pixel_median", {}, None, region=region).as_json())
    workflow.run_request(run)
    assert "Only the region of interest is judged: 60%" in texts(open_page("evaluate", run=run.id).run())
    drawn = Image.open(io.BytesIO(found.typical(run, defects=1, goods=0)[0].image))
    assert drawn.size == (48, 48)
    assert doctor.last(dataset) is None
